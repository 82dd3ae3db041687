//go:build linux

// Package live holds the tests that trace real connections on the running
// kernel, in the attach mode given by -attach. They need the privileges that
// closetrace needs.
package live

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/classify"
	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/kernel"
	"github.com/closetrace/closetrace/internal/lab"
	"github.com/closetrace/closetrace/internal/probe"
	"github.com/closetrace/closetrace/internal/record"
)

var attach = flag.String("attach", "auto", "attach `mode` to test")

func TestMain(m *testing.M) {
	if lab.RunHelper() || runWireHelper() || runRole() || runChild() || runCommandRole() {
		return
	}
	// Scenarios mostly wait. The flag may override it.
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	flag.Parse()
	if os.Getenv(runsTests) == "" {
		os.Exit(runTwice())
	}
	before()
	code := m.Run()
	if err := report.CheckRetries(); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		code = 1
	}
	if err := writeReport(os.Getenv("CLOSETRACE_REPORT")); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		code = 1
	}
	os.Exit(code)
}

// shared reads the kernel's type information once, which is most of the work of
// attaching.
var shared = probe.NewShared()

// tracer collects endings until it is stopped.
type tracer struct {
	probe    *probe.Probe
	header   events.Header
	mu       sync.Mutex
	endings  []events.Ending
	byNetns  map[uint32][]events.Ending
	readUpTo atomic.Uint64 // by the event clock: everything before was read
	done     chan error
	stop     chan struct{}
	// mayMiss: missed probes, which are counted, are for the test to judge.
	mayMiss bool
	losses  events.Losses // after finish
	self    atomic.Bool   // keep the calls of this process only
	returns []*ebpf.Program
	// noted are the closes, by network namespace, that the kernel side only noted: endings with what a note has.
	noted map[uint32][]events.Ending
	// unexplained events, after finish: no rule covers them.
	unexplained uint64
	// reported are the losses that were read as events.
	reported []events.Event
	// recording gets all events; nil: nothing is recorded. unmarked: the last thing in it is an event.
	recording *record.File
	unmarked  bool
}

// trace attaches and collects endings. Without privileges it skips the test,
// unless CLOSETRACE_LIVE=1 requires it to run.
func trace(t testing.TB, filter probe.Filter) *tracer {
	t.Helper()
	o := fullTier(t)
	o.Filter = filter
	return traceWith(t, o)
}

// fullTier returns the options of a tracer that reports everything.
func fullTier(t testing.TB) probe.Options {
	return probe.Options{
		SharedCloses: true,
		Log:          slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
}

// traceSelf traces the calls of this process.
func traceSelf(t testing.TB) *tracer {
	tr := trace(t, probe.Filter{})
	tr.self.Store(true)
	return tr
}

func traceWith(t testing.TB, o probe.Options) *tracer {
	t.Helper()
	return traceTo(t, o, "")
}

// traceTo also records the events to a file, unless its name is empty. The recording ends with finish.
func traceTo(t testing.TB, o probe.Options, file string) *tracer {
	t.Helper()
	o.Attach = probe.Mode(*attach)
	o.Shared = shared
	p, err := probe.Open(t.Context(), o)
	if hint.Is(err, hint.Privilege) && os.Getenv("CLOSETRACE_LIVE") != "1" {
		t.Skipf("needs the privileges of closetrace: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	tr := &tracer{
		probe:   p,
		header:  p.Header(),
		byNetns: map[uint32][]events.Ending{},
		noted:   map[uint32][]events.Ending{},
		done:    make(chan error, 1),
		stop:    make(chan struct{}),
	}
	if file != "" {
		tr.recording, err = record.Create(file, tr.header, record.Options{})
		must(t, err)
	}
	go tr.collect()
	t.Cleanup(func() { tr.finish(t) })
	return tr
}

func (tr *tracer) collect() {
	c := classify.New(tr.header)
	keep := func(e *events.Ending) {
		if tr.self.Load() && (e.Actor == nil || e.Actor.PID != uint32(os.Getpid())) {
			return
		}
		tr.mu.Lock()
		defer tr.mu.Unlock()
		tr.endings = append(tr.endings, *e)
		tr.byNetns[e.Netns] = append(tr.byNetns[e.Netns], *e)
	}
	var unread []events.Note // those that the classifier has not asked for
	keepNotes := func() uint64 {
		return tr.notes(func(n *events.Note) { unread = append(unread, *n) })
	}
	if tr.probe.Counted() != nil {
		c.PeerFIN = tr.probe.PeerFIN
		c.Notes = func(yield func(*events.Note)) (since uint64) {
			since = keepNotes()
			for i := range unread {
				yield(&unread[i])
			}
			unread = unread[:0]
			return since
		}
	}
	var ev events.Event
	for {
		last := tr.stopped() // asked first: what is read from now on ends with the last event
		err := tr.read(&ev)
		switch {
		case errors.Is(err, events.ErrIdle) && last:
			c.Flush(keep)
			tr.unexplained = c.Unexplained
			tr.done <- nil
			return
		case errors.Is(err, events.ErrIdle):
			now := tr.probe.IdleNS()
			if c.Notes != nil {
				keepNotes()
			}
			c.Advance(now, keep)
			tr.readUpTo.Store(now)
		case err != nil:
			tr.done <- err
			return
		default:
			tr.noteLoss(&ev)
			c.Push(&ev, keep)
			// What was reported before this one has been read before it.
			tr.readUpTo.Store(max(tr.readUpTo.Load(), ev.MonoNS))
		}
	}
}

// read reads an event, and records it if there is a recording.
func (tr *tracer) read(ev *events.Event) error {
	err := tr.probe.Read(ev)
	switch {
	case tr.recording == nil:
	case err == nil:
		tr.unmarked = true
		return tr.recording.Write(ev)
	case errors.Is(err, events.ErrIdle) && tr.unmarked:
		tr.unmarked = false
		if failed := tr.recording.Idle(tr.probe.IdleNS()); failed != nil {
			return failed
		}
	}
	return err
}

// notes yields the new notes of the kernel side, and keeps the closes.
func (tr *tracer) notes(yield func(*events.Note)) (since uint64) {
	return tr.probe.Notes(func(n *events.Note) {
		ev := n.Close()
		e := events.Ending{
			Path: events.CloseFINActive, MonoNS: ev.MonoNS, Local: ev.Local, Remote: ev.Remote, Netns: ev.Netns,
			Before: ev.Before, After: ev.After, FIN: true,
		}
		if ev.Before == events.CloseWait {
			e.Path = events.CloseFINPassive
		}
		e.Evidence.FINUnsent = true // or not: a note does not say
		tr.mu.Lock()
		tr.noted[ev.Netns] = append(tr.noted[ev.Netns], e)
		tr.mu.Unlock()
		yield(n)
	})
}

// notedIn returns the closes so far of a network namespace that were noted.
func (tr *tracer) notedIn(netns uint32) []events.Ending {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return slices.Clone(tr.noted[netns])
}

// stopped reports whether the probe is detached.
func (tr *tracer) stopped() bool {
	select {
	case <-tr.stop:
		return true
	default:
		return false
	}
}

// noteLoss keeps what is reported of losses.
func (tr *tracer) noteLoss(ev *events.Event) {
	if ev.Kind != events.KindLoss {
		return
	}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.reported = append(tr.reported, *ev)
}

// countMissed starts counting missed probes; the function it returns stops and
// adds them to the attempt. Losses has those of programs at a return only after
// the end, so their own statistics are read. A loss that was reported counts for
// the time that it may be of, as it does for verdicts: it may be a second older.
func (tr *tracer) countMissed(t testing.TB) func() {
	t.Helper()
	count := func() uint64 {
		n := tr.probe.Losses().MissedProbes
		for _, prog := range tr.returnPrograms(t) {
			if stats, err := prog.Stats(); err == nil { // 5.12
				n += stats.RecursionMisses
			}
		}
		return n
	}
	before, since := count(), kernel.MonoNow()
	return func() { countMissed(t, max(count()-before, tr.missedAfter(since))) }
}

// missedAfter returns how many missed probes were reported of a time that does not end before.
func (tr *tracer) missedAfter(since uint64) (n uint64) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for i := range tr.reported {
		if ev := &tr.reported[i]; ev.MonoNS >= since {
			n += uint64(ev.MissedProbes)
		}
	}
	return n
}

// atReturn returns the programs of this process that run when a kernel function
// returns. It looks for them once.
func (tr *tracer) returnPrograms(t testing.TB) []*ebpf.Program {
	t.Helper()
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if tr.returns != nil {
		return tr.returns
	}
	tr.returns = []*ebpf.Program{}
	for o, name := range held(t, os.Getpid()) {
		if !strings.HasPrefix(name, "fexit_") && !strings.HasPrefix(name, "kretprobe_") {
			continue
		}
		prog, err := ebpf.NewProgramFromID(ebpf.ProgramID(o.id))
		if errors.Is(err, os.ErrNotExist) {
			continue // of a trace that has ended
		}
		must(t, err)
		tr.returns = append(tr.returns, prog)
	}
	return tr.returns
}

// catchUp waits until everything before now was read, including what the
// classifier keeps pending.
func (tr *tracer) catchUp(t testing.TB) {
	t.Helper()
	const heldBack = 100 * time.Millisecond
	until := kernel.MonoNow() + uint64(heldBack)
	eventually(t, "everything is read", func() bool { return tr.readUpTo.Load() > until })
}

// endingsIn returns the endings so far of a network namespace.
func (tr *tracer) endingsIn(netns uint32) []events.Ending {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return slices.Clone(tr.byNetns[netns])
}

// finish detaches, reads what is left and returns all endings. It may be called
// again.
func (tr *tracer) finish(t testing.TB) []events.Ending {
	t.Helper()
	if tr.probe != nil {
		if err := tr.probe.Detach(); err != nil {
			t.Error(err)
		}
		close(tr.stop)
		if err := <-tr.done; err != nil {
			t.Error(err)
		}
		tr.losses = tr.probe.Losses()
		l := tr.losses
		if tr.recording != nil {
			must(t, tr.recording.Close(&record.End{LostRecords: l.LostRecords, MissedProbes: l.MissedProbes}))
		}
		countMissed(t, l.MissedProbes)
		// The kernel does not run a kprobe's program while another one runs on
		// the same CPU, so softirq may go unseen, and counted.
		if tr.mayMiss || tr.header.Attach == string(probe.Kprobe) {
			if l.MissedProbes > 0 {
				t.Logf("%d probes missed", l.MissedProbes)
			}
			l.MissedProbes = 0
		}
		if l != (events.Losses{}) {
			t.Errorf("lost: %+v", l)
		}
		switch {
		case tr.unexplained == 0:
		case tr.mayMiss: // the rest of an ending of which a part was missed
			t.Logf("%d events that no rule covers", tr.unexplained)
		default:
			t.Errorf("%d events that no rule covers", tr.unexplained)
		}
		if err := tr.probe.Close(); err != nil {
			t.Error(err)
		}
		tr.probe = nil
		for _, prog := range tr.returns {
			must(t, prog.Close())
		}
	}
	return tr.endings
}

// inNetns runs f on its own thread in a new network namespace with lo up. f gets
// the namespace's inode number; its sockets are in that namespace.
func inNetns(t testing.TB, f func(netns uint32)) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		own, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			t.Error(err)
			return
		}
		defer own.Close()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Errorf("new network namespace: %v", err)
			return
		}
		// The process's first thread does not end with its goroutine, and would keep the namespace.
		defer func() {
			if err := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); err != nil {
				t.Errorf("back to the first network namespace: %v", err)
			}
		}()
		if err := loopbackUp(); err != nil {
			t.Errorf("lo up: %v", err)
			return
		}
		var st unix.Stat_t
		if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
			t.Error(err)
			return
		}
		f(uint32(st.Ino))
	}()
	<-done
}

func loopbackUp() error { return setLoopback(unix.IFF_UP) }

// setLoopback sets the flags of lo, which is up or down by them.
func setLoopback(flags uint16) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(flags)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}

// slowest is how long a condition may take to hold: emulated machines name the first kernel stack after some 30 s.
const slowest = 2 * time.Minute

// eventually waits until a condition holds, at most for the time of the slowest machine.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(slowest); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, slowest)
		}
	}
}
