//go:build linux

package live

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/events"
)

// victims is how many processes are reset at once. Each connects from an address
// of its own, which names it.
const victims = 4

// One server resets thousands of connections of several processes, which close
// them at once: each reset names its victim, by the call that follows it.
func TestBurstNamesVictims(t *testing.T) { attempts(t, burstNamesVictims) }

func burstNamesVictims(t testing.TB) {
	const ownerWindow = uint64(100 * time.Millisecond)
	n := scaled(10_000, 400)
	raiseFileLimit(t, n+200)
	inNetns(t, func(uint32) {
		d, err := newListener(netip.IPv4Unspecified())
		must(t, err)
		defer unix.Close(d.fd)
		processes, accepted := startVictims(t, d, n)
		out := outputFile(t)
		r := launchTo(t, out, "--netns", threadNetns(), "-o", "json", "--buffer-size", "16M")
		for _, fd := range accepted {
			e := &end{fd: fd}
			e.linger(unix.Linger{Onoff: 1})
			e.close()
		}
		for _, p := range processes {
			must(t, p.Wait()) // after the last reset
		}
		awaitQuiet(t, out) // what is not read a second after the interrupt is discarded
		_, stderr := r.interrupt(t)

		resets, closed := map[string]line{}, map[string]uint64{}
		for _, l := range fileLines(t, out) {
			switch events.Path(l.Path) {
			case events.RecvRST:
				resets[l.Local+l.Remote] = l
			case events.ClosedReset:
				closed[l.Local+l.Remote] = l.MonoNS
			}
		}
		named, late := 0, 0
		for key, l := range resets {
			local, err := netip.ParseAddrPort(l.Local)
			must(t, err)
			victim := processes[local.Addr()]
			switch {
			case l.Owner.PID != 0 && int(l.Owner.PID) != victim.Process.Pid:
				t.Errorf("%s is of process %d: owner %+v by %s", l.Local, victim.Process.Pid, l.Owner, l.OwnerBy)
			case l.OwnerBy == string(events.OwnerByCall), l.OwnerBy == string(events.OwnerByLaterCall):
				named++
			case closed[key] > l.MonoNS+ownerWindow:
				late++ // its process was not running
			}
		}
		t.Logf("%d resets, %d victims named by their calls, %d closed after more than 100 ms", len(resets), named, late)
		if len(resets)+missed(stderr) < n || lost(stderr) != 0 {
			t.Errorf("%d of %d resets reported; standard error:\n%s", len(resets), n, stderr)
		}
		if late > n/10 {
			didOtherwise(t)
			t.Errorf("%d of %d victims closed later than 100 ms", late, n)
		}
		// A call whose probe was missed, which is counted, names nobody.
		if unseen := missed(stderr); (named+unseen)*100 < (len(resets)-late)*99 {
			t.Errorf("%d of %d victims are named by their calls, %d probes missed", named, len(resets)-late, unseen)
		}
	})
}

// awaitQuiet waits until a file has not grown for half a second.
func awaitQuiet(t testing.TB, f *os.File) {
	t.Helper()
	size := int64(-1)
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(500 * time.Millisecond) {
		info, err := f.Stat()
		must(t, err)
		if info.Size() == size {
			return
		}
		size = info.Size()
	}
	t.Error("closetrace prints for a minute")
}

// startVictims starts processes that connect to a listener, n times in all, and
// accepts these connections. The result has the processes by their addresses.
// Neighbours in accepted belong to different processes.
func startVictims(t testing.TB, d boundSocket, n int) (processes map[netip.Addr]*child, accepted []int) {
	t.Helper()
	processes = map[netip.Addr]*child{}
	var each [victims][]int
	for i := range victims {
		addr := netip.AddrFrom4([4]byte{127, 0, 1, byte(i + 1)})
		to := netip.AddrPortFrom(loopback4, d.addr.Port())
		processes[addr] = beginChild(t, "reset", addr.String(), to.String(), itoa(n/victims))
		for range n / victims {
			fd, _, err := unix.Accept4(d.fd, unix.SOCK_CLOEXEC)
			must(t, err)
			each[i] = append(each[i], fd)
		}
		processes[addr].awaitReady(t, "reset")
	}
	for i := range n / victims {
		for j := range victims {
			accepted = append(accepted, each[j][i])
		}
	}
	return processes, accepted
}

// closeWhenReset connects from an address to a server, n times, and closes each
// connection as soon as it is readable.
func closeWhenReset(args []string) error {
	from, err := netip.ParseAddr(args[0])
	if err != nil {
		return err
	}
	to, err := netip.ParseAddrPort(args[1])
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	limit := unix.Rlimit{Cur: uint64(n + 100), Max: uint64(n + 100)}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	for range n {
		fd, err := tcpSocket(from)
		if err != nil {
			return err
		}
		// connect(2) finds a free port faster than bind(2).
		if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
			return err
		}
		if err := unix.Bind(fd, sockaddr(netip.AddrPortFrom(from, 0))); err != nil {
			return err
		}
		if err := unix.Connect(fd, sockaddr(to)); err != nil {
			return err
		}
		event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
		if err := unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	some := make([]unix.EpollEvent, 64)
	for n > 0 {
		got, err := unix.EpollWait(poll, some, -1)
		if err != nil && err != unix.EINTR {
			return err
		}
		for _, event := range some[:max(got, 0)] {
			// While another process looks at the descriptor in /proc, the socket stays readable.
			if unix.Close(int(event.Fd)) == nil {
				n--
			}
		}
	}
	return nil
}

// raiseFileLimit lets this process open n files.
func raiseFileLimit(t testing.TB, n int) {
	t.Helper()
	var limit unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	if limit.Cur < uint64(n) {
		must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(n), Max: max(uint64(n), limit.Max)}))
	}
}

// fileLines returns the endings in a file of -o json.
func fileLines(t testing.TB, f *os.File) (all []line) {
	t.Helper()
	text, err := os.ReadFile(f.Name())
	must(t, err)
	for text := range slices.Values(bytes.Split(text, []byte("\n"))) {
		var l line
		if json.Unmarshal(text, &l) == nil {
			all = append(all, l)
		}
	}
	return all
}
