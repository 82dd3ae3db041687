//go:build linux

package live

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/events"
)

// Two closetraces do not disturb each other: both report every ending, and the
// same.
func TestTwoTracers(t *testing.T) { attempts(t, twoTracers) }

func twoTracers(t testing.TB) {
	const each = 20
	inNetns(t, func(uint32) {
		first, second := launch(t, "-o", "json"), launch(t, "-o", "json")
		results := []<-chan []line{first.collect(), second.collect()}
		resets(t, each)
		closeUnconnected(t, each)
		l, addr := listen(t, loopback4)
		for range each {
			a, b := connect(t, l, addr)
			must(t, unix.Close(a.fd))
			b.state(t, uint8(events.CloseWait))
			must(t, unix.Close(b.fd))
		}
		must(t, unix.Close(l))
		for i, r := range []*session{first, second} {
			code, stderr := r.interrupt(t)
			paths := map[string]int{}
			for _, l := range <-results[i] {
				paths[l.Path]++
			}
			for path, want := range map[string]int{
				"close.rst.linger0": each, "close.silent.closed.never-connected": each,
				"close.fin.active": each, "close.fin.passive": each, "close.listen": 2,
			} {
				if paths[path] != want {
					t.Errorf("%s: %d endings, want %d", path, paths[path], want)
				}
			}
			if code != 0 || lost(stderr) != 0 {
				t.Errorf("exit code %d, standard error:\n%s", code, stderr)
			}
		}
	})
}

// A namespace disappears before the trace ends: the endings in it were reported,
// and the audit gives the reason why it was skipped.
func TestNamespaceDisappears(t *testing.T) { attempts(t, namespaceDisappears) }

func namespaceDisappears(t testing.TB) {
	var r *session
	var lines <-chan []line
	inNetns(t, func(uint32) {
		a := startChild(t, "hold", "1") // its namespace has a path as long as it lives
		r = launchIn(t, fmt.Sprintf("/proc/%d/ns/net", a.Process.Pid), "-o", "json")
		lines = r.collect()
		resets(t, 5)
		a.exit(t)
	})
	code, stderr := r.interrupt(t)
	reported := 0
	for _, l := range <-lines {
		if l.Path == "close.rst.linger0" {
			reported++
		}
	}
	if code != 0 || reported != 5 ||
		!strings.Contains(stderr, "audit skipped: reading the counters: the network namespace is gone\n") {
		t.Errorf("exit code %d, %d resets reported, want 5, said:\n%s", code, reported, stderr)
	}
}
