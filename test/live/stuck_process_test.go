//go:build linux

package live

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/enrich"
)

// A leaking server reads until EOF and never closes.
func stuckLeaked(t *testing.T) {
	inStuckNetns(t, func(t *testing.T, listener int, addr netip.AddrPort) {
		b := afterPeer(t, listener, addr, 5)
		defer unix.Close(b.fd)
		b.recv(t, 5)
		b.recvEOF(t)
		dup, err := unix.FcntlInt(uintptr(b.fd), unix.F_DUPFD_CLOEXEC, 0)
		must(t, err)
		l := waitStuck(t, b, "CLOSE_WAIT", "leaked")
		fds := []int{b.fd, dup}
		slices.Sort(fds)
		l.checkHolder(t, fds...)
		l.checkEOF(t, true)
		if l.AgeAtLeastMS == nil || l.Unread+l.Unsent+l.Unacked != 0 {
			t.Errorf("got %+v", l)
		}
		must(t, unix.Close(dup))
	})
}

func stuckNotReading(t *testing.T) {
	inStuckNetns(t, func(t *testing.T, listener int, addr netip.AddrPort) {
		b := afterPeer(t, listener, addr, 10)
		defer unix.Close(b.fd)
		l := waitStuck(t, b, "CLOSE_WAIT", "not-reading")
		l.checkHolder(t, b.fd)
		l.checkEOF(t, false)
		if l.Unread != 10 {
			t.Errorf("with 10 B unread: %+v", l)
		}

		// All but the EOF.
		a, c := connect(t, listener, addr)
		defer unix.Close(c.fd)
		a.send(t, 10)
		c.recv(t, 10) // before the FIN comes, which it would take along
		must(t, unix.Close(a.fd))
		l = waitStuck(t, c, "CLOSE_WAIT", "not-reading")
		l.checkEOF(t, false)
		if l.Unread != 0 {
			t.Errorf("with the EOF unread: %+v", l)
		}
	})
}

// A child that a server forked for another purpose has inherited a connection.
func stuckForkedChild(t *testing.T) {
	inStuckNetns(t, func(t *testing.T, listener int, addr netip.AddrPort) {
		b := afterPeer(t, listener, addr, 0)
		b.recvEOF(t)
		eventually(t, "silence before the fork", func() bool {
			info, err := unix.GetsockoptTCPInfo(b.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
			must(t, err)
			return info.Last_ack_recv > 200
		})
		f := os.NewFile(uintptr(b.fd), "connection")
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), childVariable+"=idle")
		cmd.ExtraFiles = []*os.File{f}
		stdin, err := cmd.StdinPipe()
		must(t, err)
		defer stdin.Close()
		must(t, cmd.Start())
		defer cmd.Wait()
		defer cmd.Process.Kill()

		l := waitStuck(t, b, "CLOSE_WAIT", "forked-child")
		if len(l.Holders) != 2 {
			t.Errorf("both hold it: %+v", l)
		}
		must(t, f.Close())
		l = waitStuck(t, b, "CLOSE_WAIT", "inherited")
		if len(l.Holders) != 1 || l.Holders[0].PID != cmd.Process.Pid || !slices.Equal(l.Holders[0].FDs, []int{3}) {
			t.Errorf("the child holds it: %+v", l)
		}
		started := fmt.Sprintf("inherited: exe[%d] was started by ", cmd.Process.Pid)
		does := fmt.Sprintf("[%d], which listens at :%d and does not hold it; ", os.Getpid(), addr.Port())
		if !strings.HasPrefix(l.Why, started) || !strings.Contains(l.Why, does) {
			t.Errorf("got %s", l.Why)
		}
		haltHolder(t, b, cmd.Process.Pid)

		// Without the listener it is unknown who should have closed it.
		must(t, unix.Shutdown(listener, unix.SHUT_RDWR))
		waitStuck(t, b, "CLOSE_WAIT", "forked-child")
	})
}

// haltHolder keeps the only holder of a socket from closing it, in several ways, and
// checks that each is named.
func haltHolder(t *testing.T, c conn, pid int) {
	t.Helper()
	check := func(want string) {
		t.Helper()
		eventually(t, want, func() bool {
			l := waitStuck(t, c, "CLOSE_WAIT", "inherited")
			return strings.HasSuffix(l.Why, fmt.Sprintf("; exe[%d] %s", pid, want))
		})
	}
	must(t, unix.Kill(pid, unix.SIGSTOP))
	check("is stopped by a signal (SIGSTOP, SIGTSTP)")
	must(t, unix.Kill(pid, unix.SIGCONT))

	var before unix.Rlimit
	must(t, unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 4, Max: 64}, &before))
	check("is out of descriptors (4 of 4 used)") // standard ones and the connection
	must(t, unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 64, Max: 64}, nil))

	mount, err := enrich.FindCgroups("/proc")
	if err != nil {
		t.Log("no cgroup v2: not frozen")
		return
	}
	folder := filepath.Join(mount.Dir, fmt.Sprintf("closetrace-test-%d", pid))
	must(t, os.Mkdir(folder, 0o755))
	set := func(file, value string) { must(t, os.WriteFile(filepath.Join(folder, file), []byte(value), 0)) }
	set("cgroup.procs", itoa(pid))
	set("cgroup.freeze", "1")
	check("is frozen by its cgroup")
	set("cgroup.freeze", "0")
	must(t, os.WriteFile(filepath.Join(mount.Dir, "cgroup.procs"), []byte(itoa(pid)), 0))
	must(t, os.Remove(folder))
}

// leakConnections is a leaking server: it accepts n connections and closes none.
// Each listener serves as many as there are ports.
func leakConnections(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	limit := unix.Rlimit{Cur: uint64(n + 100), Max: uint64(n + 100)}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	const most = 20000
	var d boundSocket
	for i := range n {
		if i%most == 0 {
			if d, err = newListener(loopback4); err != nil {
				return err
			}
		}
		ours, theirs, err := d.pair()
		if err != nil {
			return err
		}
		if err := unix.Close(ours); err != nil {
			return err
		}
		// Its end comes at once, or soon.
		if _, err := unix.Read(theirs, make([]byte, 1)); err != nil {
			return err
		}
	}
	ready()
	return nil
}

// closetrace lists every one of very many sockets.
func stuckMany(t *testing.T) {
	n := scaled(10000, 500)
	inNetns(t, func(uint32) {
		server := startChild(t, "leak", itoa(n))
		defer server.exit(t)
		path, err := program()
		must(t, err)
		for _, source := range []string{"iterator", "sock_diag"} {
			out, err := exec.Command(path, "stuck", "-o", "json", "--source", source).Output()
			must(t, err)
			leaked := 0
			for _, l := range stuckLines(t, out) {
				if l.Source == source && l.Diagnosis == "leaked" && len(l.Holders) == 1 && l.Holders[0].PID == server.Process.Pid {
					leaked++
				}
			}
			if leaked != n {
				t.Errorf("%s: %d of %d are listed with their holder", source, leaked, n)
			}
		}
	})
}
