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

// commandVariable makes this program a command for closetrace run. Its value is
// the role and the role's arguments.
const commandVariable = "CLOSETRACE_LIVE_COMMAND"

// commandExit is the exit code of that command.
const commandExit = 7

// runCommandRole plays such a role, if the environment asks for one.
func runCommandRole() bool {
	words := strings.Fields(os.Getenv(commandVariable))
	if len(words) == 0 {
		return false
	}
	var err error
	switch words[0] {
	case "server":
		err = commandServer()
	case "client":
		err = commandClient(netip.MustParseAddrPort(words[1]))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, words[0]+":", err)
		os.Exit(1)
	}
	os.Exit(commandExit)
	return true
}

// commandServer starts a child that connects, and resets the connection. It
// prints its port before anything ends.
func commandServer() error {
	d, err := newListener(loopback4)
	if err != nil {
		return err
	}
	fmt.Println(d.addr.Port())
	self, err := os.Executable()
	if err != nil {
		return err
	}
	child := exec.Command(self)
	child.Env = append(os.Environ(), commandVariable+"=client "+d.addr.String())
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

// commandClient waits for the RST. The exit closes its socket.
func commandClient(to netip.AddrPort) error {
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

// closetrace run reports the endings of a command and of its child and no others,
// passes on the exit code, and fails by the policy of --fail-on.
func TestRunCommand(t *testing.T) {
	privileged(t)
	for _, tt := range []struct {
		failOn string
		want   int
	}{
		{"", commandExit},
		{"close.rst.unread,abort", commandExit},
		{"recv.rst", 124},
		{"close.rst.*", 124},
	} {
		t.Run(tt.failOn, func(t *testing.T) {
			attempts(t, func(t testing.TB) {
				stop := connectionElsewhere(t)
				code, port, endings := runUnder(t, tt.failOn)
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
					t.Errorf("reported %s", got)
				}
			})
		})
	}
}

// commandEnding has the fields of an ending that the test compares.
type commandEnding struct {
	Path          string
	Local, Remote netip.AddrPort
}

// runUnder runs the command under closetrace run. It returns the exit code, the
// port of the command's server, and the reported endings.
func runUnder(t testing.TB, failOn string) (code int, port uint16, endings []commandEnding) {
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
	cmd.Env = append(os.Environ(), commandVariable+"=server")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	must(t, cmd.Start())
	code = waitExit(t, cmd)
	for _, mount := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} { // others may run commands, too
		left := filepath.Join(mount, fmt.Sprintf("closetrace-run-%d", cmd.Process.Pid))
		if _, err := os.Stat(left); err == nil {
			t.Errorf("left behind: %s", left)
		}
	}
	if _, err := fmt.Sscan(stdout.String(), &port); err != nil {
		t.Fatalf("%v in %q; standard error\n%s", err, &stdout, &stderr)
	}
	countMissed(t, uint64(missed(stderr.String())))
	for lines := bufio.NewScanner(&stderr); lines.Scan(); {
		if !bytes.HasPrefix(lines.Bytes(), []byte("{")) {
			t.Log(lines.Text())
			continue
		}
		var e commandEnding
		must(t, json.Unmarshal(lines.Bytes(), &e))
		endings = append(endings, e)
	}
	return code, port, endings
}

// connectionElsewhere ends connections of this process until it is stopped.
func connectionElsewhere(t testing.TB) (stop func()) {
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
