//go:build linux

package live

import (
	"net/netip"
	"runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/lab"
	"github.com/closetrace/closetrace/internal/probe"
)

// The kernel gives the address of a closed socket to the next one. One thread of a server closes both, the second after
// a RST: that close is reported, too.
func TestNextSocketAtAddress(t *testing.T) { attempts(t, nextSocketAtAddress) }

func nextSocketAtAddress(t testing.TB) {
	const rounds = 60
	inNetns(t, func(netns uint32) {
		must(t, onFirstCPU()) // of this thread, which ends here
		d, err := newListener(loopback4)
		must(t, err)
		defer unix.Close(d.fd)
		tr := trace(t, probe.Filter{})
		client := beginChild(t, "alternate", d.addr.String(), itoa(2*rounds))
		for i := range 2 * rounds {
			fd, _, err := unix.Accept4(d.fd, unix.SOCK_CLOEXEC)
			must(t, err)
			if i%2 == 1 {
				_, _ = unix.Read(fd, make([]byte, 1)) // until the RST
			}
			must(t, unix.Close(fd))
		}
		must(t, client.Wait())
		tr.finish(t)
		resets, closed := 0, 0
		for _, e := range tr.endingsIn(netns) {
			switch {
			case e.Local.Port() != d.addr.Port():
			case e.Path == events.RecvRST:
				resets++
			case e.Path == events.ClosedReset:
				closed++
			}
		}
		if resets != rounds || closed != rounds {
			t.Errorf("%d resets and %d closes after them reported, want %d of each", resets, closed, rounds)
		}
	})
}

// The second one is killed by the thread that closed the first. The RST is none of that close.
func TestNextSocketKilled(t *testing.T) { attempts(t, nextSocketKilled) }

func nextSocketKilled(t testing.TB) {
	const rounds = 60
	inNetns(t, func(netns uint32) {
		must(t, onFirstCPU()) // of this thread, which ends here
		d, err := newListener(loopback4)
		must(t, err)
		defer unix.Close(d.fd)
		unused := netip.AddrPortFrom(loopback4, 1)
		if err := lab.Destroy(unused, unused); err != unix.ENOENT {
			t.Skipf("SOCK_DESTROY: %v", err)
		}
		tr := trace(t, probe.Filter{})
		client := beginChild(t, "wait", d.addr.String(), itoa(2*rounds))
		for i := range 2 * rounds {
			fd, sa, err := unix.Accept4(d.fd, unix.SOCK_CLOEXEC)
			must(t, err)
			if i%2 == 1 {
				peer := netip.AddrPortFrom(loopback4, uint16(sa.(*unix.SockaddrInet4).Port))
				must(t, lab.Destroy(d.addr, peer))
			}
			must(t, unix.Close(fd))
		}
		must(t, client.Wait())
		tr.finish(t)
		closed, killed := 0, 0
		for _, e := range tr.endingsIn(netns) {
			switch {
			case e.Local.Port() != d.addr.Port():
			case e.Path == events.CloseFINActive:
				closed++
			case e.Path == events.AbortDiag && e.RST:
				killed++
			}
		}
		if closed != rounds || killed != rounds {
			t.Errorf("%d closes with FIN alone and %d RSTs of SOCK_DESTROY, want %d of each", closed, killed, rounds)
		}
	})
}

// waitForEnd connects n times and waits for the FIN or the RST.
func waitForEnd(args []string) error {
	if err := onFirstCPU(); err != nil {
		return err
	}
	return eachConnection(args, func(_, fd int) error {
		_, _ = unix.Read(fd, make([]byte, 1))
		return nil
	})
}

// eachConnection connects to an address as often as the arguments say, does something with each connection and closes
// it. A connection may be reset before connect(2) returns.
func eachConnection(args []string, do func(i, fd int) error) error {
	to, err := netip.ParseAddrPort(args[0])
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	for i := range n {
		fd, err := tcpSocket(to.Addr())
		if err != nil {
			return err
		}
		if err := unix.Connect(fd, sockaddr(to)); err != nil && err != unix.ECONNRESET {
			return err
		}
		if err := do(i, fd); err != nil {
			return err
		}
		if err := unix.Close(fd); err != nil {
			return err
		}
		time.Sleep(time.Millisecond) // until the server accepts, or has closed its end
	}
	return nil
}

func onFirstCPU() error {
	var first, allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return err
	}
	cpu := 0
	for !allowed.IsSet(cpu) {
		cpu++
	}
	first.Set(cpu)
	return unix.SchedSetaffinity(0, &first)
}

// alternate connects n times, and in turn waits for the FIN and sends RST.
func alternate(args []string) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := onFirstCPU(); err != nil {
		return err
	}
	return eachConnection(args, func(i, fd int) error {
		if i%2 == 1 {
			return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		}
		_, err := unix.Read(fd, make([]byte, 1))
		return err
	})
}
