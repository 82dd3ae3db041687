//go:build linux

package live

import (
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/events"
)

// A burst that the ring buffer is too small for: what was reported and what is
// counted as lost is exactly what happened.
func TestRingTooSmall(t *testing.T) { attempts(t, ringTooSmall) }

func ringTooSmall(t testing.TB) {
	const closes = 1000 // 64K hold 240 records
	inNetns(t, func(uint32) {
		r := launch(t, "-o", "json", "--buffer-size", "64K", "-p", itoa(os.Getpid()))
		lines := r.collect()
		r.stopped(t, func() { bare(t, closes) })
		code, said := r.interrupt(t)
		got := len(<-lines)
		if code != 0 || lost(said) < closes/2 || got+lost(said) != closes {
			t.Errorf("%d closes, %d reported, exit code %d, said:\n%s", closes, got, code, said)
		}
	})
}

// The audit shows RSTs that it cannot explain, and what may be the cause.
func TestAuditTellsOfLostRecords(t *testing.T) { attempts(t, auditTellsOfLostRecords) }

func auditTellsOfLostRecords(t testing.TB) {
	const connections = 300
	inNetns(t, func(uint32) {
		r := launch(t, "-o", "json", "--buffer-size", "64K")
		lines := r.collect()
		r.stopped(t, func() { resets(t, connections) })
		_, said := r.interrupt(t)
		explained := 0
		for _, l := range <-lines {
			if strings.HasPrefix(l.Path, "close.rst.linger0") {
				explained++
			}
		}
		_, audit, _ := strings.Cut(said, "audit: ")
		want := "RSTs sent " + itoa(connections) + ", explained " + itoa(explained) + ";"
		if explained == connections || !strings.HasPrefix(audit, want) ||
			!strings.Contains(audit, "the difference may be "+grouped(lost(said))+" lost records") {
			t.Errorf("%d explained, want %q in:\n%s", explained, want, said)
		}
	})
}

// grouped is a number below a million as the summary has it.
func grouped(n int) string {
	if n < 1000 {
		return itoa(n)
	}
	return itoa(n/1000) + "," + itoa(1000 + n%1000)[1:]
}

// Thousands of sockets that one exit closes: each is reported, as closed by the
// exit, or counted as missed. The buffer holds all of it, so that it does not
// matter when closetrace gets a processor.
func TestManySocketsInOneExit(t *testing.T) {
	sockets := load(10_000, 1_000)
	inNetns(t, func(uint32) {
		out := outputFile(t)
		r := launchTo(t, out, "--netns", threadNetns(), "-o", "json", "--buffer-size", "16M")
		a := act(t, "hold", itoa(sockets/2))
		a.leave(t)
		_, said := r.interrupt(t)
		want := sockets + 1 // the listener
		closes := countLines(t, out, func(path, _ string) bool { return strings.HasPrefix(path, "close.") })
		byExit := countLines(t, out, func(path, end string) bool {
			return strings.HasPrefix(path, "close.") && strings.Contains(end, `"trigger":"exit"`) &&
				strings.Contains(end, `"actor":{"pid":`+itoa(a.Process.Pid)+",")
		})
		if closes != byExit || byExit > want || byExit+missed(said) < want || lost(said) != 0 {
			t.Errorf("%d sockets, %d closes, %d by the exit; said:\n%s", want, closes, byExit, said)
		}
	})
}

// Stopped for seconds, and then continued, in a calm hour: nothing is missed,
// and the verdicts are the same.
func TestStoppedForSeconds(t *testing.T) { attempts(t, stoppedForSeconds) }

func stoppedForSeconds(t testing.TB) {
	const each = 10
	inNetns(t, func(uint32) {
		r := launch(t, "-o", "json")
		lines := r.collect()
		r.stopped(t, func() {
			resets(t, each)
			time.Sleep(2 * time.Second) // the point of the test
			l, at := listen(t, loopback4)
			for range each {
				a, b := connect(t, l, at)
				b.send(t, 9)
				a.queued(t, 9)
				must(t, unix.Close(a.fd))
				must(t, unix.Close(b.fd))
			}
			for range each {
				a, b := connect(t, l, at)
				must(t, unix.Close(a.fd))
				b.state(t, uint8(events.CloseWait))
				must(t, unix.Close(b.fd))
			}
		})
		code, said := r.interrupt(t)
		paths := map[string]int{}
		for _, l := range <-lines {
			paths[l.Path]++
		}
		for path, want := range map[string]int{
			"close.rst.linger0": each, "close.rst.unread": each, "recv.rst": 2 * each,
			"close.fin.active": each, "close.fin.passive": each, "close.silent.closed.reset": 2 * each,
		} {
			if paths[path] != want {
				t.Errorf("%s: %d endings, want %d", path, paths[path], want)
			}
		}
		if code != 0 || lost(said) != 0 {
			t.Errorf("exit code %d, said:\n%s", code, said)
		}
	})
}
