package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/filter"
	"github.com/closetrace/closetrace/internal/probe"
	"github.com/closetrace/closetrace/internal/record"
	"github.com/closetrace/closetrace/internal/sink"
)

const replayAbout = `closetrace replay tells again what closetrace -w FILE recorded, on any Linux machine:
it needs no privileges, and nothing of the kernel that was traced.

With the same flags it prints the same. A record holds all that its run's filters
let in, whatever was shown, so that a replay may show more or less of it. A file
that is damaged is read to the last line that is whole.
`

const replayExamples = `Examples:
  sudo closetrace -w today.rec.zst
  closetrace replay today.rec.zst
  closetrace replay --errors -o wide today.rec.zst
  TZ=UTC closetrace replay today.rec.zst       the clock of another time zone
`

// replayFlags are what the command line says about a replay.
type replayFlags struct {
	filter facts
	shown  filter.Endings
	output format
	color  colorWhen
	count  uint64
}

func newReplay(e *env) *cobra.Command {
	r := &replayFlags{output: formatTable, color: colorAuto}
	cmd := &cobra.Command{
		Use:   "replay FILE [flags]",
		Short: "Tell again what closetrace -w FILE recorded",
		Args:  oneFile,
		RunE:  func(cmd *cobra.Command, files []string) error { return r.run(cmd.Context(), e, files[0]) },

		DisableFlagsInUseLine: true,
	}
	g := newGroup("Output")
	g.flags.VarP(outputChoice(&r.output), "output", "o", "table; wide: with all evidence; json: an object per line")
	colorFlag(g.flags, &r.color)
	g.flags.Uint64Var(&r.count, "count", 0, "stop after `N` endings")
	g.flags.BoolP("help", "h", false, "print this")
	m := manual{
		about:  replayAbout,
		groups: []flagGroup{r.filter.flags("inode:`N`"), endingFlags(&r.shown), g},
		tail:   exitCodes + "\n" + replayExamples,
	}
	m.attach(cmd)
	completeEndings(cmd, "only", "not")
	complete(cmd, "output", outputChoice(&r.output).words())
	complete(cmd, "color", colorChoice(&r.color).words())
	return cmd
}

func oneFile(cmd *cobra.Command, args []string) error {
	switch len(args) {
	case 0:
		return &usageError{"no file to replay", seeHelp(cmd)}
	case 1:
		return nil
	}
	return &usageError{fmt.Sprintf("unexpected argument %q", args[1]), "one file at a time"}
}

func (r *replayFlags) run(ctx context.Context, e *env, path string) (err error) {
	switch {
	case r.filter.netns == "":
	case !strings.HasPrefix(r.filter.netns, "inode:"):
		return &usageError{"a record knows network namespaces by their inode numbers alone", "say --netns inode:N; -o wide shows N in the column NETNS"}
	default:
		if r.filter.Netns, err = e.finder.netns(r.filter.netns); err != nil {
			return err
		}
	}
	in, file, err := record.Open(path)
	if err != nil {
		return noRecord(path, err)
	}
	defer file.Close()
	out, err := newSink(e, r.output, r.color)
	if err != nil {
		return err
	}
	h := in.Header
	fmt.Fprintln(e.stderr, oneLine(fmt.Sprintf("closetrace: replay of %s, recorded on %s by %s", path, h.Kernel, h.Attach)))
	src := &replayed{Reader: in, path: path, facts: r.filter.recorded()}
	s := newStream(e, src, out, r.count)
	s.wanted = r.shown.Wants
	return r.tell(ctx, e, s, src)
}

// noRecord is for what cannot be replayed at all.
func noRecord(path string, err error) error {
	var file *fs.PathError
	if errors.As(err, &file) {
		return &usageError{err.Error(), "closetrace -w FILE records one"}
	}
	return fmt.Errorf("%s is not a record that can be read: %w", path, err)
}

// tell lets the record flow, and then tells what the run that made it told at
// its end.
func (r *replayFlags) tell(ctx context.Context, e *env, s *stream, src *replayed) error {
	h := src.Reader.Header
	sum := sink.Summary{Audit: &sink.Audit{
		Netns: h.AuditNetns, Missing: h.Missing, ByTracepoint: h.Attach == string(probe.Tracepoint),
	}}
	s.taken, s.leftOut, s.either = sum.Add, sum.LeaveOut, sum.Audit.Add
	err := s.replay(ctx)
	if errors.Is(err, syscall.EPIPE) {
		fmt.Fprintln(e.stderr, "closetrace: whoever read the output has closed it; ended")
		return nil
	}
	if err == nil && s.full() {
		err = src.skip(ctx)
	}
	sum.Took, sum.Undecodable, sum.Unexplained = src.took(), s.undecodable, s.classifier.Unexplained
	restore(&sum, src.End)
	if why := r.uncounted(s, h); why != "" {
		sum.Audit.Impossible = cmp.Or(sum.Audit.Impossible, why)
	}
	if printErr := sum.Print(e.stderr); err == nil {
		err = printErr
	}
	return src.outcome(ctx, err)
}

// uncounted is why the counters in the record say nothing of this replay.
func (r *replayFlags) uncounted(s *stream, h events.Header) string {
	switch {
	case s.full():
		return countEnded
	case r.filter.narrow():
		return filtersUncounted
	case r.filter.Netns != 0 && r.filter.Netns != h.AuditNetns:
		return "the record has the counters of another network namespace"
	}
	return ""
}

// incomplete is a record that is not whole.
type incomplete struct{ what, hint string }

func (i *incomplete) Error() string { return i.what }

// Hint says what was made of it.
func (i *incomplete) Hint() string { return i.hint }

// replay lets recorded facts flow until there are no more.
func (s *stream) replay(ctx context.Context) error {
	err := s.live(ctx)
	if finishErr := s.finish(); err == nil || errors.Is(err, io.EOF) {
		err = finishErr
	}
	return err
}

// replayed is a source of recorded facts.
type replayed struct {
	*record.Reader
	path        string
	facts       filter.Facts
	first, last uint64 // CLOCK_MONOTONIC of what was read
}

func (r *replayed) Header() events.Header { return r.Reader.Header }

func (r *replayed) IdleNS() uint64 { return r.Reader.IdleNS }

func (r *replayed) Read(ev *events.Event) error {
	for {
		err := r.Reader.Read(ev)
		if errors.Is(err, record.ErrIdle) {
			return probe.ErrIdle
		}
		if err != nil {
			return err
		}
		if r.first == 0 {
			r.first = ev.MonoNS
		}
		r.last = max(r.last, ev.MonoNS)
		if r.facts.Wants(ev) {
			return nil
		}
	}
}

// skip reads to the end and lets nothing flow.
func (r *replayed) skip(ctx context.Context) error {
	var ev events.Event
	for ctx.Err() == nil {
		err := r.Reader.Read(&ev)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if errors.As(err, new(*record.Damage)) {
			return err
		}
	}
	return nil
}

// outcome is err, or else what is wrong with the record.
func (r *replayed) outcome(ctx context.Context, err error) error {
	var damage *record.Damage
	switch {
	case errors.As(err, &damage):
		return &incomplete{fmt.Sprintf("%s is damaged: %v", r.path, damage), "what comes before that line was shown"}
	case err == nil && ctx.Err() == nil && r.End == nil:
		return &incomplete{r.path + " has no end: it was cut, or closetrace was killed while it recorded", "what is there was shown"}
	}
	return err
}

// took is how long the run lasted, as far as its facts tell.
func (r *replayed) took() time.Duration { return time.Duration(r.last - min(r.first, r.last)) }

// Losses, Detach and Close are for sources that are live.
func (r *replayed) Losses() probe.Losses { return probe.Losses{} }
func (r *replayed) Detach() error        { return nil }
func (r *replayed) Close() error         { return nil }
