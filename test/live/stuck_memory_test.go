//go:build linux

package live

import (
	"bytes"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/sockets"
)

// maxPerSocket is how many bytes closetrace stuck may take for each socket more, whatever it prints. On 6.18 it is some
// 200; keeping all findings took 1,200, and laying out one table 3,500.
const maxPerSocket = 800

func TestStuckMemory(t *testing.T) {
	if emulated() {
		t.Skip("an emulated CPU takes minutes for these sockets, and the memory is the same")
	}
	const (
		few, many = 5000, 20_000
		each      = 5000 // sockets of one process, which may have 10,000 descriptors
	)
	inNetns(t, func(uint32) {
		type form struct{ source, output string }
		before := map[form]int{}
		for made := each; made <= many; made += each {
			startChild(t, "halve", itoa(each/2))
			if made != few && made != many {
				continue
			}
			for _, source := range []string{sockets.Iterator, sockets.SockDiag} {
				for _, output := range []string{"table", "json", "wide"} {
					f := form{source, output}
					kilobytes := stuckMemory(t, source, output, made)
					if made == few {
						before[f] = kilobytes
						continue
					}
					per := (kilobytes - before[f]) * 1024 / (many - few)
					for try := 0; try < 2 && per > maxPerSocket; try++ { // garbage is collected late on a busy machine
						kilobytes = min(kilobytes, stuckMemory(t, source, output, made))
						per = (kilobytes - before[f]) * 1024 / (many - few)
					}
					t.Logf("%s, %s: %d KB for %d sockets, %d B more for each", source, output, kilobytes, made, per)
					if per > maxPerSocket {
						t.Errorf("%s, %s: %d bytes per socket, want at most %d", source, output, per, maxPerSocket)
					}
				}
			}
		}
	})
}

// stuckMemory returns the largest resident memory of closetrace stuck in KB, after it has listed n sockets.
func stuckMemory(t testing.TB, source, output string, n int) (kilobytes int) {
	t.Helper()
	path, err := program()
	must(t, err)
	cmd := exec.Command(path, "stuck", "--source", source, "-o", output, "--watch", "1h") // which keeps it alive
	var out lineCounter
	cmd.Stdout = &out
	must(t, cmd.Start()) // by this thread, in its namespace
	eventually(t, "a list", func() bool {
		lines := int(out.lines.Load())
		return lines >= n || output == "table" && lines > 2
	})
	kilobytes = memory(t, cmd.Process.Pid, "VmHWM:")
	must(t, cmd.Process.Signal(os.Interrupt))
	must(t, cmd.Wait())
	if lines := int(out.lines.Load()); output == "json" && lines != n {
		t.Errorf("%s: %d of %d sockets are listed", source, lines, n)
	}
	return kilobytes
}

// lineCounter counts lines.
type lineCounter struct{ lines atomic.Int64 }

// Write counts the ends of lines.
func (w *lineCounter) Write(p []byte) (int, error) {
	w.lines.Add(int64(bytes.Count(p, []byte("\n"))))
	return len(p), nil
}

// halfClose holds both ends of n connections, of which one was shut down for writing: a socket in FIN_WAIT2 and one in
// CLOSE_WAIT.
func halfClose(args []string) error {
	n, d, err := listenerFor(args)
	if err != nil {
		return err
	}
	for range n {
		ours, _, err := d.pair()
		if err != nil {
			return err
		}
		if err := unix.Shutdown(ours, unix.SHUT_WR); err != nil {
			return err
		}
	}
	ready()
	return nil
}
