//go:build linux

package live

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/probe"
	"github.com/closetrace/closetrace/internal/stuck"
)

// iterators are loaded once.
var iterators = sync.OnceValues(func() (*probe.Iterators, error) { return probe.OpenIterators(false, slog.New(slog.DiscardHandler)) })

// allByIterators is what is found in the calling thread's namespace, if iterators
// are asked.
func allByIterators(t *testing.T) []stuckLine {
	t.Helper()
	it, err := iterators()
	must(t, err)
	all, err := it.Sockets()
	must(t, err)
	holders, err := it.Holders(stuck.Wanted(all))
	must(t, err)
	var out bytes.Buffer
	for _, f := range stuck.Find(all, holders) {
		must(t, json.NewEncoder(&out).Encode(f))
	}
	return stuckLines(t, out.Bytes())
}

// byIterators is what is found of one end of a connection.
func byIterators(t *testing.T, c conn) (found stuckLine) {
	t.Helper()
	for _, l := range allByIterators(t) {
		if l.Local == c.local.String() && l.Remote == c.remote.String() {
			return l
		}
	}
	return found
}

// sameBothWays: sock_diag with /proc, and the iterators, say the same of a socket,
// down to the bytes, the descriptors and the words.
func sameBothWays(t *testing.T, c conn, one stuckLine) {
	t.Helper()
	var other stuckLine
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); one = lookAt(t, c, "--source", "sock_diag") {
		other = byIterators(t, c)
		if one.State != "" && reflect.DeepEqual(comparable(one), comparable(other)) {
			return
		}
	}
	t.Errorf("sock_diag: %+v\niterators: %+v", one, other)
}

// comparable leaves out who was asked, and how long something took or takes, which
// is another at each look.
func comparable(l stuckLine) stuckLine {
	l.Source, l.Time = "", time.Time{}
	if l.AgeAtLeastMS != nil {
		l.AgeAtLeastMS = new(int64)
	}
	if l.EndsInMS != nil {
		l.EndsInMS, l.Why = new(int64), ""
	}
	return l
}

// A thread with a table of descriptors of its own is not in /proc/PID/fd.
func stuckInAThread(t *testing.T) {
	inNetns(t, func(uint32) {
		must(t, unix.Unshare(unix.CLONE_FILES))
		l, at := listen(t, loopback4)
		b := afterPeer(t, l, at, 1)
		path := fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
		looks := make(chan [2]stuckLine)
		go func() { // by another thread, whose descriptors everybody shares
			defer close(looks)
			looks <- [2]stuckLine{
				lookAt(t, b, "--netns", path, "--source", "sock_diag"), lookAt(t, b, "--netns", path, "--source", "iterator"),
			}
		}()
		seen := <-looks
		if d := seen[0]; d.Diagnosis != "not-reading" || len(d.Holders) != 0 {
			t.Errorf("sock_diag and /proc: %+v", d)
		}
		i := seen[1]
		if i.Diagnosis != "not-reading" || len(i.Holders) != 1 || i.Holders[0].PID != os.Getpid() || i.Holders[0].TID != unix.Gettid() ||
			!slices.Equal(i.Holders[0].FDs, []int{b.fd}) {
			t.Errorf("iterators: %+v, want descriptor %d of thread %d", i, b.fd, unix.Gettid())
		}
	})
}

// What tracing takes is all that iterators take, for holders of other users, too.
func stuckByNobody(t *testing.T) {
	inNetns(t, func(uint32) {
		l, at := listen(t, loopback4)
		defer unix.Close(l)
		b := afterPeer(t, l, at, 0)
		defer unix.Close(b.fd)
		cmd := exec.Command(forAll(t), "stuck", "--source", "iterator", "-o", "json")
		asNobody(required(t)...)(cmd)
		out, err := cmd.Output()
		must(t, err)
		for _, l := range stuckLines(t, out) {
			if l.Local == b.local.String() && l.Remote == b.remote.String() {
				l.heldBy(t, b.fd)
				return
			}
		}
		t.Errorf("not listed: %s", out)
	})
}

// The list of sockets is that of the namespace in which it is asked for.
func stuckElsewhere(t *testing.T) {
	inStuckNetns(t, func(t *testing.T, listener int, at netip.AddrPort) {
		b := afterPeer(t, listener, at, 0)
		defer unix.Close(b.fd)
		if l := byIterators(t, b); l.State != "CLOSE_WAIT" {
			t.Errorf("in its namespace: %+v", l)
		}
		inNetns(t, func(uint32) {
			if l := byIterators(t, b); l.State != "" {
				t.Errorf("seen from another namespace: %+v", l)
			}
		})
	})
}
