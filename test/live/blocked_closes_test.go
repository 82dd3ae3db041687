//go:build linux

package live

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// Many closes block under SO_LINGER at once: each is reported or counted as
// missed. The kernel can follow a limited number of returns of a kprobe: as many
// as there are CPUs before 6.2, ten or two per CPU since.
func TestManyBlockedCloses(t *testing.T) {
	const closes = 200
	tr := traceSelf(t)
	l, addr := listen(t, loopback4)
	defer unix.Close(l)
	must(t, unix.SetsockoptInt(l, unix.SOL_SOCKET, unix.SO_RCVBUF, 4096)) // of those accepted
	var ours, theirs []conn
	for range closes {
		a, b := connect(t, l, addr)
		must(t, unix.SetsockoptInt(a.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 16<<10))
		a.linger(t, 60)
		(&end{fd: a.fd}).fill()
		ours, theirs = append(ours, a), append(theirs, b)
	}
	var closing, taking sync.WaitGroup
	for _, c := range ours {
		closing.Go(func() {
			if err := unix.Close(c.fd); err != nil {
				t.Error(err)
			}
		})
	}
	eventually(t, "closes block", func() bool { return sendersInFinWait1(t, addr.Port()) == closes })
	for _, c := range theirs {
		taking.Go(func() {
			for buf := make([]byte, 64<<10); ; {
				if n, err := unix.Read(c.fd, buf); n <= 0 || err != nil {
					return
				}
			}
		})
	}
	closing.Wait()
	taking.Wait()
	for _, c := range theirs {
		must(t, unix.Close(c.fd))
	}
	tr.mayMiss = true
	reported := 0
	for _, e := range tr.finish(t) {
		if strings.HasPrefix(string(e.Path), "close.linger-wait.") {
			reported++
		}
	}
	t.Logf("%d of %d reported, %d missed", reported, closes, tr.losses.MissedProbes)
	if reported+int(tr.losses.MissedProbes) < closes {
		t.Errorf("%d closes, %d reported, %d missed", closes, reported, tr.losses.MissedProbes)
	}
}

// sendersInFinWait1 counts the connections to a port of 127.0.0.1 in FIN_WAIT1.
func sendersInFinWait1(t testing.TB, port uint16) (n int) {
	t.Helper()
	f, err := os.Open("/proc/thread-self/net/tcp")
	must(t, err)
	defer f.Close()
	want := fmt.Sprintf(" 0100007F:%04X 04 ", port)
	for s := bufio.NewScanner(f); s.Scan(); {
		if strings.Contains(s.Text(), want) {
			n++
		}
	}
	return n
}
