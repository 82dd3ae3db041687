//go:build linux

package live

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// guardedVariable makes this program a command for closetrace run: what to play.
const guardedVariable = "CLOSETRACE_GUARDED"

// guardedExit is the exit code of that command.
const guardedExit = 7

// runGuarded plays such a command, if this process is one.
func runGuarded() bool {
	words := strings.Fields(os.Getenv(guardedVariable))
	if len(words) == 0 {
		return false
	}
	var err error
	switch words[0] {
	case "server":
		err = guardedServer()
	case "client":
		err = guardedClient(netip.MustParseAddrPort(words[1]))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, words[0]+":", err)
		os.Exit(1)
	}
	os.Exit(guardedExit)
	return true
}

// guardedServer starts a child that connects, and resets it. It says on standard
// output which port is its own, before anything ends.
func guardedServer() error {
	d, err := openDoor(loopback4)
	if err != nil {
		return err
	}
	fmt.Println(d.at.Port())
	self, err := os.Executable()
	if err != nil {
		return err
	}
	child := exec.Command(self)
	child.Env = append(os.Environ(), guardedVariable+"=client "+d.at.String())
	if err := child.Start(); err != nil {
		return err
	}
	fd, _, err := unix.Accept(d.fd)
	if err != nil {
		return err
	}
	if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
		return err
	}
	if err := unix.Close(fd); err != nil {
		return err
	}
	_ = child.Wait() // it fails by design
	return nil
}

// guardedClient waits for the RST and leaves its socket to the exit.
func guardedClient(to netip.AddrPort) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err == nil {
		err = unix.Connect(fd, sockaddr(to))
	}
	if err != nil {
		return err
	}
	if _, err := unix.Read(fd, make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		return fmt.Errorf("no reset but %v", err)
	}
	return nil
}

// closetrace run tells what a command and its child did and nothing of others,
// passes its exit code on, and fails where it should.
func TestRunGuardsACommand(t *testing.T) {
	privileged(t)
	for _, tt := range []struct {
		failOn string
		want   int
	}{
		{"", guardedExit},
		{"close.rst.unread,abort", guardedExit},
		{"recv.rst", 124},
		{"close.rst.*", 124},
	} {
		t.Run(tt.failOn, func(t *testing.T) {
			attempts(t, func(t testing.TB) {
				stop := elsewhere(t)
				code, port, endings := guarded(t, tt.failOn)
				stop()
				if code != tt.want {
					t.Errorf("exit code %d, want %d", code, tt.want)
				}
				var paths []string
				for _, e := range endings {
					if e.Local.Port() != port && e.Remote.Port() != port {
						t.Errorf("%s of another process: %v, %v", e.Path, e.Local, e.Remote)
					}
					paths = append(paths, e.Path)
				}
				slices.Sort(paths)
				if got := strings.Join(paths, " "); got != "close.listen close.rst.linger0 close.silent.closed.reset recv.rst" {
					t.Errorf("told %s", got)
				}
			})
		})
	}
	for _, at := range []string{"/sys/fs/cgroup/closetrace-run-*", "/sys/fs/cgroup/unified/closetrace-run-*"} {
		if left, _ := filepath.Glob(at); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

// guardedEnding is what a test looks at of an ending in JSON.
type guardedEnding struct {
	Path          string
	Local, Remote netip.AddrPort
}

// guarded runs the command under closetrace run, and returns its exit code, the
// port of its server, and the endings that were told.
func guarded(t testing.TB, failOn string) (code int, port uint16, endings []guardedEnding) {
	t.Helper()
	path, err := program()
	must(t, err)
	self, err := os.Executable()
	must(t, err)
	args := []string{"run", "-o", "json", "--attach", *attach}
	if failOn != "" {
		args = append(args, "--fail-on", failOn)
	}
	cmd := exec.Command(path, append(args, "--", self)...)
	cmd.Env = append(os.Environ(), guardedVariable+"=server")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	must(t, cmd.Start())
	code = ends(t, cmd)
	if _, err := fmt.Sscan(stdout.String(), &port); err != nil {
		t.Fatalf("%v in %q; said\n%s", err, &stdout, &stderr)
	}
	countMissed(t, uint64(missed(stderr.String())))
	for lines := bufio.NewScanner(&stderr); lines.Scan(); {
		if !bytes.HasPrefix(lines.Bytes(), []byte("{")) {
			t.Log(lines.Text())
			continue
		}
		var e guardedEnding
		must(t, json.Unmarshal(lines.Bytes(), &e))
		endings = append(endings, e)
	}
	return code, port, endings
}

// elsewhere keeps connections of this process ending until it is stopped.
func elsewhere(t testing.TB) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-quit:
				return
			default:
				someEndings(t)
			}
		}
	}()
	return func() { close(quit); <-done }
}
