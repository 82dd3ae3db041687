//go:build linux

package live

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const childVariable = "CLOSETRACE_LIVE_ACT"

func itoa(n int) string { return strconv.Itoa(n) }

// child is a process that does one of childRoles. It prints a line when it is
// ready, and continues when its standard input ends.
type child struct {
	*exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
}

// startChild starts a child in the namespace of the calling thread and waits
// until it is ready.
func startChild(t testing.TB, name string, args ...string) *child {
	t.Helper()
	a := beginChild(t, name, args...)
	a.awaitReady(t, name)
	return a
}

// startChildWith is startChild for a child that inherits files.
func startChildWith(t testing.TB, files []*os.File, name string, args ...string) *child {
	t.Helper()
	a := beginChildWith(t, files, name, args...)
	a.awaitReady(t, name)
	return a
}

// beginChild starts a child in the namespace of the calling thread.
func beginChild(t testing.TB, name string, args ...string) *child {
	t.Helper()
	return beginChildWith(t, nil, name, args...)
}

// beginChildWith is beginChild for a child that inherits files, from inheritedFD on.
func beginChildWith(t testing.TB, files []*os.File, name string, args ...string) *child {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	a := &child{Cmd: exec.Command(self)}
	// The race detector would sleep for a second at the end.
	a.Env = append(
		os.Environ(),
		"GORACE=atexit_sleep_ms=0",
		childVariable+"="+strings.Join(append([]string{name}, args...), " "),
	)
	a.Stderr, a.ExtraFiles = os.Stderr, files
	a.stdin, err = a.StdinPipe()
	must(t, err)
	stdout, err := a.StdoutPipe()
	must(t, err)
	must(t, a.Start())
	t.Cleanup(func() { a.Process.Kill() })
	a.stdout = bufio.NewReader(stdout)
	return a
}

// awaitReady waits until the child prints a line.
func (a *child) awaitReady(t testing.TB, name string) {
	t.Helper()
	if word, err := a.stdout.ReadString('\n'); err != nil {
		t.Fatalf("%s is not ready: %q, %v", name, word, err)
	}
}

// exit lets the child continue, and waits until it exits.
func (a *child) exit(t testing.TB) {
	t.Helper()
	must(t, a.stdin.Close())
	must(t, a.Wait())
}

// runChild plays the role that the environment asks for, if any.
func runChild() bool {
	words := strings.Fields(os.Getenv(childVariable))
	if len(words) == 0 {
		return false
	}
	if err := childRoles[words[0]](words[1:]); err != nil {
		fmt.Fprintln(os.Stderr, words[0]+":", err)
		os.Exit(1)
	}
	return true
}

// ready prints that the child is ready, and waits until its standard input ends.
func ready() {
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

var childRoles = map[string]func(args []string) error{
	"hold":            holdConnections,
	"halve":           halfClose,
	"named":           closeNamed,
	"thread":          closeNamedThread,
	"leak":            leakConnections,
	"visit":           visitCgroups,
	"deep":            closeInFunctions,
	"churn":           closeOften,
	"reset":           closeWhenReset,
	"alternate":       alternate,
	"refuse":          refuseBody,
	"abort":           abortAccepted,
	"victim":          isReset,
	"exec":            executeProgram,
	"close":           closeInherited,
	"eat":             eat,
	"die":             die,
	"join":            joinGroup,
	"locked":          createMapUnlocked,
	"prefork-serve":   preforkServe,
	"prefork-connect": preforkConnect,
	"wait":            waitForEnd,
	"idle":            func([]string) error { ready(); return nil },
}

// pair returns both ends of a new connection to a listener that accepts no
// others.
func (d boundSocket) pair() (ours, theirs int, err error) {
	if ours, err = tcpSocket(d.addr.Addr()); err != nil {
		return -1, -1, err
	}
	if err := unix.Connect(ours, sockaddr(d.addr)); err != nil {
		return -1, -1, fmt.Errorf("connect: %w", err)
	}
	if theirs, _, err = unix.Accept4(d.fd, unix.SOCK_CLOEXEC); err != nil {
		return -1, -1, fmt.Errorf("accept: %w", err)
	}
	return ours, theirs, nil
}

// listenerFor returns the number of connections that a child is asked for, and a listener for them, with enough
// descriptors for both ends of each.
func listenerFor(args []string) (n int, d boundSocket, err error) {
	if n, err = strconv.Atoi(args[0]); err != nil {
		return 0, d, err
	}
	limit := unix.Rlimit{Cur: uint64(2*n + 100), Max: uint64(2*n + 100)}
	if err = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, d, err
	}
	d, err = newListener(loopback4)
	return n, d, err
}

// holdConnections holds both ends of n connections until it exits.
func holdConnections(args []string) error {
	n, d, err := listenerFor(args)
	if err != nil {
		return err
	}
	for range n {
		if _, _, err := d.pair(); err != nil {
			return err
		}
	}
	ready()
	return nil
}

// closeNamedThread is closeNamed by a thread that is not the main one.
func closeNamedThread(args []string) error {
	runtime.LockOSThread()
	if unix.Gettid() != os.Getpid() {
		return closeNamed(args)
	}
	result := make(chan error)
	go func() { result <- closeNamed(args) }()
	return <-result
}

// closeNamed takes the name in args, in hexadecimal digits, and optionally that of its thread. It resets one
// connection, and holds the end of another one that the peer resets.
func closeNamed(args []string) error {
	name, err := hex.DecodeString(args[0])
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	if err := os.WriteFile("/proc/self/comm", name, 0); err != nil { // of the process
		return err
	}
	if len(args) > 1 {
		name = []byte(args[1])
	}
	if err := os.WriteFile("/proc/thread-self/comm", name, 0); err != nil { // of who closes
		return err
	}
	d, err := newListener(loopback4)
	if err != nil {
		return err
	}
	for _, closeHeld := range []bool{false, true} {
		fd, held, err := d.pair()
		if err != nil {
			return err
		}
		e := &end{fd: fd}
		e.linger(unix.Linger{Onoff: 1})
		e.close()
		if closeHeld {
			unix.Close(held)
		}
	}
	ready()
	return nil
}
