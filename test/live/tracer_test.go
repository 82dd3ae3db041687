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
	"github.com/closetrace/closetrace/internal/kernel"
	"github.com/closetrace/closetrace/internal/lab"
	"github.com/closetrace/closetrace/internal/probe"
)

var attach = flag.String("attach", "auto", "attach `mode` to test")

func TestMain(m *testing.M) {
	if lab.RunHelper() || runWireHelper() || runRole() || runActor() || runGuarded() {
		return
	}
	// Scenarios mostly wait. The flag may say otherwise.
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	flag.Parse()
	code := m.Run()
	if err := writeReport(os.Getenv("CLOSETRACE_REPORT")); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		code = 1
	}
	os.Exit(code)
}

// shared is read once: that is most of the work of attaching.
var shared = probe.NewShared()

// tracer collects endings until it is stopped.
type tracer struct {
	probe   *probe.Probe
	header  events.Header
	mu      sync.Mutex
	endings []events.Ending
	byNetns map[uint32][]events.Ending
	told    atomic.Uint64 // all before has been told, by the event clock
	done    chan error
	stop    chan struct{}
	// mayMiss: missed probes, which are counted, are for the test to judge.
	mayMiss bool
	losses  probe.Losses // after finish
	returns []*ebpf.Program
	// unexplained events, after finish: no rule covers them.
	unexplained uint64
}

// trace attaches and begins to collect. Without privileges the test is skipped,
// unless CLOSETRACE_LIVE=1 says that it has to run.
func trace(t testing.TB, filter probe.Filter) *tracer {
	t.Helper()
	return traceWith(t, probe.Options{
		Filter: filter, SharedCloses: true,
		Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
}

func traceWith(t testing.TB, o probe.Options) *tracer {
	t.Helper()
	o.Attach = probe.Mode(*attach)
	o.Shared = shared
	p, err := probe.Open(t.Context(), o)
	if errors.Is(err, kernel.ErrPrivilege) && os.Getenv("CLOSETRACE_LIVE") != "1" {
		t.Skipf("needs the privileges of closetrace: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	tr := &tracer{probe: p, header: p.Header(), byNetns: map[uint32][]events.Ending{}, done: make(chan error, 1), stop: make(chan struct{})}
	go tr.collect()
	t.Cleanup(func() { tr.finish(t) })
	return tr
}

func (tr *tracer) collect() {
	c := classify.New(tr.header)
	keep := func(e *events.Ending) {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		tr.endings = append(tr.endings, *e)
		tr.byNetns[e.Netns] = append(tr.byNetns[e.Netns], *e)
	}
	var ev events.Event
	for {
		last := tr.stopped() // asked first: what is read from now on ends with the last event
		err := tr.probe.Read(&ev)
		switch {
		case errors.Is(err, probe.ErrIdle) && last:
			c.Flush(keep)
			tr.unexplained = c.Unexplained
			tr.done <- nil
			return
		case errors.Is(err, probe.ErrIdle):
			now := tr.probe.IdleNS()
			c.Advance(now, keep)
			tr.told.Store(now)
		case err != nil:
			tr.done <- err
			return
		default:
			c.Push(&ev, keep)
			// What was reported before this one has been read before it.
			tr.told.Store(max(tr.told.Load(), ev.MonoNS))
		}
	}
}

// stopped: the probe is detached.
func (tr *tracer) stopped() bool {
	select {
	case <-tr.stop:
		return true
	default:
		return false
	}
}

// countMissed, and what it returns, count for an attempt what the kernel leaves
// out in between. Programs at a return, which Losses knows of when all is over,
// are counted as such.
func (tr *tracer) countMissed(t testing.TB) func() {
	t.Helper()
	count := func() uint64 {
		n := tr.probe.Losses().MissedProbes
		for _, prog := range tr.atReturn(t) {
			if stats, err := prog.Stats(); err == nil { // 5.12
				n += stats.RecursionMisses
			}
		}
		return n
	}
	before := count()
	return func() { countMissed(t, count()-before) }
}

// atReturn are the programs of closetrace at a return, which are looked for once.
func (tr *tracer) atReturn(t testing.TB) []*ebpf.Program {
	t.Helper()
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if tr.returns != nil {
		return tr.returns
	}
	tr.returns = []*ebpf.Program{}
	for _, info := range ours(t) {
		if !strings.HasPrefix(info.Name, "fexit_") && !strings.HasPrefix(info.Name, "kretprobe_") {
			continue
		}
		id, _ := info.ID()
		prog, err := ebpf.NewProgramFromID(id)
		if errors.Is(err, os.ErrNotExist) {
			continue // of a trace that has ended meanwhile
		}
		must(t, err)
		tr.returns = append(tr.returns, prog)
	}
	return tr.returns
}

// toldBy waits until all has been told that happened before now, also what the
// classifier holds back.
func (tr *tracer) toldBy(t testing.TB) {
	t.Helper()
	const heldBack = 100 * time.Millisecond
	until := kernel.MonoNow() + uint64(heldBack)
	eventually(t, "all told", func() bool { return tr.told.Load() > until })
}

// of returns the endings so far of a network namespace.
func (tr *tracer) of(netns uint32) []events.Ending {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return slices.Clone(tr.byNetns[netns])
}

// finish detaches, reads what is left and returns all endings. It may be
// called again.
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
		countMissed(t, l.MissedProbes)
		// The kernel does not run a kprobe's program while another one runs on
		// the same CPU, so softirq may go unseen, and counted.
		if tr.mayMiss || tr.header.Attach == string(probe.Kprobe) {
			if l.MissedProbes > 0 {
				t.Logf("%d probes missed", l.MissedProbes)
			}
			l.MissedProbes = 0
		}
		if l != (probe.Losses{}) {
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

// inNetns runs f on a thread of its own in a new network namespace with lo up,
// and returns its inode. Sockets made by f live there.
func inNetns(t testing.TB, f func(netns uint32)) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Errorf("new network namespace: %v", err)
			return
		}
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

// eventually waits for a condition that the kernel brings about by itself.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 30 s", what)
		}
	}
}
