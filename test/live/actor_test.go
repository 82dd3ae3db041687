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

const actVariable = "CLOSETRACE_LIVE_ACT"

func itoa(n int) string { return strconv.Itoa(n) }

// actor is a process that does one of the acts: it says when it is ready, and
// goes on when its standard input ends.
type actor struct {
	*exec.Cmd
	orders io.Closer
}

// act starts an actor in the namespace of the calling thread, and waits until
// it is ready.
func act(t testing.TB, name string, args ...string) *actor {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	a := &actor{Cmd: exec.Command(self)}
	// The race detector would sleep for a second at the end.
	a.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", actVariable+"="+strings.Join(append([]string{name}, args...), " "))
	a.Stderr = os.Stderr
	a.orders, err = a.StdinPipe()
	must(t, err)
	says, err := a.StdoutPipe()
	must(t, err)
	must(t, a.Start())
	t.Cleanup(func() { a.Process.Kill() })
	if word, err := bufio.NewReader(says).ReadString('\n'); err != nil {
		t.Fatalf("%s is not ready: %q, %v", name, word, err)
	}
	return a
}

// leave lets it end.
func (a *actor) leave(t testing.TB) {
	t.Helper()
	must(t, a.orders.Close())
	must(t, a.Wait())
}

// runActor plays the act that the environment asks for, if it does.
func runActor() bool {
	words := strings.Fields(os.Getenv(actVariable))
	if len(words) == 0 {
		return false
	}
	if err := acts[words[0]](words[1:]); err != nil {
		fmt.Fprintln(os.Stderr, words[0]+":", err)
		os.Exit(1)
	}
	return true
}

// ready says so, and waits for the word to go on.
func ready() {
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

var acts = map[string]func(args []string) error{
	"hold":  holdMany,
	"named": closeNamed,
	"leak":  leakMany,
	"visit": visitCgroups,
	"deep":  closeDeep,
	"idle":  func([]string) error { ready(); return nil },
}

// pair returns both ends of a new connection through a door that nobody else
// knows.
func (d door) pair() (ours, theirs int, err error) {
	if ours, err = tcpSocket(d.at.Addr()); err != nil {
		return -1, -1, err
	}
	if err := unix.Connect(ours, sockaddr(d.at)); err != nil {
		return -1, -1, fmt.Errorf("connect: %w", err)
	}
	if theirs, _, err = unix.Accept4(d.fd, unix.SOCK_CLOEXEC); err != nil {
		return -1, -1, fmt.Errorf("accept: %w", err)
	}
	return ours, theirs, nil
}

// holdMany holds both ends of n connections until it exits.
func holdMany(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	limit := unix.Rlimit{Cur: uint64(2*n + 100), Max: uint64(2*n + 100)}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	d, err := openDoor(loopback4)
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

// closeNamed is called what args say, in hexadecimal digits. It resets a
// connection, and holds one end of another that is reset by the other end.
func closeNamed(args []string) error {
	name, err := hex.DecodeString(args[0])
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	if err := os.WriteFile("/proc/self/comm", name, 0); err != nil { // of the process
		return err
	}
	if err := os.WriteFile("/proc/thread-self/comm", name, 0); err != nil { // of who closes
		return err
	}
	d, err := openDoor(loopback4)
	if err != nil {
		return err
	}
	for _, goes := range []bool{false, true} {
		fd, held, err := d.pair()
		if err != nil {
			return err
		}
		e := &end{fd: fd}
		e.linger(unix.Linger{Onoff: 1})
		e.close()
		if goes {
			unix.Close(held)
		}
	}
	ready()
	return nil
}
