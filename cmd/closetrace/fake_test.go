package main

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/closetrace/closetrace/internal/enrich"
	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/kernel"
	"github.com/closetrace/closetrace/internal/probe"
	"github.com/closetrace/closetrace/internal/sink"
	"github.com/closetrace/closetrace/internal/stuck"
)

// TestMain makes this program, and versions of it whose facts are made up,
// commands of the scripts. The shipped program has no such versions.
//
// With the race detector, a program sleeps for a second at its end, in case one
// of its goroutines still runs into a race; a hundredth of it does for those that
// are started here, and there are hundreds.
func TestMain(m *testing.M) {
	os.Setenv(raceVariable, "atexit_sleep_ms=10")
	testscript.Main(m, map[string]func(){
		"closetrace": main,
		// three endings, then nothing
		"closetrace-fake": func() { os.Exit(run(context.Background(), fakeSystem(3))) },
		"from-terminal":   sayFromTerminal,
		// the same, and then a panic when a signal asks for one
		"closetrace-panics": func() { os.Exit(run(context.Background(), panickySystem())) },
		// endings without end, as fast as they are read
		"closetrace-flood": func() { os.Exit(run(context.Background(), fakeSystem(-1))) },
	})
}

// raceVariable has what the race detector is told, in programs that tests start.
const raceVariable = "GORACE"

// fakeSystem is this machine, but with a fake for its kernel.
func fakeSystem(facts int) *env {
	e := system()
	e.open = func(context.Context, probe.Options) (source, error) {
		return &fakeSource{left: facts}, nil
	}
	e.finder.inode = func(string) (uint32, error) { return fakeNetns, nil }
	e.examine = func(context.Context) (*machine, error) { return fakeMachine(), nil }
	e.privileges = func() []kernel.Privilege { return nil }
	e.finder.cgroups = func() (enrich.CgroupMount, error) { return enrich.CgroupMount{Dir: os.TempDir(), Root: "/"}, nil }
	e.cgroups = func() (func(*events.Event), error) { return nameFakeCgroup, nil }
	e.answerIn = time.Minute // as the machine may be slow
	e.drop = func(bool) error { return nil }
	e.group = func() (group, error) { return fakeGroup{}, nil }
	e.counters = func(string, uint32) (sink.Counters, error) { return sink.Counters{}, nil }
	asked := func(name string) *stuckSource {
		return &stuckSource{name: name, sockets: fakeSockets(), holders: fakeHolders, close: func() error { return nil }}
	}
	e.sockDiag = func() *stuckSource { return asked(sourceSockDiag) }
	e.boot = func() (string, int64) {
		h := new(fakeSource).Header()
		return h.Kernel, h.WallOffsetNS
	}
	e.iterators = func(trace bool, _ *slog.Logger) (*stuckSource, error) {
		s := asked(sourceIterator)
		if trace {
			s.sockets = traced(s.sockets)
		}
		return s, nil
	}
	return e
}

// panickySystem is a fake whose source panics in another goroutine by another
// signal.
func panickySystem() *env {
	e := fakeSystem(3)
	p := &panicky{asked: make(chan os.Signal, 1), askedView: make(chan os.Signal, 1)}
	signal.Notify(p.asked, panicInSource)
	signal.Notify(p.askedView, panicInView)
	open := e.open
	e.open = func(ctx context.Context, o probe.Options) (src source, err error) {
		p.source, err = open(ctx, o)
		return p, err
	}
	return e
}

const (
	panicInSource = syscall.SIGUSR1
	panicInView   = syscall.SIGUSR2
)

type panicky struct {
	source
	asked, askedView chan os.Signal
}

func (p *panicky) Read(ev *events.Event) error {
	select {
	case <-p.asked:
		panic("the source panics")
	default:
		return p.source.Read(ev)
	}
}

func (p *panicky) Losses() probe.Losses {
	select {
	case <-p.askedView:
		panic("the view panics")
	default:
		return p.source.Losses()
	}
}

// fakeMachine has one mode that works, without one of its hooks.
func fakeMachine() *machine {
	refused := probe.HookReport{Hook: "tcp_fin", Fires: "once per FIN received", Reason: "not traceable", Unseen: "FINs received"}
	m := &machine{
		Schema: events.SchemaVersion, Kernel: "6.1.0-fake", Arch: "amd64", BTF: true, Lockdown: "none", Unseen: []string{},
		Privileges: []kernel.Privilege{
			{Name: "CAP_BPF", For: "load programs", Required: true, Held: true},
			{Name: "CAP_SYSLOG", For: "name functions", Unseen: "which timer"},
		},
		Report: &probe.Report{Takes: probe.Kprobe, Modes: []probe.ModeReport{
			{Mode: probe.Fentry, Reason: "no trampolines", Hooks: []probe.HookReport{
				{Hook: "tcp_close", Fires: "once per close", Required: true, Reason: "no trampolines"},
			}},
			{Mode: probe.Kprobe, Works: true, Unseen: []string{"FINs received"}, Hooks: []probe.HookReport{
				{Hook: "tcp_close", Fires: "once per close", Required: true, Works: true}, refused,
				{Hook: "tcp_v4_send_reset", Fires: "once per RST in reply", Needless: true},
			}},
		}},
	}
	m.unsee()
	return m
}

// fakeSockets are one more, at every look, of a server that never closes, and a
// connection that is never accepted.
func fakeSockets() func(string, uint32) ([]stuck.Socket, bool, error) {
	here := netip.MustParseAddrPort("10.0.0.5:8080")
	looks := 0
	return func(_ string, netns uint32) (all []stuck.Socket, whole bool, err error) {
		looks++
		all = append(all, stuck.Socket{
			Netns: netns, Local: here, State: events.Listen, Inode: 50, ReceiveQueue: 1, SendQueue: 128,
		}, stuck.Socket{
			Netns: netns, Local: here, Remote: netip.MustParseAddrPort("10.0.0.9:4000"),
			State: events.CloseWait, ReceiveQueue: 11, LastHeard: 3 * time.Second,
		})
		for n := range looks + 1 {
			all = append(all, stuck.Socket{
				Netns: netns, Local: here, Remote: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.9"), uint16(5000+n)),
				State: events.CloseWait, Inode: 60, LastHeard: time.Duration(90-n) * time.Second,
			})
		}
		return all, true, nil
	}
}

// traced: whatever comes is seen to come.
func traced(list func(string, uint32) ([]stuck.Socket, bool, error)) func(string, uint32) ([]stuck.Socket, bool, error) {
	known := 0
	return func(path string, netns uint32) (all []stuck.Socket, whole bool, err error) {
		all, whole, err = list(path, netns)
		if known == 0 {
			known = len(all)
		}
		for i := known; i < len(all); i++ {
			all[i].InState = 100 * time.Second
		}
		return all, whole, err
	}
}

func fakeHolders(wanted map[uint64]bool) (map[uint64][]stuck.Holder, int, error) {
	found := map[uint64][]stuck.Holder{}
	for inode := range wanted {
		found[inode] = []stuck.Holder{{PID: 4211, Comm: "ser\tver\x1b", UID: 33, FDs: []int{int(inode)}, Age: time.Hour}}
	}
	return found, 0, nil
}

// fakeCgroup is where all that a fake tells of runs, and the commands that it
// runs, too.
const fakeCgroup = 7

// fakeContainer is that cgroup's.
const fakeContainer = "0f4b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d"

func nameFakeCgroup(ev *events.Event) { ev.Cgroup = "/system.slice/docker-" + fakeContainer + ".scope" }

// fakeGroup takes no privileges.
type fakeGroup struct{}

func (fakeGroup) Join(*syscall.SysProcAttr)    {}
func (fakeGroup) Holds(id uint64) bool         { return id == fakeCgroup }
func (fakeGroup) HoldsProcess(pid uint32) bool { return pid == 4211 }
func (fakeGroup) Close() (left int, err error) { return 0, nil }

// fakeNetns is where all of a fake's endings are.
const fakeNetns = 4026531840

// fakeSource makes up closes of established connections.
type fakeSource struct {
	left     int   // facts to come; negative: endless
	wall     int64 // offset of its clock
	read     atomic.Bool
	detached atomic.Bool
	badFirst bool // the first record cannot be decoded
}

func (f *fakeSource) Header() events.Header {
	if f.wall == 0 {
		f.wall = kernel.WallOffset()
	}
	return events.Header{
		Schema: events.SchemaVersion, Kernel: "6.1.0-fake", Attach: "fentry", HZ: 250, WallOffsetNS: f.wall,
	}
}

func (f *fakeSource) Read(ev *events.Event) error {
	if f.badFirst {
		f.badFirst = false
		return badRecord{}
	}
	if f.left == 0 || f.left < 0 && f.detached.Load() {
		time.Sleep(10 * time.Millisecond)
		return probe.ErrIdle
	}
	f.left--
	f.read.Store(true)
	*ev = events.Event{
		Kind: events.KindClose, MonoNS: kernel.MonoNow(), DurationNS: 5210, Sock: 1,
		Flags: events.SentFIN | events.TaskContext | events.FileClosing | events.UnderLock,
		Local: netip.MustParseAddrPort("10.0.0.5:443"), Remote: netip.MustParseAddrPort("10.0.0.9:51234"),
		Netns: fakeNetns, CgroupID: fakeCgroup, SocketCgroupID: fakeCgroup, Task: events.Task{PID: 4211, TID: 4211, Comm: "nginx"}, Syscall: "close",
		Before: events.Established, After: events.FinWait1,
	}
	return nil
}

// Losses come with the first fact.
func (f *fakeSource) Losses() probe.Losses {
	if !f.read.Load() {
		return probe.Losses{}
	}
	return probe.Losses{LostRecords: 2}
}

func (f *fakeSource) IdleNS() uint64 { return kernel.MonoNow() }

func (f *fakeSource) Detach() error { f.detached.Store(true); return nil }

func (f *fakeSource) Close() error { return nil }

type badRecord struct{}

func (badRecord) Error() string     { return "record of 3 bytes" }
func (badRecord) Hint() string      { return "rebuild" }
func (badRecord) Undecodable() bool { return true }
