//go:build linux

package live

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/probe"
)

// lookProgram returns the path of a program, or skips the test if its Debian
// package cannot be installed. test/deps.sh installs these packages.
func lookProgram(t *testing.T, name, deb string) string {
	t.Helper()
	privileged(t)
	if emulated() {
		t.Skip("microVMs have no packages of Debian")
	}
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	apt, err := exec.LookPath("apt-get")
	if err != nil {
		t.Skipf("no %s, and no apt-get to install it: %v", name, err)
	}
	if out, err := exec.Command(apt, "install", "--simulate", "--quiet", deb).CombinedOutput(); err != nil {
		t.Skipf("no %s, and apt-get cannot install %s: %s", name, deb, out)
	}
	t.Fatalf("no %s, but apt-get can install %s: run make deps", name, deb)
	return ""
}

// stage is a network namespace in which real programs run, with a tracer and a
// wire capture.
type stage struct {
	*container
	dir     string
	tracer  *tracer
	capture *capture
	wanted  []wantedEnding
	lossy   bool // what was sent is not always on the wire
}

// wantedEnding is an ending that closetrace must report.
type wantedEnding struct {
	path  events.Path
	at    uint16 // a port of the connection
	comm  string // of the process that ended the connection, or that owns the socket
	words []string
}

// onStage runs real programs. Every FIN and RST on the wire must have its ending,
// and what the programs want must be reported.
func onStage(t *testing.T, run func(t testing.TB, s *stage)) {
	attempts(t, func(t testing.TB) {
		s := &stage{container: newContainer(t), dir: t.TempDir()}
		for _, dir := range []string{s.dir, filepath.Dir(s.dir)} { // for programs of other users
			must(t, os.Chmod(dir, 0o777))
		}
		s.tracer = trace(t, probe.Filter{Netns: []uint32{s.inode}})
		s.tracer.mayMiss = true
		s.do(t, func() (err error) {
			s.capture, err = startCapture()
			return err
		})
		run(t, s)
		if s.lossy {
			eventually(t, "what is wanted", func() bool { return s.missing() == "" })
			s.tracer.catchUp(t)
		} else {
			s.capture.settle(s.tracer, func() bool { return s.missing() == "" })
		}
		s.capture.close(t)
		s.tracer.finish(t)
		m := s.capture.match(s.tracer)
		t.Logf("wire capture: explained %s", m.score())
		if !s.lossy && (len(m.withoutSegment) > 0 || len(m.unexplained) > missable(t, s.tracer)) {
			t.Errorf("explained %v", m)
		}
		if text := s.missing(); text != "" || t.Failed() {
			t.Errorf("missing: %s\n%s", text, s.capture.describe(s.tracer, nil))
		}
	})
}

// want adds an ending that must be reported by the end.
func (s *stage) want(path events.Path, at uint16, comm string, words ...string) {
	s.wanted = append(s.wanted, wantedEnding{path, at, comm, words})
}

// missing describes the wanted endings that have not been reported.
func (s *stage) missing() (text string) {
	endings := s.tracer.endingsIn(s.inode)
	for _, w := range s.wanted {
		found := false
		for i := range endings {
			found = found || w.is(&endings[i])
		}
		if !found {
			text += fmt.Sprintf("\n\t%s at port %d by %q with %q", w.path, w.at, w.comm, w.words)
		}
	}
	return text
}

func (w *wantedEnding) is(e *events.Ending) bool {
	task := e.Actor
	if task == nil {
		task = e.Owner
	}
	if e.Path != w.path || e.Local.Port() != w.at && e.Remote.Port() != w.at ||
		w.comm != "" && (task == nil || task.Comm != w.comm) {
		return false
	}
	for _, word := range w.words {
		if !strings.Contains(e.Cause, word) {
			return false
		}
	}
	return true
}

// start starts a program in the namespace, as a user if it is not nil, and kills it
// at the end of the test.
func (s *stage) start(t testing.TB, as *syscall.Credential, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(name, args...)
	log, err := os.OpenFile(s.file("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	must(t, err)
	defer log.Close()
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, log, log
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: as}
	s.do(t, cmd.Start)
	t.Cleanup(func() {
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		_ = cmd.Wait()
	})
	return cmd
}

func (s *stage) file(name string) string { return filepath.Join(s.dir, name) }

func (s *stage) write(t testing.TB, name, format string, args ...any) string {
	t.Helper()
	must(t, os.WriteFile(s.file(name), fmt.Appendf(nil, format, args...), 0o644))
	return s.file(name)
}

// logged waits until the log of the programs, or another file, has a text: what the
// user of the program reports.
func (s *stage) logged(t testing.TB, name, text string) {
	t.Helper()
	var log []byte
	defer func() {
		if t.Failed() {
			t.Logf("%s:\n%s", name, log)
		}
	}()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		log, _ = os.ReadFile(s.file(name))
		if strings.Contains(string(log), text) {
			return
		}
	}
	t.Errorf("%s has no %q:\n%s", name, text, log)
}

// dial connects to a port in the namespace.
func (s *stage) dial(t testing.TB, port uint16) (c *net.TCPConn) {
	t.Helper()
	s.do(t, func() (err error) {
		c, err = net.DialTCP("tcp4", nil, net.TCPAddrFromAddrPort(netip.AddrPortFrom(loopback4, port)))
		return err
	})
	t.Cleanup(func() { c.Close() })
	return c
}

// await waits until a program listens at a port. It does not connect, as a program
// may take that for a client.
func (s *stage) await(t testing.TB, port uint16) {
	t.Helper()
	listening := fmt.Sprintf(":%04X ", port) // and the other end, and the state
	eventually(t, fmt.Sprintf("a listener at port %d", port), func() (found bool) {
		s.do(t, func() error {
			for _, table := range []string{"tcp", "tcp6"} {
				text, err := os.ReadFile("/proc/thread-self/net/" + table)
				if err != nil {
					return err
				}
				for line := range strings.Lines(string(text)) {
					found = found || strings.Contains(line, listening) && strings.Contains(line, ":0000 0A ")
				}
			}
			return nil
		})
		return found
	})
}

// listen listens at a port, and calls serve with each connection.
func (s *stage) listen(t testing.TB, port uint16, serve func(*net.TCPConn)) {
	t.Helper()
	var l *net.TCPListener
	s.do(t, func() (err error) {
		l, err = net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(netip.AddrPortFrom(loopback4, port)))
		return err
	})
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			serve(c)
		}
	}()
}
