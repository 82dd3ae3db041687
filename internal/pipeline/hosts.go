package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"syscall"
	"time"

	"github.com/closetrace/closetrace/internal/bothends"
	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/rawevent"
	"github.com/closetrace/closetrace/internal/record"
	"github.com/closetrace/closetrace/internal/sink"
)

// ReplayHosts carries the events of several recordings to out, as one stream by the clock of the first one, and prints
// one summary. It reads them twice: the two ends of connections are found first.
func ReplayHosts(ctx context.Context, recordings []Files, out Sink, o ReplayOptions) error {
	_, err := replayHosts(ctx, recordings, out, o)
	return err
}

// replayHosts is [ReplayHosts], and returns the summary.
func replayHosts(ctx context.Context, recordings []Files, out Sink, o ReplayOptions) (*sink.Summary, error) {
	r := &hostsReplay{o: o, out: out, sum: &sink.Summary{SummaryOptions: o.Summary}}
	for i, files := range recordings {
		h := files.Header
		fmt.Fprintf(o.Stderr, "closetrace: replay of %s, recorded on %s by %s\n",
			sink.Tame(record.Name(files.Files)), sink.Tame(cmp.Or(h.Host, "a host without a name")+", "+h.Kernel),
			sink.Tame(h.Attach))
		r.recordings = append(r.recordings, &hostRecording{Files: files, index: i})
	}
	if err := r.find(ctx); err != nil {
		return r.sum, err
	}
	Begin(out, recordings[0].Header)
	err := r.merge(ctx)
	if errors.Is(err, syscall.EPIPE) {
		ReportOutputClosed(o.Stderr)
		return r.sum, nil
	}
	r.sum.Unwritten = linesLost(err) // the streams of the recordings do not write
	for _, rec := range r.recordings {
		r.finish(ctx, rec)
		err = cmp.Or(err, rec.err)
	}
	if printErr := r.print(recordings[0].Header); err == nil {
		err = printErr
	}
	return r.sum, err
}

// hostsReplay is a replay of several recordings.
type hostsReplay struct {
	o          ReplayOptions
	out        Sink
	recordings []*hostRecording
	found      *bothends.Result
	sum        *sink.Summary
	shown      uint64
}

// hostRecording is one of its recordings.
type hostRecording struct {
	Files
	index  int
	number int // of endings so far
	src    *recorded
	stream *Stream
	part   *sink.Summary
	err    error
}

// open begins to read a recording, with another sink.
func (r *hostRecording) open(o ReplayOptions, to Sink) error {
	rewinds(r.Files.Files)
	in, err := record.Join(r.Files.Files, rawevent.Recorded)
	if err != nil {
		return err
	}
	in.Name = cmp.Or(in.Name, record.Name(r.Files.Files))
	r.number, r.src = 0, &recorded{Reader: in, filter: o.Events}
	o.Resolvers.Owner = in.SetOwner
	r.stream = New(r.src, to, o.Options)
	return nil
}

// find finds the two ends of connections. Filters of endings come after it.
func (r *hostsReplay) find(ctx context.Context) error {
	var all []bothends.Recording
	for _, rec := range r.recordings {
		all = append(all, bothends.Recording{Name: record.Name(rec.Files.Files), Header: rec.Header})
	}
	j := bothends.New(all)
	for _, rec := range r.recordings {
		o := ReplayOptions{Events: r.o.Events, Options: Options{Stderr: io.Discard, ReportError: func(error) {}}}
		o.Amend = func(e *events.Ending) bool {
			j.Add(rec.index, e)
			return false
		}
		if err := rec.open(o, DiscardSink{}); err != nil {
			return err
		}
		// An error of the recording is that of the second time.
		if err := rec.stream.replay(ctx); err != nil && ctx.Err() == nil && !errors.As(err, new(*record.Damage)) {
			return err
		}
	}
	r.found = j.Conclude()
	if s, ok := r.out.(interface{ Hosts([]*events.Host) }); ok && len(r.found.Clocks) > 1 {
		s.Hosts(j.Hosts())
	}
	for i, h := range j.Hosts() {
		label := h.Label
		if len(r.found.Clocks) < len(r.recordings) { // several of one host
			label = all[i].Name
		}
		r.recordings[i].part = &sink.Summary{Label: label}
	}
	return nil
}

// Observe counts what does not reach the sink.
func (r *hostsReplay) Observe(e *events.Ending, shown bool) {
	switch {
	case !shown:
		r.sum.LeaveOut(e)
	case r.o.Summary.HidesNoEffect && e.HasNoEffect():
		r.sum.Add(e)
	}
}

// errStopped ends a stream whose endings are not asked for any more.
var errStopped = errors.New("stopped")

// yieldSink passes endings to a loop.
type yieldSink struct {
	DiscardSink
	yield func(*events.Ending) bool
}

func (s yieldSink) Write(e *events.Ending) error {
	if !s.yield(e) {
		return errStopped
	}
	return nil
}

// endings yields the endings of a recording that are to be shown, in the order of its replay.
func (r *hostsReplay) endings(ctx context.Context, rec *hostRecording) iter.Seq[*events.Ending] {
	return func(yield func(*events.Ending) bool) {
		o := r.o
		o.Limit = 0
		h := rec.Header
		rec.part.Audit = &sink.Audit{
			Netns: h.AuditNetns, Missing: h.Missing, ByTracepoint: h.ByTracepoint(),
		}
		o.Observers = append(o.Observers[:len(o.Observers):len(o.Observers)], r, auditObserver{rec.part.Audit})
		o.Amend = func(e *events.Ending) bool {
			isNew := r.found.Complete(rec.index, rec.number, e)
			rec.number++
			if !isNew {
				rec.part.Audit.Add(e) // the counters of this recording have it as well
			}
			if len(r.found.Clocks) == 1 {
				e.Host = nil
			}
			return isNew
		}
		if rec.err = rec.open(o, yieldSink{yield: yield}); rec.err != nil {
			return
		}
		if err := rec.stream.replay(ctx); !errors.Is(err, errStopped) {
			rec.err = err
		}
	}
}

// merge writes the endings of all recordings by time.
func (r *hostsReplay) merge(ctx context.Context) error {
	type head struct {
		next  func() (*events.Ending, bool)
		first *events.Ending
		at    time.Time
	}
	var heads []*head
	advance := func(h *head) (ok bool) {
		if h.first, ok = h.next(); ok {
			h.at = r.found.After(h.first)
		}
		return ok
	}
	for _, rec := range r.recordings {
		next, stop := iter.Pull(r.endings(ctx, rec))
		defer stop()
		if h := (&head{next: next}); advance(h) {
			heads = append(heads, h)
		}
	}
	for len(heads) > 0 && !r.isFull() {
		earliest := 0
		for i, h := range heads {
			if h.at.Before(heads[earliest].at) {
				earliest = i
			}
		}
		h := heads[earliest]
		r.shown++
		r.sum.Add(h.first)
		if err := r.out.Write(h.first); err != nil {
			return OutputFailure(err)
		}
		if !advance(h) {
			heads = append(heads[:earliest], heads[earliest+1:]...)
		}
	}
	return OutputFailure(r.out.Close())
}

func (r *hostsReplay) isFull() bool { return r.o.Limit > 0 && r.shown >= r.o.Limit }

// finish reads a recording to its end, and completes the summary by it.
func (r *hostsReplay) finish(ctx context.Context, rec *hostRecording) {
	if rec.stream == nil {
		return
	}
	if rec.err == nil && r.isFull() {
		rec.err = rec.src.skip(ctx)
	}
	part := rec.part
	part.Took, part.Undecodable = rec.src.took(), rec.stream.undecodable
	part.Unexplained = rec.stream.classifier.Unexplained
	restore(part, rec.src.End)
	r.o.limitAudit(part.Audit, rec.stream)
	if r.isFull() {
		part.Audit.Skip(LimitReached)
	}
	rec.err = rec.src.outcome(ctx, rec.err)
	r.sum.Took = max(r.sum.Took, part.Took)
	r.sum.LostRecords += part.LostRecords
	r.sum.MissedProbes += part.MissedProbes
	r.sum.Suppressed += part.Suppressed
	r.sum.Undecodable += part.Undecodable
	r.sum.Unexplained += part.Unexplained
	r.sum.NoEnd = r.sum.NoEnd || part.NoEnd
	r.sum.Parts = append(r.sum.Parts, part)
}

// print prints the summary.
func (r *hostsReplay) print(h events.Header) error {
	f := r.found
	both := &sink.BothEnds{
		Joined: f.Joined, ByAddress: f.ByAddress, Resets: f.Resets, Ambiguous: f.Ambiguous, OneEnd: f.OneEnd,
		Twice: f.Twice, Beyond: f.Beyond,
	}
	for _, c := range f.Clocks {
		both.Clocks = append(both.Clocks, sink.Clock{
			Label: c.Host.Label, Host: c.Host.Name, BootID: c.Host.BootID,
			AheadNS: int64(c.Ahead), SpreadNS: int64(c.Spread), Samples: c.Samples,
		})
	}
	r.sum.BothEnds = both
	if pass := r.o.OnSummary; pass != nil {
		for _, rec := range r.recordings {
			pass(rec.Header, rec.part)
		}
		pass(h, r.sum)
	}
	err := r.sum.Print(r.o.Stderr)
	if r.o.SummaryTo == nil {
		return err
	}
	return cmp.Or(OutputFailure(r.sum.PrintJSON(r.o.SummaryTo, h)), err)
}

// Files are the files of one recording.
type Files struct {
	Files  []*os.File
	Header events.Header
}

// Recordings returns the recordings in files: those of one run are one, in the place of its first. A file that is named
// twice is read once, and that is reported. They must be files that can be read twice.
func Recordings(files []*os.File, stderr io.Writer) ([]Files, error) {
	files, err := distinct(files, stderr)
	if err != nil {
		return nil, err
	}
	in, err := record.Join(files, rawevent.Recorded)
	switch {
	case err == nil:
		rewinds(files)
		return []Files{{files, in.Header}}, nil
	case len(files) == 1:
		return nil, err
	}
	return grouped(files)
}

// distinct returns the files without those that were named before.
func distinct(files []*os.File, stderr io.Writer) (kept []*os.File, err error) {
	var infos []os.FileInfo
	for _, file := range files {
		info, err := file.Stat()
		if err != nil {
			return nil, err
		}
		isKnown := false
		for _, other := range infos {
			isKnown = isKnown || os.SameFile(info, other)
		}
		if isKnown {
			fmt.Fprintf(stderr, "closetrace: %s is named twice, and read once\n", sink.Tame(file.Name()))
			continue
		}
		infos, kept = append(infos, info), append(kept, file)
	}
	return kept, nil
}

// grouped returns files by their runs. One that ends in its header goes with the file before it, as names sort.
func grouped(files []*os.File) (all []Files, err error) {
	byRun := map[[3]string]int{}
	last := 0
	var ahead []*os.File // end in their headers, before any other
	rewinds(files)
	for _, file := range files {
		in, err := record.Read(file, rawevent.Recorded)
		switch {
		case record.EndsInHeader(err) && len(all) == 0:
			ahead = append(ahead, file)
			continue
		case record.EndsInHeader(err):
			all[last].Files = append(all[last].Files, file)
			continue
		case err != nil:
			return nil, err
		}
		h := in.Header
		run := [3]string{h.Host, h.BootID, h.Run}
		if i, known := byRun[run]; known && h.Run != "" {
			all[i].Files, last = append(all[i].Files, file), i
			continue
		}
		last, byRun[run] = len(all), len(all)
		all = append(all, Files{append(ahead, file), h})
		ahead = nil
	}
	if len(all) == 0 {
		rewinds(files)
		_, err := record.Read(files[0], rawevent.Recorded)
		return nil, err
	}
	for i := range all {
		if !rewinds(all[i].Files) {
			return nil, hint.New(hint.Usage, all[i].Files[0].Name()+" can be read only once", "name files")
		}
		in, err := record.Join(all[i].Files, rawevent.Recorded)
		if err != nil {
			return nil, err
		}
		all[i].Header = in.Header
	}
	return all, nil
}
