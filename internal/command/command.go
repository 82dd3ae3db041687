// Package command runs the command of closetrace run: in a cgroup of its own, by
// which its endings are found among those of the machine.
package command

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/closetrace/closetrace/internal/hint"
)

// Command is a command that is started once.
type Command struct {
	child   *exec.Cmd
	signals *forwarder
	done    chan struct{}
}

// New prepares the command argv, which inherits three files. The error says that
// there is no such command, or that it cannot be executed.
func New(argv []string, stdin, stdout, stderr *os.File) (*Command, error) {
	child := exec.Command(argv[0], argv[1:]...)
	child.Stdin, child.Stdout, child.Stderr = stdin, stdout, stderr
	child.SysProcAttr = &syscall.SysProcAttr{}
	if err := cannotRun(child.Err); err != nil {
		return nil, err
	}
	return &Command{child: child, done: make(chan struct{})}, nil
}

// cannotRun gives err the exit code of a shell.
func cannotRun(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, exec.ErrNotFound) {
		return hint.As(hint.NoCommand, err)
	}
	return hint.As(hint.CannotRun, err)
}

// Start starts the command in group and forwards signals to it until [Command.Close].
// It does not start it if ctx has ended: a signal that arrives during Start is
// either in ctx or forwarded.
func (c *Command) Start(ctx context.Context, group Group) error {
	group.Join(c.child.SysProcAttr)
	c.signals = catchSignals()
	err := ctx.Err()
	if err != nil {
		err = hint.New(hint.Untraced, "interrupted before the command was started", "")
	} else {
		err = cannotRun(c.child.Start())
	}
	if err != nil {
		c.signals.stop()
		return err
	}
	c.signals.forward(c.child.Process)
	go func() {
		defer close(c.done)
		_ = c.child.Wait() // ProcessState has the result
	}()
	return nil
}

// Done returns a channel that is closed when the command has ended.
func (c *Command) Done() <-chan struct{} { return c.done }

// keyDelay is how much later than the command this process may have the signal of a key.
const keyDelay = 100 * time.Millisecond

// Wait waits until the command has ended. If Ctrl-C ended it, the same key interrupts this process: Wait waits for that
// as well, but not for long, as somebody else may have sent the signal.
func (c *Command) Wait(interrupted <-chan struct{}) {
	<-c.done
	if c.signal() == syscall.SIGINT {
		select {
		case <-interrupted:
		case <-time.After(keyDelay):
		}
	}
}

// Close stops the forwarding of signals.
func (c *Command) Close() { c.signals.stop() }

// String describes how the command ended, for example "exit status 1". The command
// must have ended.
func (c *Command) String() string { return c.child.ProcessState.String() }

// Status returns the exit status of the command as an error, nil for 0. The
// command must have ended.
func (c *Command) Status() error {
	return hint.Status(c.child.ProcessState.ExitCode(), int(c.signal()))
}

// signal returns the signal that ended the command, or 0.
func (c *Command) signal() syscall.Signal {
	if status, ok := c.child.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return status.Signal()
	}
	return 0
}
