package command

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// forwarder passes signals on to a process.
type forwarder struct{ caught chan os.Signal }

// forwarded are the signals that are for the command.
var forwarded = []os.Signal{
	syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2,
}

// catchSignals catches the signals that are for the command, except those that this process ignores, such as SIGHUP
// under nohup(1), or SIGINT as a background job of a script. The command inherits that, but not from a process that
// catches the signal. The Go runtime itself catches all others.
func catchSignals() *forwarder {
	f := &forwarder{make(chan os.Signal, 16)}
	for _, sig := range forwarded {
		if !signal.Ignored(sig) {
			signal.Notify(f.caught, sig)
		}
	}
	return f
}

// forward passes the signals on to p until stop is called.
func (f *forwarder) forward(p *os.Process) {
	go func() {
		for sig := range f.caught {
			if !fromTerminal(sig, p.Pid) {
				_ = p.Signal(sig) // it may have ended
			}
		}
	}()
}

func (f *forwarder) stop() {
	signal.Stop(f.caught)
	close(f.caught)
}

// fromTerminal reports whether the terminal has sent sig to the command as well: a key such as Ctrl-C signals the whole
// foreground process group. It says so of every SIGINT or SIGQUIT while the command is in that group, because Go does
// not report who sent a signal, and a command that gets one twice may skip its cleanup.
func fromTerminal(sig os.Signal, pid int) bool {
	if sig != syscall.SIGINT && sig != syscall.SIGQUIT {
		return false
	}
	own := unix.Getpgrp()
	if group, err := unix.Getpgid(pid); err != nil || group != own { // such as that of setsid(1)
		return false
	}
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer tty.Close()
	foreground, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && foreground == own
}
