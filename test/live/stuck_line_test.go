//go:build linux

package live

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

// stuckLine is one socket in the output of stuck -o json.
type stuckLine struct {
	Source               string
	Local, Remote, State string
	Time                 time.Time
	AgeAtLeastMS         *int64 `json:"age_at_least_ms"`
	AgeMS                *int64 `json:"age_ms"`
	EndsInMS             *int64 `json:"ends_in_ms"`
	Unread               int    `json:"unread_bytes"`
	Unsent               int    `json:"unsent_bytes"`
	Unacked              int    `json:"unacked_bytes"`
	EOFRead              *bool  `json:"eof_read"`
	Holders              []stuckHolder
	Listener             *struct {
		Address         string
		Queued, Backlog int
		Holders         []stuckHolder
	}
	Diagnosis string
	Why       string
}

type stuckHolder struct {
	PID, TID, UID int
	Comm          string
	FDs           []int
}

// waitStuck waits until closetrace stuck, in the namespace of the calling thread,
// lists one end of a connection with a state and a diagnosis, and until sock_diag
// and the iterators agree on it.
func waitStuck(t *testing.T, c conn, state, diagnosis string) (found stuckLine) {
	t.Helper()
	eventually(t, diagnosis+" of a socket in "+state, func() bool {
		found = runStuck(t, c, "--source", "sock_diag")
		return found.State == state && found.Diagnosis == diagnosis
	})
	checkSourcesAgree(t, c, found)
	return found
}

// runStuck runs closetrace stuck and returns its line of one end of a connection,
// or a zero line.
func runStuck(t *testing.T, c conn, args ...string) (found stuckLine) {
	t.Helper()
	path, err := program()
	must(t, err)
	out, err := exec.Command(path, append([]string{"stuck", "-o", "json"}, args...)...).Output()
	if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 3 { // some process hides its namespace
		must(t, err)
	}
	for _, l := range stuckLines(t, out) {
		if l.Local == c.local.String() && l.Remote == c.remote.String() {
			return l
		}
	}
	return found
}

// stuckLines decodes the output of stuck -o json.
func stuckLines(t *testing.T, out []byte) (all []stuckLine) {
	t.Helper()
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var l stuckLine
		must(t, d.Decode(&l))
		all = append(all, l)
	}
	return all
}

// checkHolder fails unless exactly these descriptors of this process hold the
// socket.
func (l *stuckLine) checkHolder(t *testing.T, fds ...int) {
	t.Helper()
	if len(l.Holders) != 1 || l.Holders[0].PID != os.Getpid() || !slices.Equal(l.Holders[0].FDs, fds) {
		t.Errorf("%s is held by %+v, want %v of this process", l.Diagnosis, l.Holders, fds)
	}
}

// checkEOF fails unless eof_read is as given.
func (l *stuckLine) checkEOF(t *testing.T, read bool) {
	t.Helper()
	if l.EOFRead == nil || *l.EOFRead != read {
		t.Errorf("%s: eof_read is %v, want %v", l.Diagnosis, l.EOFRead, read)
	}
}

// runStuckAt returns the line of the listener at an address, or a zero line.
func runStuckAt(t *testing.T, addr netip.AddrPort) stuckLine {
	t.Helper()
	path, err := program()
	must(t, err)
	out, err := exec.Command(path, "stuck", "-o", "json", "--source", "sock_diag").Output()
	must(t, err)
	for _, l := range stuckLines(t, out) {
		if l.Local == addr.String() && l.State == "LISTEN" {
			return l
		}
	}
	return stuckLine{}
}
