//go:build linux

package lab

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/netns"
)

// doPair connects A to B. Its listener stays open, because closing it would be an
// ending within the window.
func doPair(r *sandbox, _ struct{}, args []string) (string, error) {
	hidden := "Listener of " + args[0]
	if err := r.listen(hidden, nil); err != nil {
		return "", err
	}
	if _, err := doConnect(r, struct{}{}, []string{args[0], hidden}); err != nil {
		return "", err
	}
	return doAccept(r, struct{}{}, []string{args[1], hidden})
}

func doListen(r *sandbox, _ struct{}, args []string) (string, error) {
	return "", r.listen(args[0], args[1:])
}

// listen opens a listener. Options: backlog N, reuseport, fastopen (a queue of
// 16), port-of L (the same port as L), mptcp.
func (r *sandbox) listen(name string, options []string) error {
	protocol := unix.IPPROTO_TCP
	if slices.Contains(options, "mptcp") {
		protocol = unix.IPPROTO_MPTCP
	}
	s, err := r.open(name, protocol)
	if err != nil {
		return err
	}
	fd := int(s.fd.Load())
	backlog, port := 16, uint16(0)
	for len(options) > 0 && err == nil {
		option := options[0]
		options = options[1:]
		value := ""
		if (option == "backlog" || option == "port-of") && len(options) > 0 {
			value, options = options[0], options[1:]
		}
		switch option {
		case "backlog":
			backlog, err = strconv.Atoi(value)
		case "port-of":
			port = r.res.Sockets[value].Local.Port()
		case "mptcp": // above
		case "reuseport":
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		case "fastopen":
			err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN, 16)
		default:
			err = fmt.Errorf("unknown option %q", option)
		}
	}
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, r.address(port)); err != nil {
		return err
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return err
	}
	r.note(s)
	return nil
}

func doSocket(r *sandbox, _ struct{}, args []string) (string, error) {
	protocol := unix.IPPROTO_TCP
	if len(args) > 1 {
		if args[1] != "mptcp" {
			return "", fmt.Errorf("unknown option %q", args[1])
		}
		protocol = unix.IPPROTO_MPTCP
	}
	_, err := r.open(args[0], protocol)
	return "", err
}

// doConnect connects A to the port of L. It opens A unless "socket A" did.
// Options: nonblock, and fastopen TEXT, which sends TEXT with the SYN.
func doConnect(r *sandbox, _ struct{}, args []string) (string, error) {
	to, ok := r.res.Sockets[args[1]]
	if !ok {
		return "", fmt.Errorf("no socket %s", args[1])
	}
	s, err := r.sockets[args[0]], error(nil)
	if s == nil {
		if s, err = r.open(args[0], unix.IPPROTO_TCP); err != nil {
			return "", err
		}
	}
	nonblock, fastopen := false, ""
	for options := args[2:]; len(options) > 0; options = options[1:] {
		switch {
		case options[0] == "nonblock":
			nonblock = true
		case options[0] == "fastopen" && len(options) > 1:
			fastopen, options = options[1], options[1:]
		default:
			return "", fmt.Errorf("unknown option %q", options[0])
		}
	}
	return "", r.connect(s, to.Local.Port(), nonblock, fastopen)
}

func doAccept(r *sandbox, _ struct{}, args []string) (string, error) {
	l := r.sockets[args[1]]
	if l == nil {
		return "", fmt.Errorf("no socket %s", args[1])
	}
	fd, err := l.use()
	if err != nil {
		return "", err
	}
	if err := r.poll(fd, unix.POLLIN); err != nil {
		return "", err
	}
	var child int
	err = uninterrupted(func() (err error) {
		child, _, err = unix.Accept4(fd, unix.SOCK_CLOEXEC)
		return err
	})
	if err != nil {
		return "", err
	}
	_, err = r.adopt(args[0], child)
	return "", err
}

// doDup duplicates a descriptor.
func doDup(r *sandbox, _ struct{}, args []string) (string, error) {
	s := r.sockets[args[0]]
	if s == nil {
		return "", fmt.Errorf("no socket %s", args[0])
	}
	fd, err := s.use()
	if err != nil {
		return "", err
	}
	fd, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	_, err = r.adopt(args[1], fd)
	return "", err
}

func doSpawn(r *sandbox, _ struct{}, args []string) (string, error) {
	return "", r.spawn(args[0], args[1:])
}

func (r *sandbox) thread(name string) (*thread, error) {
	t := r.threads[name]
	if t == nil {
		return nil, fmt.Errorf("no thread %s", name)
	}
	return t, nil
}

func doWait(r *sandbox, _ struct{}, args []string) (string, error) {
	t, err := r.thread(args[0])
	if err != nil {
		return "", err
	}
	return t.wait()
}

// doBlocked waits until a thread is blocked in its system call.
func doBlocked(r *sandbox, _ struct{}, args []string) (string, error) {
	t, err := r.thread(args[0])
	if err != nil {
		return "", err
	}
	if _, ok := blockable[args[1]]; !ok {
		return "", fmt.Errorf("cannot wait for a thread to block in %q", args[1])
	}
	return "", r.until(args[1], func() (string, error) { return t.blockedIn(args[1]) })
}

// doSignal interrupts a thread's system call with a signal.
func doSignal(r *sandbox, _ struct{}, args []string) (string, error) {
	t, err := r.thread(args[0])
	if err != nil {
		return "", err
	}
	if args[1] != "USR1" {
		return "", fmt.Errorf("threads block all signals but USR1, not %q", args[1])
	}
	return "", t.interrupt(unix.SIGUSR1)
}

// doSysctl changes a setting of the scenario's namespace.
func doSysctl(_ *sandbox, _ struct{}, args []string) (string, error) {
	key, value, err := setting(args[0])
	if err != nil {
		return "", err
	}
	return "", os.WriteFile(sysctlPath(key), []byte(value), 0o644)
}

// doGlobal changes a setting of the whole machine until restore or the end of the run.
func doGlobal(r *sandbox, _ struct{}, args []string) (string, error) {
	key, value, err := setting(args[0])
	if err != nil {
		return "", err
	}
	return "", r.setGlobal(key, sysctlPath(key), value)
}

func doRestore(r *sandbox, _ struct{}, args []string) (string, error) {
	return "", r.restore(args[0])
}

func setting(text string) (key, value string, err error) {
	key, value, ok := strings.Cut(text, "=")
	if !ok || strings.ContainsAny(key, "/") || strings.Contains(key, "..") {
		return "", "", fmt.Errorf("want KEY=VALUE, not %q", text)
	}
	return key, value, nil
}

// doCounter waits until a kernel counter has moved by at least N.
func doCounter(r *sandbox, _ struct{}, args []string) (string, error) {
	want, err := parseCounterWant(strings.Join(args, " "), 0)
	if err != nil {
		return "", err
	}
	return "", r.until("enough", func() (string, error) {
		now, err := netns.ThreadCounters()
		moved := now[want.Name] - r.base[want.Name]
		if moved >= want.Least {
			return "enough", err
		}
		return fmt.Sprintf("%s moved by %d", want.Name, moved), err
	})
}

// doRequests waits until a listener has N handshakes in progress.
func doRequests(r *sandbox, _ struct{}, args []string) (string, error) {
	return "", r.until(args[1], func() (string, error) {
		all, err := entries()
		n := 0
		for _, e := range all {
			if e.state == "SYN_RECV" && e.Local == r.res.Sockets[args[0]].Local {
				n++
			}
		}
		return strconv.Itoa(n), err
	})
}

// awaitState waits until a socket is in a state, or in one of several: a|b.
func (r *sandbox) awaitState(name, want string) error {
	return r.until(want, func() (string, error) {
		state, err := r.tcpState(name)
		for one := range strings.SplitSeq(want, "|") {
			if state == one {
				state = want
				break
			}
		}
		return state, err
	})
}
