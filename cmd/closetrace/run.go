package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/filter"
	"github.com/closetrace/closetrace/internal/probe"
	"github.com/closetrace/closetrace/internal/sink"
)

const runAbout = `closetrace run traces a command and all that it starts, until the command ends: a guard
for CI. It prints to standard error, and leaves the command's input, output and
exit code as they are, unless an ending occurs that --fail-on names.

Signals are passed on. The command runs in a cgroup (v2) of its own, which tells its
processes from others. What a segment or a timer did belongs to it if one of its
processes holds the socket, or ends the same connection by a call, before or later.
`

const runExamples = `Examples:
  sudo closetrace run -- curl -s http://localhost:8080/
  sudo closetrace run --fail-on 'close.rst.*,recv.rst,app' -- go test ./...
  sudo closetrace run --fail-on errors --only errors -- ./integration-test
`

// runFlags are what the command line says about a command to be traced.
type runFlags struct {
	failOn  []filter.Pattern
	shown   filter.Endings
	output  format
	color   colorWhen
	wait    time.Duration // in CLOSE_WAIT
	stacks  bool
	names   bool
	attach  probe.Mode
	buffer  int
	verbose bool
}

func newRun(e *env) *cobra.Command {
	r := &runFlags{output: formatTable, color: colorAuto, wait: defaultCloseWait, attach: probe.Auto, buffer: probe.DefaultBufferSize}
	cmd := &cobra.Command{
		Use:   "run [flags] -- COMMAND [ARGUMENT...]",
		Short: "Trace a command and all that it starts; fail if it ends connections badly",
		RunE:  func(cmd *cobra.Command, argv []string) error { return r.run(cmd, e, argv) },

		DisableFlagsInUseLine: true,
	}
	cmd.Flags().SetInterspersed(false) // what follows the command is its own
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if err = flagError(cmd, err); errors.As(err, new(*usageError)) {
			return &exitStatus{err, exitUntraced}
		}
		return err
	})
	g := newGroup("Flags")
	g.flags.Var(patterns{&r.failOn}, "fail-on", "exit with 124 if one of these endings occurs: patterns as for --only")
	g.flags.VarP(outputChoice(&r.output), "output", "o", "table; wide: with all evidence; json: an object per line")
	colorFlag(g.flags, &r.color)
	closeWaitFlag(g, &r.wait)
	g.flags.BoolVar(&r.stacks, "stack", false, "where each call came from, in the program and in the kernel")
	namesFlag(g, &r.names)
	g.flags.Var(attachChoice(&r.attach), "attach", "how: auto takes the first that works of fentry, kprobe, tracepoint")
	g.flags.Var(size{&r.buffer}, "buffer-size", "of the ring buffer, a power of two from 64K to 1G")
	g.flags.BoolVarP(&r.verbose, "verbose", "v", false, "say what is attached, and what not, why")
	g.flags.BoolP("help", "h", false, "print this")
	m := manual{about: runAbout, groups: []flagGroup{g, endingFlags(&r.shown)}, tail: runExitCodes + "\n" + runExamples}
	m.attach(cmd)
	completeEndings(cmd, "only", "not", "fail-on")
	complete(cmd, "output", outputChoice(&r.output).words())
	complete(cmd, "color", colorChoice(&r.color).words())
	complete(cmd, "attach", attachChoice(&r.attach).words())
	return cmd
}

func (r *runFlags) run(cmd *cobra.Command, e *env, argv []string) error {
	if len(argv) == 0 {
		return &exitStatus{&usageError{"no command to run", seeHelp(cmd)}, exitUntraced}
	}
	if err := checkCloseWait(r.wait); err != nil {
		return &exitStatus{err, exitUntraced}
	}
	child, err := newChild(e, argv)
	if err != nil {
		return err
	}
	src, err := e.open(cmd.Context(), probe.Options{
		Attach: r.attach, BufferSize: r.buffer, Stacks: r.stacks, CloseWait: r.wait, Log: logger(e, r.verbose),
	})
	if err != nil {
		return &exitStatus{err, exitUntraced}
	}
	defer src.Close()
	group, err := e.group()
	if err != nil {
		return &exitStatus{err, exitUntraced}
	}
	defer empty(e.stderr, group)
	return r.trace(cmd.Context(), e, src, child, group)
}

// empty takes the command's cgroup away.
func empty(stderr io.Writer, g group) {
	left, err := g.Close()
	if left > 0 {
		fmt.Fprintf(stderr, "closetrace: the command left processes behind, which go on and are not traced any more: %d\n", left)
	}
	if err != nil {
		fmt.Fprintln(stderr, "closetrace: "+oneLine("the command's cgroup stays: "+err.Error()))
	}
}

// newChild is the command, not yet started.
func newChild(e *env, argv []string) (*exec.Cmd, error) {
	child := exec.Command(argv[0], argv[1:]...)
	child.Stdin, child.Stdout, child.Stderr = e.files[0], e.files[1], e.files[2]
	child.SysProcAttr = &syscall.SysProcAttr{}
	return child, cannotRun(child.Err)
}

// cannotRun is err with the exit code that shells give.
func cannotRun(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, exec.ErrNotFound):
		return &exitStatus{err, exitNoCommand}
	}
	return &exitStatus{err, exitCannotRun}
}

// trace runs the child while its endings are told.
func (r *runFlags) trace(ctx context.Context, e *env, src source, child *exec.Cmd, group group) error {
	out, err := newSinkTo(e.patient(e.stderr), r.output, sink.TableOptions{Width: e.errWidth, Color: r.color.means(e.errColor)})
	if err != nil {
		return &exitStatus{err, exitUntraced}
	}
	h := src.Header()
	fmt.Fprintf(e.stderr, "closetrace: tracing %s on %s by %s\n", oneLine(child.Args[0]), oneLine(h.Kernel), h.Attach)
	g := &guard{runFlags: r, out: out, failed: map[events.Path]int{}}
	look := e.lookUps(logger(e, r.verbose), r.stacks, r.names)
	s := newStream(e, src, newClaim(group, g.tell), 0)
	s.lookUp(look, false)
	s.unread = func() bool { return false }
	group.Join(child.SysProcAttr)
	signals := forwarded()
	if err := ctx.Err(); err != nil {
		return &exitStatus{errors.New("interrupted before the command was started"), exitUntraced}
	}
	if err := child.Start(); err != nil {
		return cannotRun(err)
	}
	defer signals.to(child.Process)()
	return g.finish(e.stderr, g.wait(ctx, s, child), child.ProcessState)
}

// guard tells the endings of the command, and whether there was one that should
// not be.
type guard struct {
	*runFlags
	out    endings
	sum    sink.Summary
	failed map[events.Path]int
}

// tell takes an ending of the command's. That it cannot be printed does not
// keep it from being judged.
func (g *guard) tell(e *events.Ending) {
	if filter.Any(g.failOn, e) {
		g.failed[e.Path]++
	}
	if !g.shown.Wants(e) {
		g.sum.LeaveOut(e)
		return
	}
	g.sum.Add(e)
	_ = cmp.Or(g.out.Write(e), g.out.Flush())
}

// wait lets the stream flow until the child ends.
func (g *guard) wait(ctx context.Context, s *stream, child *exec.Cmd) error {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx)) // a signal is for the child to act on
	defer stop()
	begin := time.Now()
	go func() {
		// How it ended is in its ProcessState.
		_ = child.Wait()
		stop()
	}()
	losses, err := s.flow(ctx)
	<-ctx.Done()
	g.sum.Took = time.Since(begin)
	g.sum.LostRecords, g.sum.MissedProbes, g.sum.Suppressed = losses.LostRecords, losses.MissedProbes, losses.Suppressed
	g.sum.Undecodable, g.sum.Unexplained = s.undecodable, s.classifier.Unexplained
	return err
}

// finish tells how much it was, and returns the exit code as an error.
func (g *guard) finish(stderr io.Writer, err error, child *os.ProcessState) error {
	if g.sum.Endings() > 0 {
		_ = g.out.Close()
	}
	_ = g.sum.Print(stderr)
	if len(g.failOn) > 0 && g.sum.LostRecords+g.sum.MissedProbes > 0 {
		fmt.Fprintln(stderr, "closetrace: what was lost or missed may have been an ending of --fail-on")
	}
	if len(g.failed) > 0 {
		return &exitStatus{fmt.Errorf("--fail-on: %s; %s", g.failures(), ended(child)), exitFailOn}
	}
	if err != nil {
		return &exitStatus{fmt.Errorf("the command was not traced to its end, %s: %w", ended(child), err), exitUntraced}
	}
	return passOn(child)
}

// failures lists the endings that should not be.
func (g *guard) failures() string {
	var all []string
	for _, path := range slices.Sorted(maps.Keys(g.failed)) {
		all = append(all, fmt.Sprintf("%s (%d)", path, g.failed[path]))
	}
	return strings.Join(all, ", ")
}

// ended is how the command ended, in words.
func ended(child *os.ProcessState) string { return "the command itself: " + child.String() }

// passOn is the command's exit code as an error.
func passOn(child *os.ProcessState) error {
	code := child.ExitCode()
	if status, ok := child.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		code = exitBySignal + int(status.Signal())
	}
	if code == exitOK {
		return nil
	}
	return &exitStatus{errReported, code}
}
