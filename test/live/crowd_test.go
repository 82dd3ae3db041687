//go:build linux

package live

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/events"
)

// Two at once do not disturb each other: both tell everything, and the same.
func TestTwoAtOnce(t *testing.T) { attempts(t, twoAtOnce) }

func twoAtOnce(t testing.TB) {
	const each = 20
	inNetns(t, func(uint32) {
		first, second := launch(t, "-o", "json"), launch(t, "-o", "json")
		told := []<-chan []line{first.collect(), second.collect()}
		resets(t, each)
		bare(t, each)
		l, at := listen(t, loopback4)
		for range each {
			a, b := connect(t, l, at)
			must(t, unix.Close(a.fd))
			b.state(t, uint8(events.CloseWait))
			must(t, unix.Close(b.fd))
		}
		must(t, unix.Close(l))
		for i, r := range []*session{first, second} {
			code, said := r.interrupt(t)
			paths := map[string]int{}
			for _, l := range <-told[i] {
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
			if code != 0 || lost(said) != 0 {
				t.Errorf("exit code %d, said:\n%s", code, said)
			}
		}
	})
}

// A namespace that is gone before the end: what happened in it was told, and
// the audit says why there is none.
func TestNamespaceDisappears(t *testing.T) { attempts(t, namespaceDisappears) }

func namespaceDisappears(t testing.TB) {
	var r *session
	var lines <-chan []line
	inNetns(t, func(uint32) {
		a := act(t, "hold", "1") // its namespace has a path as long as it lives
		r = launchIn(t, fmt.Sprintf("/proc/%d/ns/net", a.Process.Pid), "-o", "json")
		lines = r.collect()
		resets(t, 5)
		a.leave(t)
	})
	code, said := r.interrupt(t)
	told := 0
	for _, l := range <-lines {
		if l.Path == "close.rst.linger0" {
			told++
		}
	}
	if code != 0 || told != 5 || !strings.Contains(said, "audit: not possible: reading the counters: the network namespace is gone\n") {
		t.Errorf("exit code %d, %d resets told, want 5, said:\n%s", code, told, said)
	}
}
