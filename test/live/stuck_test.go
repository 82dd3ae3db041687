//go:build linux

package live

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/lab"
)

// stuckLine is what stuck -o json says of a socket.
type stuckLine struct {
	Source               string
	Local, Remote, State string
	Time                 time.Time
	AgeAtLeastMS         *int64 `json:"age_at_least_ms"`
	AgeMS                *int64 `json:"age_ms"`
	EndsInMS             *int64 `json:"ends_in_ms"`
	Unread               int    `json:"unread_bytes"`
	Unsent               int    `json:"unsent_bytes"`
	Unacked              int    `json:"unacked_bytes"`
	EOFRead              *bool  `json:"eof_read"`
	Holders              []stuckHolder
	Listener             *struct {
		Address         string
		Queued, Backlog int
		Holders         []stuckHolder
	}
	Diagnosis string
	Why       string
}

type stuckHolder struct {
	PID, TID, UID int
	Comm          string
	FDs           []int
}

// stuckOf is what closetrace stuck says of one end of a connection in the namespace
// of the calling thread, once it says this; and sock_diag and the iterators agree.
func stuckOf(t *testing.T, c conn, state, diagnosis string) (found stuckLine) {
	t.Helper()
	eventually(t, diagnosis+" of a socket in "+state, func() bool {
		found = lookAt(t, c, "--source", "sock_diag")
		return found.State == state && found.Diagnosis == diagnosis
	})
	sameBothWays(t, c, found)
	return found
}

func lookAt(t *testing.T, c conn, args ...string) (found stuckLine) {
	t.Helper()
	path, err := program()
	must(t, err)
	out, err := exec.Command(path, append([]string{"stuck", "-o", "json"}, args...)...).Output()
	if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 3 { // some process hides its namespace
		must(t, err)
	}
	for _, l := range stuckLines(t, out) {
		if l.Local == c.local.String() && l.Remote == c.remote.String() {
			return l
		}
	}
	return found
}

// stuckLines are the sockets of -o json.
func stuckLines(t *testing.T, out []byte) (all []stuckLine) {
	t.Helper()
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var l stuckLine
		must(t, d.Decode(&l))
		all = append(all, l)
	}
	return all
}

// heldBy: exactly these descriptors of this process, and nobody else's.
func (l *stuckLine) heldBy(t *testing.T, fds ...int) {
	t.Helper()
	if len(l.Holders) != 1 || l.Holders[0].PID != os.Getpid() || !slices.Equal(l.Holders[0].FDs, fds) {
		t.Errorf("%s is held by %+v, want %v of this process", l.Diagnosis, l.Holders, fds)
	}
}

func (l *stuckLine) eof(t *testing.T, read bool) {
	t.Helper()
	if l.EOFRead == nil || *l.EOFRead != read {
		t.Errorf("%s: eof_read is %v, want %v", l.Diagnosis, l.EOFRead, read)
	}
}

// inStuckNetns runs f in a namespace of its own, with IPv4 and with IPv6.
func inStuckNetns(t *testing.T, f func(t *testing.T, listener int, at netip.AddrPort)) {
	for _, addr := range []netip.Addr{loopback4, loopback6} {
		t.Run(addr.String(), func(t *testing.T) {
			inNetns(t, func(uint32) {
				d, err := openDoor(addr)
				must(t, err)
				defer unix.Close(d.fd)
				f(t, d.fd, d.at)
			})
		})
	}
}

// unaccepted is a connection whose other end is in its listener's queue.
func unaccepted(t *testing.T, at netip.AddrPort) (a, b conn) {
	t.Helper()
	a.fd = socket(t, at.Addr())
	must(t, unix.Connect(a.fd, sockaddr(at)))
	sa, err := unix.Getsockname(a.fd)
	a.local, a.remote = addrPort(t, sa, err), at
	return a, conn{fd: -1, local: at, remote: a.local}
}

// afterPeer is the accepted end of a connection whose other end has sent n bytes
// and closed; it is in CLOSE_WAIT, and nothing is read.
func afterPeer(t *testing.T, listener int, at netip.AddrPort, n int) conn {
	t.Helper()
	a, b := connect(t, listener, at)
	if n > 0 {
		a.send(t, n)
	}
	must(t, unix.Close(a.fd))
	b.state(t, unix.BPF_TCP_CLOSE_WAIT)
	return b
}

// Every diagnosis, of real sockets.
func TestStuck(t *testing.T) {
	privileged(t)
	t.Run("never-accepted", stuckNeverAccepted)
	t.Run("leaked", stuckLeaked)
	t.Run("not-reading", stuckNotReading)
	t.Run("eof-taken-along", stuckEOFTakenAlong)
	t.Run("busy-sending", stuckBusySending)
	t.Run("forked-child", stuckForkedChild)
	t.Run("peer-open", stuckPeerOpen)
	t.Run("peer-silent", stuckPeerSilent)
	t.Run("in-a-thread", stuckInAThread)
	t.Run("elsewhere", stuckElsewhere)
	t.Run("by-nobody", stuckByNobody)
	t.Run("none", nothingStuck)
	t.Run("many", stuckMany)
	t.Run("in-all-netns", stuckInAllNetns)
	t.Run("lab", stuckInTheLab)
}

// recvEOF reads the end of the stream, for which it waits.
func (c conn) recvEOF(t *testing.T) {
	t.Helper()
	c.state(t, unix.BPF_TCP_CLOSE_WAIT)
	if n, err := unix.Read(c.fd, make([]byte, 1)); n != 0 || err != nil {
		t.Fatalf("read %d bytes before the end: %v", n, err)
	}
}

func stuckNeverAccepted(t *testing.T) {
	inStuckNetns(t, func(t *testing.T, listener int, at netip.AddrPort) {
		a, b := unaccepted(t, at)
		a.send(t, 5)
		must(t, unix.Close(a.fd))
		l := stuckOf(t, b, "CLOSE_WAIT", "never-accepted")
		l.eof(t, false)
		if l.Unread != 5 || len(l.Holders) != 0 || l.Listener == nil {
			t.Fatalf("got %+v", l)
		}
		if d := l.Listener; d.Address != at.String() || d.Queued != 1 || d.Backlog != 128 ||
			len(d.Holders) != 1 || d.Holders[0].PID != os.Getpid() || !slices.Equal(d.Holders[0].FDs, []int{listener}) {
			t.Errorf("the listener is %+v", d)
		}
	})
}

// The broken server reads to the end, and never closes.
func stuckLeaked(t *testing.T) {
	inStuckNetns(t, func(t *testing.T, listener int, at netip.AddrPort) {
		b := afterPeer(t, listener, at, 5)
		defer unix.Close(b.fd)
		b.recv(t, 5)
		b.recvEOF(t)
		dup, err := unix.FcntlInt(uintptr(b.fd), unix.F_DUPFD_CLOEXEC, 0)
		must(t, err)
		l := stuckOf(t, b, "CLOSE_WAIT", "leaked")
		fds := []int{b.fd, dup}
		slices.Sort(fds)
		l.heldBy(t, fds...)
		l.eof(t, true)
		if l.AgeAtLeastMS == nil || l.Unread+l.Unsent+l.Unacked != 0 {
			t.Errorf("got %+v", l)
		}
		must(t, unix.Close(dup))
	})
}

func stuckNotReading(t *testing.T) {
	inStuckNetns(t, func(t *testing.T, listener int, at netip.AddrPort) {
		b := afterPeer(t, listener, at, 10)
		defer unix.Close(b.fd)
		l := stuckOf(t, b, "CLOSE_WAIT", "not-reading")
		l.heldBy(t, b.fd)
		l.eof(t, false)
		if l.Unread != 10 {
			t.Errorf("with 10 B unread: %+v", l)
		}

		// All but the EOF.
		a, c := connect(t, listener, at)
		defer unix.Close(c.fd)
		a.send(t, 10)
		c.recv(t, 10) // before the FIN comes, which it would take along
		must(t, unix.Close(a.fd))
		l = stuckOf(t, c, "CLOSE_WAIT", "not-reading")
		l.eof(t, false)
		if l.Unread != 0 {
			t.Errorf("with the EOF unread: %+v", l)
		}
	})
}

// A read that ends exactly before a FIN takes it along, though it returns bytes: so
// the EOF counts as read before the application was told.
func stuckEOFTakenAlong(t *testing.T) {
	inStuckNetns(t, func(t *testing.T, listener int, at netip.AddrPort) {
		b := afterPeer(t, listener, at, 10)
		defer unix.Close(b.fd)
		b.recv(t, 10)
		l := stuckOf(t, b, "CLOSE_WAIT", "leaked")
		l.eof(t, true)
	})
}

func stuckBusySending(t *testing.T) {
	inStuckNetns(t, func(t *testing.T, listener int, at netip.AddrPort) {
		a, b := connect(t, listener, at)
		defer unix.Close(a.fd)
		must(t, unix.Shutdown(a.fd, unix.SHUT_WR))
		b.state(t, unix.BPF_TCP_CLOSE_WAIT)
		must(t, unix.SetNonblock(b.fd, true))
		for block := make([]byte, 1<<20); ; {
			if _, err := unix.Write(b.fd, block); err == unix.EAGAIN {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		l := stuckOf(t, b, "CLOSE_WAIT", "busy-sending")
		l.heldBy(t, b.fd)
		if l.Unsent == 0 {
			t.Errorf("got %+v", l)
		}
		// The same after a close: nobody holds it any more.
		b.recvEOF(t)
		must(t, unix.Close(b.fd))
		l = stuckOf(t, b, "LAST_ACK", "busy-sending")
		if l.Unsent == 0 || len(l.Holders) != 0 || l.EOFRead != nil {
			t.Errorf("after the close: %+v", l)
		}
	})
}

// A child that a server forked for something else has a connection of its parent's.
func stuckForkedChild(t *testing.T) {
	inStuckNetns(t, func(t *testing.T, listener int, at netip.AddrPort) {
		b := afterPeer(t, listener, at, 0)
		b.recvEOF(t)
		eventually(t, "silence before the fork", func() bool {
			info, err := unix.GetsockoptTCPInfo(b.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
			must(t, err)
			return info.Last_ack_recv > 200
		})
		f := os.NewFile(uintptr(b.fd), "connection")
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), actVariable+"=idle")
		cmd.ExtraFiles = []*os.File{f}
		stdin, err := cmd.StdinPipe()
		must(t, err)
		defer stdin.Close()
		must(t, cmd.Start())
		defer cmd.Wait()
		defer cmd.Process.Kill()

		l := stuckOf(t, b, "CLOSE_WAIT", "forked-child")
		if len(l.Holders) != 2 {
			t.Errorf("both hold it: %+v", l)
		}
		must(t, f.Close())
		eventually(t, "the child alone", func() bool {
			l = stuckOf(t, b, "CLOSE_WAIT", "forked-child")
			return len(l.Holders) == 1
		})
		if l.Holders[0].PID != cmd.Process.Pid || !slices.Equal(l.Holders[0].FDs, []int{3}) {
			t.Errorf("the child holds it: %+v", l)
		}
	})
}

func stuckPeerOpen(t *testing.T) {
	inStuckNetns(t, func(t *testing.T, listener int, at netip.AddrPort) {
		a, b := connect(t, listener, at)
		defer unix.Close(b.fd)
		must(t, unix.Shutdown(a.fd, unix.SHUT_WR))
		l := stuckOf(t, a, "FIN_WAIT2", "peer-open")
		l.heldBy(t, a.fd)
		if l.EndsInMS != nil || l.AgeAtLeastMS == nil {
			t.Errorf("half closed: %+v", l)
		}
		must(t, unix.Close(a.fd))
		eventually(t, "a time to end", func() bool { l = lookAt(t, a, "--source", "sock_diag"); return l.EndsInMS != nil })
		if len(l.Holders) != 0 || l.State != "FIN_WAIT2" || l.Diagnosis != "peer-open" {
			t.Errorf("closed: %+v", l)
		}
		sameBothWays(t, a, l)
	})
}

// The wire is cut, so that a FIN is sent again and again.
func stuckPeerSilent(t *testing.T) {
	inStuckNetns(t, func(t *testing.T, listener int, at netip.AddrPort) {
		a, b := connect(t, listener, at)
		defer unix.Close(b.fd)
		must(t, setLoopback(0))
		must(t, unix.Close(a.fd))
		l := stuckOf(t, a, "FIN_WAIT1", "peer-silent")
		if l.Unsent+l.Unacked != 0 {
			t.Errorf("got %+v", l)
		}
		if at.Addr().Is6() {
			return // ::1 goes with the device, so that nothing is sent again
		}
		eventually(t, "an age", func() bool {
			l = stuckOf(t, a, "FIN_WAIT1", "peer-silent")
			return l.AgeAtLeastMS != nil
		})
		if *l.AgeAtLeastMS > time.Minute.Milliseconds() {
			t.Errorf("got %+v", l)
		}
	})
}

// leakMany is a broken server that has n connections, and closes none of them. Each
// door takes as many as there are ports.
func leakMany(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	limit := unix.Rlimit{Cur: uint64(n + 100), Max: uint64(n + 100)}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	const most = 20000
	var d door
	for i := range n {
		if i%most == 0 {
			if d, err = openDoor(loopback4); err != nil {
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

// That there is none is said, and where that holds.
func nothingStuck(t *testing.T) {
	inNetns(t, func(uint32) {
		path, err := program()
		must(t, err)
		out, err := exec.Command(path, "stuck").CombinedOutput()
		want := "closetrace: no socket waits for its end in this network namespace; --all-netns looks at all\n"
		if err != nil || !strings.HasPrefix(string(out), "COUNT ") || !strings.HasSuffix(string(out), want) {
			t.Errorf("%v\n%s", err, out)
		}
	})
}

// All of very many are listed.
func stuckMany(t *testing.T) {
	n := load(10000, 500)
	inNetns(t, func(uint32) {
		server := act(t, "leak", itoa(n))
		defer server.leave(t)
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

// From outside, a namespace is looked at by its path, and found among all.
func stuckInAllNetns(t *testing.T) {
	var b conn
	inNetns(t, func(uint32) {
		l, at := listen(t, loopback4)
		defer unix.Close(l)
		var a conn
		a, b = connect(t, l, at)
		must(t, unix.Close(a.fd))
		b.state(t, unix.BPF_TCP_CLOSE_WAIT)
		holder := act(t, "idle") // a process in this namespace
		defer holder.leave(t)
		path := "/proc/" + itoa(holder.Process.Pid) + "/ns/net"
		outside := make(chan [4]stuckLine)
		go func() { // by another thread
			defer close(outside)
			outside <- [4]stuckLine{
				lookAt(t, b, "--all-netns", "--source", "iterator"), lookAt(t, b, "--netns", path, "--source", "iterator"),
				lookAt(t, b, "--all-netns", "--source", "sock_diag"), lookAt(t, b, "--netns", path, "--source", "sock_diag"),
			}
		}()
		for i, found := range <-outside {
			if found.Diagnosis != "not-reading" {
				t.Errorf("%d: got %+v", i, found)
			}
		}
	})
	must(t, unix.Close(b.fd))
}

// The lab leaves sockets behind for each diagnosis, and the program finds these and
// no others.
func stuckInTheLab(t *testing.T) {
	scenarios, err := lab.Scenarios()
	must(t, err)
	for _, sc := range scenarios {
		if len(sc.Stuck) == 0 {
			continue
		}
		t.Run(sc.Name, func(t *testing.T) {
			path, err := program()
			must(t, err)
			var wrong []lab.Mismatch
			res, err := sc.Run(t.Context(), func(res *lab.Result) {
				for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
					out, err := exec.Command(path, "stuck", "-o", "json", "--source", "sock_diag").Output() // by this thread, in the scenario's namespace
					must(t, err)
					wrong = lab.CompareStuck(sc, res, stuckSeen(stuckLines(t, out)))
					wrong = append(wrong, lab.CompareStuck(sc, res, stuckSeen(allByIterators(t)))...)
					if len(wrong) == 0 || time.Now().After(end) {
						return
					}
				}
			})
			must(t, err)
			if res.NotPossible != "" {
				t.Skip("not possible here: " + res.NotPossible)
			}
			for _, m := range wrong {
				t.Error(m)
			}
		})
	}
}

func stuckSeen(lines []stuckLine) (all []lab.StuckSeen) {
	for _, l := range lines {
		at := lab.Endpoint{Local: netip.MustParseAddrPort(l.Local), Remote: netip.MustParseAddrPort(l.Remote)}
		all = append(all, lab.StuckSeen{Endpoint: at, Diagnosis: l.Diagnosis})
	}
	return all
}
