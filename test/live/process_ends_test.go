//go:build linux

package live

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/events"
)

// inheritedFD is the descriptor of the first file that a child inherits.
const inheritedFD = 3

// Two connections have the same addresses, one within a second of the other: each RST received names the process that
// sent it and the process that got it.
func TestSameAddresses(t *testing.T) { attempts(t, sameAddresses) }

func sameAddresses(t testing.TB) {
	inNetns(t, func(uint32) {
		d, err := newListener(loopback4)
		must(t, err)
		r := launch(t, "-o", "json", "--only", "recv.rst")
		lines := r.collect()
		const port = "46021"
		var killers, victims [2]*child
		for i := range 2 {
			killers[i] = startChildWith(t, []*os.File{fileOf(t, d.fd)}, "abort")
			victims[i] = startChild(t, "victim", port, d.addr.String())
		}
		must(t, unix.Close(d.fd))
		began := time.Now()
		for i := range 2 {
			must(t, killers[i].stdin.Close())
			victims[i].exit(t)
			must(t, killers[i].Wait())
		}
		t.Logf("both ended within %v", time.Since(began))
		r.interrupt(t)
		seen := <-lines
		if len(seen) != 2 {
			t.Fatalf("%d RSTs received: %+v", len(seen), seen)
		}
		for i, l := range seen {
			if l.Local != "127.0.0.1:"+port || l.Remote != d.addr.String() {
				t.Errorf("RST %d of %s to %s", i, l.Local, l.Remote)
			}
			if int(l.Peer.Actor.PID) != killers[i].Process.Pid || int(l.Owner.PID) != victims[i].Process.Pid {
				t.Errorf("process %d reset process %d: %+v", killers[i].Process.Pid, victims[i].Process.Pid, l)
			}
		}
	})
}

// fileOf returns another descriptor of a socket.
func fileOf(t testing.TB, fd int) *os.File {
	t.Helper()
	other, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	must(t, err)
	f := os.NewFile(uintptr(other), "socket")
	t.Cleanup(func() { f.Close() })
	return f
}

// abortAccepted accepts a connection of the listener that it inherited, reads a byte, and resets it.
func abortAccepted([]string) error {
	ready()
	fd, _, err := unix.Accept4(inheritedFD, unix.SOCK_CLOEXEC)
	if err != nil {
		return err
	}
	if _, err := unix.Read(fd, make([]byte, 1)); err != nil {
		return err
	}
	if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
		return err
	}
	return unix.Close(fd)
}

// isReset connects from a port to a server, sends a byte, and reads until it is reset.
func isReset(args []string) error {
	from, err := netip.ParseAddrPort("127.0.0.1:" + args[0])
	if err != nil {
		return err
	}
	to, err := netip.ParseAddrPort(args[1])
	if err != nil {
		return err
	}
	fd, err := tcpSocket(from.Addr())
	if err != nil {
		return err
	}
	ready()
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if err := unix.Bind(fd, sockaddr(from)); err != nil {
		return err
	}
	if err := unix.Connect(fd, sockaddr(to)); err != nil {
		return err
	}
	if _, err := unix.Write(fd, []byte{0}); err != nil {
		return err
	}
	if _, err := unix.Read(fd, make([]byte, 1)); err != unix.ECONNRESET {
		return fmt.Errorf("read: %v, not ECONNRESET", err)
	}
	return unix.Close(fd)
}

// A connection that ended before tracing began is closed: what ended it was not seen, and this side is not said to have
// sent a FIN. A disconnect leaves what shows it.
func TestEndedBefore(t *testing.T) { attempts(t, endedBefore) }

func endedBefore(t testing.TB) {
	inNetns(t, func(uint32) {
		reset, peer := newPair(t, loopback4)
		must(t, unix.Close(peer.fd))
		reset.state(t, uint8(events.CloseWait))
		reset.send(t, 9)
		reset.state(t, uint8(events.Close))
		if n, err := unix.GetsockoptInt(reset.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || n != int(unix.EPIPE) {
			t.Errorf("SO_ERROR %d, %v", n, err)
		}
		disconnected, other := newPair(t, loopback4)
		disconnected.disconnect(t)
		must(t, unix.Close(other.fd))

		r := launch(t, "-o", "json")
		lines := r.collect()
		must(t, unix.Close(reset.fd))
		must(t, unix.Close(disconnected.fd))
		r.interrupt(t)
		seen := <-lines
		if len(seen) != 2 {
			t.Fatalf("%d endings, not 2: %+v", len(seen), seen)
		}
		const words = "the peer's FIN had come; what ended the connection was not seen"
		if l := seen[0]; l.Path != string(events.CloseSilentClosed) || l.FIN || l.RST || l.Cause != words {
			t.Errorf("got %+v, want %q", l, words)
		}
		if l := seen[1]; l.Path != string(events.ClosedDisconnected) || l.Confidence != "observed" {
			t.Errorf("got %+v, want %s", l, events.ClosedDisconnected)
		}
	})
}

// A process executes another program: one descriptor is closed by that, as it is close-on-exec, another one stays open,
// and the new program closes it.
func TestExec(t *testing.T) { attempts(t, execute) }

func execute(t testing.TB) {
	inNetns(t, func(uint32) {
		cloexec, _ := newPair(t, loopback4)
		kept, _ := newPair(t, loopback4)
		program := filepath.Join(t.TempDir(), "later")
		copySelf(t, program)
		r := launch(t, "-o", "json", "--only", "close")
		lines := r.collect()
		c := startChildWith(t, []*os.File{fileOf(t, cloexec.fd), fileOf(t, kept.fd)}, "exec", program)
		before := readTrimmed(t, fmt.Sprintf("/proc/%d/comm", c.Process.Pid))
		must(t, unix.Close(cloexec.fd))
		must(t, unix.Close(kept.fd))
		for _, f := range c.ExtraFiles {
			must(t, f.Close())
		}
		c.exit(t)
		r.interrupt(t)
		seen := <-lines
		if len(seen) != 2 {
			t.Fatalf("%d endings, not 2: %+v", len(seen), seen)
		}
		for i, want := range []struct {
			of      conn
			trigger events.Trigger
		}{{cloexec, events.TriggerExecve}, {kept, events.TriggerClose}} {
			l := seen[i]
			if l.Path != string(events.CloseFINActive) || l.Local != want.of.local.String() ||
				l.Trigger != string(want.trigger) || int(l.Actor.PID) != c.Process.Pid {
				t.Errorf("of %v, by %s of process %d: %+v", want.of.local, want.trigger, c.Process.Pid, l)
			}
		}
		if l := seen[0]; l.Confidence != "observed" || l.Actor.Process != before || l.Actor.Comm != "later" ||
			!strings.HasPrefix(l.Cause, fmt.Sprintf("%s[%d] started later (close-on-exec); ", before, c.Process.Pid)) {
			t.Errorf("close-on-exec by %s: %+v", before, l)
		}
		if l := seen[1]; l.Actor.Comm != "later" {
			t.Errorf("closed by the program %q: %+v", l.Actor.Comm, l)
		}
	})
}

// executeProgram makes the first file close-on-exec, the second not, and executes a program that closes it.
func executeProgram(args []string) error {
	ready()
	unix.CloseOnExec(inheritedFD)
	return unix.Exec(args[0], args[:1], []string{childVariable + "=close"})
}

// closeInherited closes the second file.
func closeInherited([]string) error { return unix.Close(inheritedFD + 1) }

// The server of a request needs more memory than its cgroup has, and the kernel kills it.
func TestOOMKill(t *testing.T) {
	group := memoryGroup(t, 64<<20)
	// Where there is swap, the process would only become slow.
	if swap := filepath.Join(group, "memory.swap.max"); unix.Access(swap, unix.W_OK) == nil {
		must(t, os.WriteFile(swap, []byte("0"), 0))
	}
	onStage(t, func(t testing.TB, s *stage) {
		s.do(t, func() error {
			a, b := newPair(t, loopback4)
			a.send(t, requestSize)
			b.queued(t, requestSize)
			b.recv(t, requestSize)
			c := startChildWith(t, []*os.File{fileOf(t, b.fd)}, "eat")
			must(t, c.ExtraFiles[0].Close())
			must(t, unix.Close(b.fd))
			must(t, os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(itoa(c.Process.Pid)), 0))
			must(t, c.stdin.Close())
			if err := c.Wait(); err == nil || !strings.Contains(err.Error(), "signal: killed") {
				return fmt.Errorf("it was not killed: %v", err)
			}
			s.want(events.CloseFINActive, a.local.Port(), "",
				fmt.Sprintf("[%d] was killed by the OOM killer; 18 B had come and nothing was sent", c.Process.Pid))
			a.state(t, uint8(events.CloseWait))
			return unix.Close(a.fd)
		})
	})
}

// eat takes memory until the kernel kills it.
func eat([]string) error {
	ready()
	var all [][]byte
	for range 1 << 10 {
		block := make([]byte, 1<<20)
		for i := range block {
			block[i] = byte(i)
		}
		all = append(all, block)
	}
	return errors.New(itoa(len(all)) + " MB fit")
}

// Both ends of MPTCP connections close, with data unread and without: each FIN and RST of a subflow has its ending, or
// was counted as missed.
func TestMPTCPSubflows(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_MPTCP)
	if err != nil {
		t.Skipf("this kernel has no MPTCP: %v", err)
	}
	must(t, unix.Close(fd))
	onStage(t, func(t testing.TB, s *stage) {
		s.do(t, func() error {
			for i := range scaled(24, 8) {
				if err := s.closeMPTCP(t, i%2 == 0); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

func (s *stage) closeMPTCP(t testing.TB, unread bool) error {
	open := func() int {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_MPTCP)
		must(t, err)
		return fd
	}
	l, client := open(), open()
	must(t, unix.Bind(l, sockaddr(netip.AddrPortFrom(loopback4, 0))))
	must(t, unix.Listen(l, 1))
	to, err := localAddress(l)
	must(t, err)
	must(t, unix.Connect(client, sockaddr(to)))
	server, _, err := unix.Accept4(l, unix.SOCK_CLOEXEC)
	must(t, err)
	conn{fd: client}.send(t, 5)
	conn{fd: server}.queued(t, 5)
	if !unread {
		conn{fd: server}.recv(t, 5)
	}
	must(t, unix.Close(server))
	// The end of the data, or the reset, reaches the client.
	if _, err := unix.Poll([]unix.PollFd{{Fd: int32(client), Events: unix.POLLIN}}, 5000); err != nil {
		return err
	}
	_, _ = unix.Read(client, make([]byte, 1))
	must(t, unix.Close(client))
	return unix.Close(l)
}
