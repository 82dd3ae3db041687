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
	"github.com/closetrace/closetrace/internal/sockets"
)

// hasTracingStorage reports whether a tracing program may store data with a
// socket on this kernel (5.11).
func hasTracingStorage(t *testing.T) bool {
	t.Helper()
	symbols, err := os.ReadFile("/proc/kallsyms")
	must(t, err)
	return bytes.Contains(symbols, []byte(" bpf_sk_storage_get_tracing"))
}

// tracingIterators returns iterators that also trace changes of state. Where the
// kernel has no such storage, they must log that, and the test ends.
func tracingIterators(t *testing.T) *probe.Iterators {
	t.Helper()
	var stderr bytes.Buffer
	it, err := probe.OpenIterators(true, slog.New(slog.NewTextHandler(&stderr, nil)))
	must(t, err)
	t.Cleanup(func() { it.Close() })
	hasStorage := hasTracingStorage(t)
	if it.Traces() != hasStorage || it.Traces() == strings.Contains(stderr.String(), "no change of state is traced") {
		t.Fatalf("traces: %v, tracing storage of the kernel: %v; standard error %q", it.Traces(), hasStorage, stderr.String())
	}
	if !it.Traces() {
		t.Skip("this kernel keeps no time with a socket: no bpf_sk_storage_get_tracing in /proc/kallsyms")
	}
	return it
}

// span is the earliest and the latest time at which something happened.
type span struct{ from, to time.Time }

func during(do func()) (s span) {
	s.from = time.Now()
	do()
	s.to = time.Now()
	return s
}

// waitListed waits until one end of a connection is listed in a state. It returns
// the socket and when the list was read.
func waitListed(t *testing.T, it *probe.Iterators, c conn, state events.State) (of sockets.Socket, asked span) {
	t.Helper()
	eventually(t, state.String(), func() (there bool) {
		asked = during(func() {
			all := &sockets.List{}
			err := it.AppendSockets(all)
			must(t, err)
			for _, s := range all.All() {
				if s.Local == c.local && s.Remote == c.remote && s.State == state {
					of, there = s, true
				}
			}
		})
		return there
	})
	return of, asked
}

// checkAge compares the age of a socket with when it entered its state, now and
// later.
func checkAge(t *testing.T, it *probe.Iterators, c conn, state events.State, came span) {
	t.Helper()
	for range 2 {
		of, asked := waitListed(t, it, c, state)
		least, most := asked.from.Sub(came.to), asked.to.Sub(came.from)
		if of.InState < least || of.InState > most {
			t.Errorf("%s for %s, which was from %s to %s: %+v", state, of.InState, least, most, of)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// The age of a socket is exact if the change of state was traced. Otherwise there
// is none.
func TestStuckAge(t *testing.T) {
	privileged(t)
	t.Run("traced", stuckAges)
	t.Run("begun-before", stuckBegunBefore)
	t.Run("watch", stuckWatch)
	t.Run("since", stuckSince)
}

func stuckAges(t *testing.T) {
	inStuckNetns(t, func(t *testing.T, listener int, addr netip.AddrPort) {
		it := tracingIterators(t)
		a, b := connect(t, listener, addr)
		defer unix.Close(b.fd)
		closeWait := during(func() {
			must(t, unix.Shutdown(a.fd, unix.SHUT_WR))
			b.state(t, unix.BPF_TCP_CLOSE_WAIT)
			a.state(t, unix.BPF_TCP_FIN_WAIT2)
		})
		checkAge(t, it, b, events.CloseWait, closeWait)
		checkAge(t, it, a, events.FinWait2, closeWait)
		must(t, unix.Close(a.fd)) // what is left of it is as old
		if of, _ := waitListed(t, it, a, events.FinWait2); !of.Mini {
			t.Errorf("closed: %+v", of)
		}
		checkAge(t, it, a, events.FinWait2, closeWait)

		// The wire is cut: the next FINs are not answered. Without a file, such a socket
		// may end with its first retransmission.
		c, d := connect(t, listener, addr)
		defer unix.Close(c.fd)
		defer unix.Close(d.fd)
		must(t, setLoopback(0))
		lastAck := during(func() { must(t, unix.Shutdown(b.fd, unix.SHUT_WR)) })
		finWait := during(func() { must(t, unix.Shutdown(c.fd, unix.SHUT_WR)) })
		checkAge(t, it, b, events.LastAck, lastAck)
		checkAge(t, it, c, events.FinWait1, finWait)
	})
}

// Sockets that entered their state before tracing began have no age.
func stuckBegunBefore(t *testing.T) {
	inStuckNetns(t, func(t *testing.T, listener int, addr netip.AddrPort) {
		b := afterPeer(t, listener, addr, 0)
		defer unix.Close(b.fd)
		it := tracingIterators(t)
		if of, _ := waitListed(t, it, b, events.CloseWait); of.InState != 0 {
			t.Errorf("CLOSE_WAIT began before tracing, reported age %s", of.InState)
		}
		lastAck := during(func() {
			must(t, setLoopback(0))
			must(t, unix.Shutdown(b.fd, unix.SHUT_WR))
		})
		checkAge(t, it, b, events.LastAck, lastAck)
	})
}

// stuck --watch has age_ms only for sockets that changed state while it ran.
func stuckWatch(t *testing.T) {
	inStuckNetns(t, func(t *testing.T, listener int, addr netip.AddrPort) {
		old := afterPeer(t, listener, addr, 0)
		defer unix.Close(old.fd)
		path, err := program()
		must(t, err)
		cmd := exec.Command(path, "stuck", "--watch", "100ms", "-o", "json")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
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
					young = afterPeer(t, listener, addr, 0)
					defer unix.Close(young.fd)
				}
			case young.local.String() + young.remote.String():
				if !hasTracingStorage(t) {
					cmd.Process.Signal(unix.SIGTERM)
					cmd.Wait() // until then it may print more
					if l.AgeMS != nil || !strings.Contains(stderr.String(), "no change of state is traced") {
						t.Errorf("%s; standard error %q", lines.Bytes(), stderr.String())
					}
					return
				}
				if l.AgeMS == nil || l.AgeAtLeastMS == nil || *l.AgeMS != *l.AgeAtLeastMS ||
					*l.AgeMS > time.Since(began).Milliseconds() {
					t.Errorf("begun %s ago: %s", time.Since(began), lines.Bytes())
				}
				return
			}
		}
	})
}

// A recording that is still being written has the age, whichever source lists the
// sockets.
func stuckSince(t *testing.T) {
	inStuckNetns(t, func(t *testing.T, listener int, addr netip.AddrPort) {
		before := afterPeer(t, listener, addr, 0)
		defer unix.Close(before.fd)
		file := filepath.Join(t.TempDir(), "today.rec.zst")
		r := launch(t, "-w", file)
		var b conn
		came := during(func() { b = afterPeer(t, listener, addr, 0) })
		defer unix.Close(b.fd)
		for _, source := range []string{"iterator", "sock_diag"} {
			var l stuckLine
			var asked span
			eventually(t, "an exact age by "+source, func() bool {
				asked = during(func() { l = runStuck(t, b, "--since", file, "--source", source) })
				return l.AgeMS != nil
			})
			// Milliseconds are cut.
			least, most := asked.from.Sub(came.to).Milliseconds()-1, asked.to.Sub(came.from).Milliseconds()
			if *l.AgeMS < least || *l.AgeMS > most || l.Source != source || l.State != "CLOSE_WAIT" {
				t.Errorf("%d ms, which was from %d to %d: %+v", *l.AgeMS, least, most, l)
			}
			if l := runStuck(t, before, "--since", file, "--source", source); l.AgeMS != nil || l.State != "CLOSE_WAIT" {
				t.Errorf("begun before the record: %+v", l)
			}
		}
		r.interrupt(t)
	})
}
