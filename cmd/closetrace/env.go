package main

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/closetrace/closetrace/internal/enrich"
	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/kernel"
	"github.com/closetrace/closetrace/internal/probe"
	"github.com/closetrace/closetrace/internal/runtimes"
	"github.com/closetrace/closetrace/internal/sink"
)

// env is all of the world that commands touch, so that tests can give them
// another one.
type env struct {
	args            []string
	stdout, stderr  io.Writer
	ended           <-chan struct{} // closed once the user wants the end
	width, errWidth int             // of both in cells; 0 is without limit
	color, errColor bool            // whether --color auto means colours
	term            string          // what terminal it is, as xterm
	locale          string          // for messages, as zh_CN.UTF-8
	unread          func() bool     // whether nobody reads standard output any more
	open            func(context.Context, probe.Options) (source, error)
	// examine tries what can be traced on this machine.
	examine    func(context.Context) (*machine, error)
	privileges func() []kernel.Privilege
	// drop gives up privileges for good: [kernel.DropPrivileges].
	drop   func(entersNetns bool) error
	finder finder
	files  [3]*os.File // that a command inherits
	// cgroups names those of an event: [enrich.Cgroups].
	cgroups func() (func(*events.Event), error)
	group   func() (group, error) // for a command
	// runtimes are those of containers: [runtimes.System]. An event waits for an answer
	// as long as answerIn.
	runtimes []*runtimes.API
	answerIn time.Duration
	// counters reads those of a network namespace, as netnsCounters does.
	counters func(path string, inode uint32) (sink.Counters, error)
	// What stuck asks: as byIterators and bySockDiag.
	iterators func(trace bool, log *slog.Logger) (*stuckSource, error)
	sockDiag  func() *stuckSource
	// boot is this one, as in the header of a record.
	boot func() (release string, wallOffsetNS int64)
}

// source is where facts come from: a probe, or a test.
type source interface {
	Header() events.Header
	Read(*events.Event) error // as of [probe.Probe]
	IdleNS() uint64
	Losses() probe.Losses
	Detach() error
	Close() error
}

// system is this machine.
func system() *env {
	return &env{
		args:     os.Args[1:],
		stdout:   os.Stdout,
		stderr:   os.Stderr,
		width:    outputWidth(os.Stdout, os.Getenv("COLUMNS")),
		errWidth: outputWidth(os.Stderr, os.Getenv("COLUMNS")),
		color:    isTerminal(os.Stdout) && colorful(os.Getenv),
		errColor: isTerminal(os.Stderr) && colorful(os.Getenv),
		term:     os.Getenv("TERM"),
		locale:   cmp.Or(os.Getenv("LC_ALL"), os.Getenv("LC_MESSAGES"), os.Getenv("LANG")),
		unread:   func() bool { return pipeClosed(os.Stdout) },
		open:     attach,
		examine:  examine,

		privileges: kernel.Privileges,
		drop:       kernel.DropPrivileges,
		finder: finder{
			proc: "/proc", named: "/run/netns", inode: netnsInode,
			cgroups: func() (enrich.CgroupMount, error) { return enrich.FindCgroups("/proc") },
		},

		files:    [3]*os.File{os.Stdin, os.Stdout, os.Stderr},
		cgroups:  nameCgroups,
		group:    func() (group, error) { return newCgroup("/proc") },
		runtimes: runtimes.System(os.Getenv),
		answerIn: runtimes.Patience,
		counters: netnsCounters,

		iterators: byIterators,
		sockDiag:  bySockDiag,
		boot:      func() (string, int64) { return kernel.Release(), kernel.WallOffset() },
	}
}

func nameCgroups() (func(*events.Event), error) {
	c, err := enrich.NewCgroups("/proc")
	if err != nil {
		return nil, err
	}
	return c.Fill, nil
}

// outputWidth is COLUMNS if it is set, or else the width of the terminal; a
// file or pipe has no limit.
func outputWidth(f *os.File, columns string) int {
	if n, err := strconv.Atoi(columns); err == nil && n > 0 {
		return n
	}
	if n, _, err := term.GetSize(int(f.Fd())); err == nil {
		return n
	}
	return 0
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// colorful tells whether a terminal shows colours, and its user wants to see
// them (NO_COLOR).
func colorful(getenv func(string) string) bool {
	kind := getenv("TERM")
	return getenv("NO_COLOR") == "" && kind != "" && kind != "dumb"
}

// attachMemory is what attaching is to make do with, by collecting what it can: 14 MB are in use at once, and with
// 16 MB most of the time went into that.
const attachMemory = 20 << 20

// attach begins a trace. Most of what a trace ever allocates is the kernel's type
// information, now. It is collected early.
// Later there is little garbage, and memory that grows is what events need.
func attach(ctx context.Context, o probe.Options) (source, error) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(25)
		defer debug.SetGCPercent(50)
		defer debug.SetMemoryLimit(debug.SetMemoryLimit(attachMemory))
	}
	p, err := probe.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// pipeClosed tells whether f is a pipe or socket whose other end is closed,
// which a program otherwise learns from its next write only.
func pipeClosed(f *os.File) bool {
	poll := []unix.PollFd{{Fd: int32(f.Fd())}}
	n, err := unix.Poll(poll, 0)
	return err == nil && n == 1 && poll[0].Revents&unix.POLLERR != 0
}
