//go:build linux

package live

import (
	"bufio"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/probe"
)

// Two namespaces are connected by a veth pair, like two containers. One end
// closes with unread data, the other receives the reset. Each ending has its own
// process and names the other end.
func TestTwoContainers(t *testing.T) { attempts(t, twoContainers) }

func twoContainers(t testing.TB) {
	tr := trace(t, probe.Filter{})
	a, b := newContainer(t), newContainer(t)
	join(t, a, b)
	server := a.run(t, "server")
	address := server.line(t)
	client := b.run(t, "client", address)
	server.order(t, "close") // the client has sent by now, or the server waits for it
	client.line(t)           // it got the reset
	var returned uint64
	_, err := fmt.Sscan(server.line(t), &returned)
	must(t, err)

	closed, reset := -1, -1
	endings := tr.finish(t)
	for i, e := range endings {
		switch {
		case e.Path == events.CloseRSTUnread && e.Netns == a.inode:
			closed = i
		case e.Path == events.RecvRST && e.Netns == b.inode:
			reset = i
		}
	}
	if closed < 0 || reset < 0 {
		t.Fatalf("not both ends were seen: %+v", endings)
	}
	addr, got := endings[closed], endings[reset]
	if addr.Actor == nil || int(addr.Actor.PID) != server.cmd.Process.Pid || addr.Evidence.UnreadBytes != containerBytes {
		t.Errorf(
			"the close: actor %+v, want pid %d; %d B unread, want %d",
			addr.Actor,
			server.cmd.Process.Pid,
			addr.Evidence.UnreadBytes,
			containerBytes,
		)
	}
	if got.Actor != nil {
		t.Errorf("the reset is blamed on %+v", got.Actor)
	}
	const waits = uint64(80 * time.Millisecond) // closetrace, for the call of the other end
	if got.Peer == nil && returned > got.MonoNS+waits {
		t.Logf("the close went on for %v after the reset was received", time.Duration(returned-got.MonoNS))
	} else if got.Peer == nil || got.Peer.Path != events.CloseRSTUnread ||
		got.Peer.Actor == nil || got.Peer.Actor.PID != addr.Actor.PID {
		t.Errorf("the reset's other end: %+v", got.Peer)
	}
	if addr.Local != got.Remote || addr.Remote != got.Local || got.Trigger != events.TriggerSegment {
		t.Errorf("ends %v-%v and %v-%v, trigger %s", addr.Local, addr.Remote, got.Local, got.Remote, got.Trigger)
	}
}

const containerBytes = 148

// container is a thread that stays in a new network namespace and runs functions
// there.
type container struct {
	inode uint32
	fd    int // of the namespace
	work  chan func()
	ended chan struct{} // closed when nothing works here any more
}

func newContainer(t testing.TB) *container {
	t.Helper()
	c := &container{work: make(chan func()), ended: make(chan struct{})}
	ready := make(chan error)
	go func() {
		defer close(c.ended)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ready <- c.enter()
		for f := range c.work {
			f()
		}
	}()
	if err := <-ready; err != nil {
		t.Fatalf("new container: %v", err)
	}
	t.Cleanup(func() {
		close(c.work)
		unix.Close(c.fd)
	})
	return c
}

func (c *container) enter() (err error) {
	if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	if err = loopbackUp(); err != nil {
		return err
	}
	if c.fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	var st unix.Stat_t
	err = unix.Fstat(c.fd, &st)
	c.inode = uint32(st.Ino)
	return err
}

// do runs f in the namespace. FailNow in f ends the test, too.
func (c *container) do(t testing.TB, f func() error) {
	t.Helper()
	done := make(chan error, 1)
	err := errors.New("failed in a network namespace of its own")
	select {
	case c.work <- func() {
		defer func() { done <- err }()
		err = f()
	}:
		must(t, <-done)
	case <-c.ended:
		t.Fatal(err)
	}
}

// join connects two containers with a veth pair: 10.77.0.1 and 10.77.0.2.
func join(t testing.TB, a, b *container) {
	t.Helper()
	a.do(t, func() error {
		pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "eth0", PeerNamespace: netlink.NsFd(b.fd)}
		return netlink.LinkAdd(pair)
	})
	for i, c := range []*container{a, b} {
		c.do(t, func() error {
			link, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			addr, err := netlink.ParseAddr(fmt.Sprintf("10.77.0.%d/24", i+1))
			if err != nil {
				return err
			}
			if err := netlink.AddrAdd(link, addr); err != nil {
				return err
			}
			return netlink.LinkSetUp(link)
		})
	}
}

// process is this test binary in a container, in a role. It reads orders and
// prints results, one a line.
type process struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
	stdin interface{ Write([]byte) (int, error) }
}

const roleVariable = "CLOSETRACE_TEST_ROLE"

func (c *container) run(t testing.TB, role ...string) *process {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"="+strings.Join(role, " "))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	c.do(t, cmd.Start) // a child is born into the namespace of the thread
	t.Cleanup(func() {
		stdin.Close()
		cmd.Wait()
	})
	return &process{cmd, bufio.NewScanner(stdout), stdin}
}

func (p *process) line(t testing.TB) string {
	t.Helper()
	if !p.lines.Scan() {
		t.Fatalf("a process in a container ended early: %v", p.lines.Err())
	}
	return p.lines.Text()
}

func (p *process) order(t testing.TB, line string) {
	t.Helper()
	_, err := fmt.Fprintln(p.stdin, line)
	must(t, err)
}

// runRole plays the role that the environment asks for, if any.
func runRole() bool {
	role := strings.Fields(os.Getenv(roleVariable))
	if len(role) == 0 {
		return false
	}
	if err := play(role); err != nil {
		fmt.Fprintln(os.Stderr, role[0]+":", err)
		os.Exit(1)
	}
	return true
}

func play(role []string) error {
	orders := bufio.NewScanner(os.Stdin)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if role[0] == "client" {
		return playClient(fd, role[1], orders)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{10, 77, 0, 1}}); err != nil {
		return err
	}
	if err := unix.Listen(fd, 1); err != nil {
		return err
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return err
	}
	fmt.Printf("10.77.0.1:%d\n", sa.(*unix.SockaddrInet4).Port)
	conn, _, err := unix.Accept(fd)
	if err != nil {
		return err
	}
	orders.Scan()
	if _, _, err := unix.Recvfrom(conn, make([]byte, containerBytes), unix.MSG_PEEK|unix.MSG_WAITALL); err != nil {
		return err
	}
	err = unix.Close(conn)
	fmt.Println(monotonic())
	orders.Scan() // until the test is over
	return err
}

func playClient(fd int, server string, orders *bufio.Scanner) error {
	addr, err := netip.ParseAddrPort(server)
	if err != nil {
		return err
	}
	if err := unix.Connect(fd, sockaddr(addr)); err != nil {
		return err
	}
	if _, err := unix.Write(fd, make([]byte, containerBytes)); err != nil {
		return err
	}
	if _, err := unix.Read(fd, make([]byte, 1)); err != unix.ECONNRESET {
		return fmt.Errorf("read gave %v, want ECONNRESET", err)
	}
	fmt.Println("reset")
	orders.Scan()
	return nil
}
