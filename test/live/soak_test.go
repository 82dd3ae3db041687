//go:build linux

package live

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// maxMemory limits the resident memory of closetrace. Some 25 MB are the ring
// buffer, which counts twice, and the history of the classifier.
const maxMemory = 100 << 10 // KiB

// closeMany closes sockets on this many threads, and each call of mixedCloses this many.
const soakThreads, soakRound = 2, 8

// Closes of mixed kinds at full speed: what is reported and what is counted as
// lost add up to what happened, and memory stays flat.
func TestSoak(t *testing.T) {
	many := scaled(200_000, 4_000)
	inNetns(t, func(uint32) {
		out := outputFile(t)
		r := launchTo(t, out, "--netns", threadNetns(), "-o", "json")
		closes := closeMany(t, many/2)
		half := memory(t, r.Process.Pid, "VmRSS:")
		closes += closeMany(t, many/2)
		most := memory(t, r.Process.Pid, "VmHWM:")
		code, stderr := r.interrupt(t)
		reported := countLines(t, out, func(path, _ string) bool { return strings.HasPrefix(path, "close.") })
		t.Logf("%d closes, %d reported, %d lost, %d missed; %d KiB of memory at half time, at most %d",
			closes, reported, lost(stderr), missed(stderr), half, most)
		if code != 0 || reported > closes || reported+lost(stderr)+missed(stderr) < closes {
			t.Errorf("exit code %d, standard error:\n%s", code, stderr)
		}
		if most > maxMemory {
			t.Errorf("%d KiB of memory, want at most %d", most, maxMemory)
		}
	})
}

// In the quiet tier, the same closes are reported, or counted by path, or lost: every path by itself.
func TestSoakQuiet(t *testing.T) {
	many := scaled(200_000, 4_000)
	inNetns(t, func(uint32) {
		out := outputFile(t)
		r := launchTo(t, out, "--netns", threadNetns(), "-o", "json", "--tier", "quiet")
		closes := closeMany(t, many)
		code, stderr := r.interrupt(t)
		rounds := (closes - soakThreads) / soakRound
		happened := map[string]int{
			"close.fin.active": rounds, "close.fin.passive": rounds,
			"close.rst.linger0": rounds, "close.rst.unread": rounds, "close.silent.closed.reset": 2 * rounds,
			"close.silent.closed.never-connected": 2 * rounds, "close.listen": soakThreads, "recv.rst": 2 * rounds,
			"close.silent.closed": 0, "recv.fin": 0,
		}
		reported := map[string]int{}
		countLines(t, out, func(path, _ string) bool { reported[path]++; return true })
		left := lost(stderr) + missed(stderr)
		t.Logf("%d rounds, reported %v, %d lost\n%s", rounds, reported, left, stderr)
		counted := countedOnly(stderr)
		for path := range counted {
			if _, ok := happened[path]; !ok || reported[path] > 0 {
				t.Errorf("%s: %d counted, %d reported", path, counted[path], reported[path])
			}
		}
		for path, n := range happened {
			// Without the record of a RST, the close after it does not know what ended its socket.
			if got := counted[path] + reported[path]; got > n && left == 0 || got+left < n {
				t.Errorf("%s: %d counted, %d reported, %d lost in all; %d happened", path, counted[path], reported[path], left, n)
			}
		}
		if code != 0 || counted["close.fin.active"] == 0 || counted["close.fin.passive"] == 0 {
			t.Errorf("exit code %d, standard error:\n%s", code, stderr)
		}
	})
}

// countedOnly returns the endings, by path, that the summary says were only counted.
func countedOnly(stderr string) map[string]int {
	counted := map[string]int{}
	_, after, _ := strings.Cut(stderr, "(only counted: ")
	list, _, _ := strings.Cut(after, ")")
	for entry := range strings.SplitSeq(list, ", ") {
		number, path, _ := strings.Cut(entry, " ")
		counted[path], _ = strconv.Atoi(strings.ReplaceAll(number, ",", ""))
	}
	return counted
}

// closeMany closes n sockets or a few more, of each kind, on two threads, and
// returns how many.
func closeMany(t testing.TB, n int) int {
	t.Helper()
	const threads, round = soakThreads, soakRound
	turns := 1 + n/threads/round
	done := make(chan struct{})
	here, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(here)
	for range threads {
		go func() {
			defer func() { done <- struct{}{} }()
			runtime.LockOSThread() // never unlocked: it stays in the namespace
			if err := unix.Setns(here, unix.CLONE_NEWNET); err != nil {
				t.Error(err)
				return
			}
			d, err := newListener(loopback4)
			if err != nil {
				t.Error(err)
				return
			}
			for range turns {
				if err := mixedCloses(d); err != nil {
					t.Error(err)
					return
				}
			}
			unix.Close(d.fd)
		}()
	}
	for range threads {
		<-done
	}
	return threads * (turns*round + 1) // and the listener
}

// mixedCloses closes eight sockets: in order, by reset, with unread data, and
// without a connection.
func mixedCloses(d boundSocket) error {
	for kind := range 3 {
		fd, other, err := d.pair()
		if err != nil {
			return err
		}
		a, b := &end{fd: fd}, &end{fd: other}
		switch kind {
		case 1:
			a.linger(unix.Linger{Onoff: 1})
		case 2:
			b.send(9) // arrives at once on lo
		}
		a.close()
		b.close()
	}
	for range 2 {
		fd, err := tcpSocket(loopback4)
		if err != nil {
			return err
		}
		unix.Close(fd)
	}
	return nil
}

// memory returns a value of /proc/PID/status in KiB.
func memory(t testing.TB, pid int, line string) (n int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	_, after, _ := strings.Cut(string(status), line)
	if _, err := fmt.Sscan(after, &n); err != nil {
		t.Fatal(err)
	}
	return n
}
