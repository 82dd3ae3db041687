//go:build linux

package live

import (
	"bufio"
	"bytes"
	"encoding/json"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/probe"
	"github.com/closetrace/closetrace/internal/stuck"
)

// keepsTime: this kernel lets a tracing program keep something with a socket (5.11).
func keepsTime(t *testing.T) bool {
	t.Helper()
	symbols, err := os.ReadFile("/proc/kallsyms")
	must(t, err)
	return bytes.Contains(symbols, []byte(" bpf_sk_storage_get_tracing"))
}

// traced are iterators that also trace changes of state. Where the kernel cannot,
// they have to say so, and the test ends there.
func traced(t *testing.T) *probe.Iterators {
	t.Helper()
	var said bytes.Buffer
	it, err := probe.OpenIterators(true, slog.New(slog.NewTextHandler(&said, nil)))
	must(t, err)
	t.Cleanup(func() { it.Close() })
	if it.Traces() != keepsTime(t) || it.Traces() == strings.Contains(said.String(), "no change of state is traced") {
		t.Fatalf("traces: %v, though the kernel can: %v; said %q", it.Traces(), keepsTime(t), said.String())
	}
	if !it.Traces() {
		t.Skip("this kernel keeps no time with a socket: no bpf_sk_storage_get_tracing in /proc/kallsyms")
	}
	return it
}

// span is when something happened, at the earliest and at the latest.
type span struct{ from, to time.Time }

func during(do func()) (s span) {
	s.from = time.Now()
	do()
	s.to = time.Now()
	return s
}

// listed is what is said of an end of a connection, once it is in a state, and when
// that was asked.
func listed(t *testing.T, it *probe.Iterators, c conn, state events.State) (of stuck.Socket, asked span) {
	t.Helper()
	eventually(t, state.String(), func() (there bool) {
		asked = during(func() {
			all, err := it.Sockets()
			must(t, err)
			for _, s := range all {
				if s.Local == c.local && s.Remote == c.remote && s.State == state {
					of, there = s, true
				}
			}
		})
		return there
	})
	return of, asked
}

// inStateSince: what is said of an end's age fits to when it came into the state,
// now and later.
func inStateSince(t *testing.T, it *probe.Iterators, c conn, state events.State, came span) {
	t.Helper()
	for range 2 {
		of, asked := listed(t, it, c, state)
		least, most := asked.from.Sub(came.to), asked.to.Sub(came.from)
		if of.InState < least || of.InState > most {
			t.Errorf("%s for %s, which was from %s to %s: %+v", state, of.InState, least, most, of)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// The age is that which this test measures, where it was seen to begin; and there is
// none where it was not.
func TestStuckAge(t *testing.T) {
	privileged(t)
	t.Run("traced", stuckAges)
	t.Run("begun-before", stuckBegunBefore)
	t.Run("watch", stuckWatch)
	t.Run("since", stuckSince)
}

func stuckAges(t *testing.T) {
	inStuckNetns(t, func(t *testing.T, listener int, at netip.AddrPort) {
		it := traced(t)
		a, b := connect(t, listener, at)
		defer unix.Close(b.fd)
		closeWait := during(func() {
			must(t, unix.Shutdown(a.fd, unix.SHUT_WR))
			b.state(t, unix.BPF_TCP_CLOSE_WAIT)
			a.state(t, unix.BPF_TCP_FIN_WAIT2)
		})
		inStateSince(t, it, b, events.CloseWait, closeWait)
		inStateSince(t, it, a, events.FinWait2, closeWait)
		must(t, unix.Close(a.fd)) // what is left of it is as old
		if of, _ := listed(t, it, a, events.FinWait2); !of.Mini {
			t.Errorf("closed: %+v", of)
		}
		inStateSince(t, it, a, events.FinWait2, closeWait)

		// The wire is cut: the next FINs are not answered. Without a file, such a socket
		// may end with its first retransmission.
		c, d := connect(t, listener, at)
		defer unix.Close(c.fd)
		defer unix.Close(d.fd)
		must(t, setLoopback(0))
		lastAck := during(func() { must(t, unix.Shutdown(b.fd, unix.SHUT_WR)) })
		finWait := during(func() { must(t, unix.Shutdown(c.fd, unix.SHUT_WR)) })
		inStateSince(t, it, b, events.LastAck, lastAck)
		inStateSince(t, it, c, events.FinWait1, finWait)
	})
}

// What had begun when tracing began has no time.
func stuckBegunBefore(t *testing.T) {
	inStuckNetns(t, func(t *testing.T, listener int, at netip.AddrPort) {
		b := afterPeer(t, listener, at, 0)
		defer unix.Close(b.fd)
		it := traced(t)
		if of, _ := listed(t, it, b, events.CloseWait); of.InState != 0 {
			t.Errorf("it came into CLOSE_WAIT before, and %s ago is said", of.InState)
		}
		lastAck := during(func() {
			must(t, setLoopback(0))
			must(t, unix.Shutdown(b.fd, unix.SHUT_WR))
		})
		inStateSince(t, it, b, events.LastAck, lastAck)
	})
}

// The command says so: age_ms of what came while it watched, and not of the rest.
func stuckWatch(t *testing.T) {
	inStuckNetns(t, func(t *testing.T, listener int, at netip.AddrPort) {
		old := afterPeer(t, listener, at, 0)
		defer unix.Close(old.fd)
		path, err := program()
		must(t, err)
		cmd := exec.Command(path, "stuck", "--watch", "100ms", "-o", "json")
		var said bytes.Buffer
		cmd.Stderr = &said
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		defer cmd.Wait()
		defer cmd.Process.Signal(unix.SIGTERM)
		var young conn
		var began time.Time
		for lines := bufio.NewScanner(out); ; {
			if !lines.Scan() {
				t.Fatalf("it has ended: %v", lines.Err())
			}
			var l stuckLine
			must(t, json.Unmarshal(lines.Bytes(), &l))
			switch l.Local + l.Remote {
			case old.local.String() + old.remote.String():
				if l.AgeMS != nil || l.AgeAtLeastMS == nil {
					t.Fatalf("begun before it watched: %s", lines.Bytes())
				}
				if young.fd == 0 { // it is watching
					began = time.Now()
					young = afterPeer(t, listener, at, 0)
					defer unix.Close(young.fd)
				}
			case young.local.String() + young.remote.String():
				if !keepsTime(t) {
					cmd.Process.Signal(unix.SIGTERM)
					cmd.Wait() // until then it may say more
					if l.AgeMS != nil || !strings.Contains(said.String(), "no change of state is traced") {
						t.Errorf("%s; said %q", lines.Bytes(), said.String())
					}
					return
				}
				if l.AgeMS == nil || l.AgeAtLeastMS == nil || *l.AgeMS != *l.AgeAtLeastMS || *l.AgeMS > time.Since(began).Milliseconds() {
					t.Errorf("begun %s ago: %s", time.Since(began), lines.Bytes())
				}
				return
			}
		}
	})
}

// A record that is being written tells the age, and whoever is asked for the rest.
func stuckSince(t *testing.T) {
	inStuckNetns(t, func(t *testing.T, listener int, at netip.AddrPort) {
		before := afterPeer(t, listener, at, 0)
		defer unix.Close(before.fd)
		file := filepath.Join(t.TempDir(), "today.rec.zst")
		r := launch(t, "-w", file)
		var b conn
		came := during(func() { b = afterPeer(t, listener, at, 0) })
		defer unix.Close(b.fd)
		for _, source := range []string{"iterator", "sock_diag"} {
			var l stuckLine
			var asked span
			eventually(t, "an exact age by "+source, func() bool {
				asked = during(func() { l = lookAt(t, b, "--since", file, "--source", source) })
				return l.AgeMS != nil
			})
			// Milliseconds are cut.
			least, most := asked.from.Sub(came.to).Milliseconds()-1, asked.to.Sub(came.from).Milliseconds()
			if *l.AgeMS < least || *l.AgeMS > most || l.Source != source || l.State != "CLOSE_WAIT" {
				t.Errorf("%d ms, which was from %d to %d: %+v", *l.AgeMS, least, most, l)
			}
			if l := lookAt(t, before, "--since", file, "--source", source); l.AgeMS != nil || l.State != "CLOSE_WAIT" {
				t.Errorf("begun before the record: %+v", l)
			}
		}
		r.interrupt(t)
	})
}
