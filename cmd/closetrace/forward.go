package main

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// forwarding is the signals that are meant for a command.
type forwarding chan os.Signal

// forwarded begins to catch them.
func forwarded() forwarding {
	f := make(forwarding, 16)
	signal.Notify(f, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2)
	return f
}

// to passes them on to a process until the returned function is called.
func (f forwarding) to(p *os.Process) (stop func()) {
	go func() {
		for sig := range f {
			if !fromTerminal(sig) {
				_ = p.Signal(sig) // it may have ended
			}
		}
	}()
	return func() {
		signal.Stop(f)
		close(f)
	}
}

// fromTerminal: a key like Ctrl-C signals the whole foreground process group of
// the terminal, of which the command is one, too. It should not get it twice.
func fromTerminal(sig os.Signal) bool {
	if sig != syscall.SIGINT && sig != syscall.SIGQUIT {
		return false
	}
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer tty.Close()
	foreground, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && foreground == unix.Getpgrp()
}
