//go:build linux

package live

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// maxMemory is what closetrace may hold in memory, whatever happens: some 25 MB
// are the ring buffer, which counts twice, and what the classifier remembers.
const maxMemory = 100 << 10 // KiB

// Closes of mixed kinds at full speed: what is reported, and what is counted as
// lost, is what happened, and memory stays flat.
func TestSoak(t *testing.T) {
	many := load(200_000, 4_000)
	inNetns(t, func(uint32) {
		out := outputFile(t)
		r := launchTo(t, out, "--netns", threadNetns(), "-o", "json")
		closes := hammer(t, many/2)
		half := memory(t, r.Process.Pid, "VmRSS:")
		closes += hammer(t, many/2)
		most := memory(t, r.Process.Pid, "VmHWM:")
		code, said := r.interrupt(t)
		reported := countLines(t, out, func(path, _ string) bool { return strings.HasPrefix(path, "close.") })
		t.Logf("%d closes, %d reported, %d lost, %d missed; %d KiB of memory at half time, at most %d",
			closes, reported, lost(said), missed(said), half, most)
		if code != 0 || reported > closes || reported+lost(said)+missed(said) < closes {
			t.Errorf("exit code %d, said:\n%s", code, said)
		}
		if most > maxMemory {
			t.Errorf("%d KiB of memory, want at most %d", most, maxMemory)
		}
	})
}

// hammer closes n sockets or a few more, one kind after the other, on two
// threads, and returns how many.
func hammer(t testing.TB, n int) int {
	t.Helper()
	const threads, round = 2, 8 // round: the closes of mixedCloses
	turns := 1 + n/threads/round
	home := make(chan struct{})
	here, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(here)
	for range threads {
		go func() {
			defer func() { home <- struct{}{} }()
			runtime.LockOSThread() // never unlocked: it stays in the namespace
			if err := unix.Setns(here, unix.CLONE_NEWNET); err != nil {
				t.Error(err)
				return
			}
			d, err := openDoor(loopback4)
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
		<-home
	}
	return threads * (turns*round + 1) // and the listener
}

// mixedCloses closes eight sockets: in order, by reset, with data unread, and
// without ever having connected.
func mixedCloses(d door) error {
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

// memory reads a line of /proc/PID/status, in KiB.
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
