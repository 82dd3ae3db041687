//go:build linux

package main

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/closetrace/closetrace/internal/check"
	"github.com/closetrace/closetrace/internal/command"
	"github.com/closetrace/closetrace/internal/enrich"
	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/kernel"
	"github.com/closetrace/closetrace/internal/pipeline"
	"github.com/closetrace/closetrace/internal/probe"
	"github.com/closetrace/closetrace/internal/sink"
	"github.com/closetrace/closetrace/internal/sockets"
	"github.com/closetrace/closetrace/internal/terminal"
	"github.com/closetrace/closetrace/test/fake"
)

// TestMain makes closetrace, and variants with a fake source, commands of the scripts.
//
// The race detector makes a program sleep for a second at its end, to find late races.
// The tests start hundreds of programs, for which 10 ms are enough.
func TestMain(m *testing.M) {
	os.Setenv(raceVariable, "atexit_sleep_ms=10")
	if err := terminal.Restore(); err != nil {
		panic(err)
	}
	testscript.Main(m, map[string]func(){
		"closetrace": main,
		// three endings, then nothing
		"closetrace-fake": func() { os.Exit(run(context.Background(), fakeSystem(3))) },
		// the same, and then a panic when a signal asks for one
		"closetrace-panics": func() { os.Exit(run(context.Background(), panickySystem())) },
		// three closes without an effect
		"closetrace-silent": func() { os.Exit(run(context.Background(), silentSystem())) },
		// endings without end, as fast as they are read
		"closetrace-flood": func() { os.Exit(run(context.Background(), fakeSystem(-1))) },
	})
}

// raceVariable sets the options of the race detector in programs that tests start.
const raceVariable = "GORACE"

// silentSystem returns this system with a fake source of three closes without an effect.
func silentSystem() *system {
	s := fakeSystem(0)
	s.tracer.system.Open = func(context.Context, probe.Options) (pipeline.Source, error) {
		return &fake.Source{Left: 3, Silent: true}, nil
	}
	return s
}

// fakeSystem returns this system with a fake source of left events.
func fakeSystem(left int) *system {
	s := thisSystem()
	s.tracer.system.Open = func(context.Context, probe.Options) (pipeline.Source, error) {
		return &fake.Source{Left: left}, nil
	}
	inode := func(string) (uint32, error) { return fake.Netns, nil }
	s.tracer.targets.spaces.Inode, s.stuck.spaces.Inode = inode, inode
	s.examine = func(context.Context, string) (*check.Machine, error) { return fakeMachine(), nil }
	s.tracer.system.Privileges = func() []kernel.Privilege { return nil }
	s.tracer.targets.checkPIDs = func() error { return nil }
	s.tracer.targets.cgroups = func() (enrich.CgroupMount, error) {
		return enrich.CgroupMount{Dir: os.TempDir(), Root: "/"}, nil
	}
	s.tracer.resolvers.Cgroups = func() (func(*events.Event), error) { return nameFakeCgroup, nil }
	s.tracer.resolvers.Symbols = nil
	s.tracer.resolvers.AnswerIn = time.Minute // as the machine may be slow
	s.tracer.system.DropPrivileges = func(kernel.Use) error { return nil }
	s.stuck.dropPrivileges = s.tracer.system.DropPrivileges
	nothing := func() error { return nil } // for good would include the other tests
	s.dropForUser, s.dropAll = nothing, nothing
	s.group = func() (command.Group, error) { return fakeGroup{}, nil }
	s.tracer.system.ReadOthers = nil
	s.tracer.system.ReadCounters = func(string, uint32) (sink.Counters, error) { return sink.Counters{}, nil }
	asked := func(name string) *sockets.Source {
		return &sockets.Source{Name: name, List: fakeSockets(), Holders: fakeHolders, Close: func() error { return nil }}
	}
	s.stuck.sockDiag = func() *sockets.Source { return asked(sockets.SockDiag) }
	s.stuck.boot = func() (string, int64) {
		h := new(fake.Source).Header()
		return h.Kernel, h.WallOffsetNS
	}
	s.stuck.iterators = func(trace bool, _ *slog.Logger) (*sockets.Source, error) {
		from := asked(sockets.Iterator)
		if trace {
			from.List = traced(from.List)
		}
		return from, nil
	}
	return s
}

// redirect makes the outputs of a system those of a test.
func (s *system) redirect(stdout, stderr io.Writer) {
	s.console.stdout.Writer, s.console.stderr.Writer = stdout, stderr
}

// panickySystem returns a fake system whose source panics on a signal, in the goroutine
// that reads events or in that of the screen.
func panickySystem() *system {
	s := fakeSystem(3)
	p := &panicky{asked: make(chan os.Signal, 1), askedView: make(chan os.Signal, 1)}
	signal.Notify(p.asked, panicInSource)
	signal.Notify(p.askedView, panicInView)
	open := s.tracer.system.Open
	s.tracer.system.Open = func(ctx context.Context, o probe.Options) (src pipeline.Source, err error) {
		p.Source, err = open(ctx, o)
		return p, err
	}
	return s
}

const (
	panicInSource = syscall.SIGUSR1
	panicInView   = syscall.SIGUSR2
)

type panicky struct {
	pipeline.Source
	asked, askedView chan os.Signal
}

func (p *panicky) Read(ev *events.Event) error {
	select {
	case <-p.asked:
		panic("the source panics")
	default:
		return p.Source.Read(ev)
	}
}

func (p *panicky) Losses() events.Losses {
	select {
	case <-p.askedView:
		panic("the view panics")
	default:
		return p.Source.Losses()
	}
}

// fakeMachine has one mode that works, without one of its hooks.
func fakeMachine() *check.Machine {
	refused := probe.HookReport{
		Hook: "tcp_fin", Fires: "once per FIN received", Reason: "not traceable", Unseen: "FINs received",
	}
	m := &check.Machine{
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
				{Hook: "tcp_reset", Fires: "once per RST received", Needless: true, Reason: "too old"},
			}},
		}},
	}
	m.ListUnseen()
	return m
}

// fakeSockets returns a list of sockets of a server that never closes, one more at each
// call, and of a connection that is never accepted.
func fakeSockets() func(*sockets.List, uint32) (bool, error) {
	here := netip.MustParseAddrPort("10.0.0.5:8080")
	looks := 0
	return func(to *sockets.List, netns uint32) (whole bool, err error) {
		looks++
		to.Add(&sockets.Socket{
			Netns: netns, Local: here, State: events.Listen, Inode: 50, ReceiveQueue: 1, SendQueue: 128,
		})
		to.Add(&sockets.Socket{
			Netns: netns, Local: here, Remote: netip.MustParseAddrPort("10.0.0.9:4000"),
			State: events.CloseWait, ReceiveQueue: 11, LastHeard: 3 * time.Second,
		})
		for n := range looks + 1 {
			to.Add(&sockets.Socket{
				Netns: netns, Local: here, Remote: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.9"), uint16(5000+n)),
				State: events.CloseWait, Inode: 60, LastHeard: time.Duration(90-n) * time.Second,
			})
		}
		return true, nil
	}
}

// traced returns list with exact ages for sockets that are new since the first call.
func traced(list func(*sockets.List, uint32) (bool, error)) func(*sockets.List, uint32) (bool, error) {
	known := 0
	return func(to *sockets.List, netns uint32) (whole bool, err error) {
		found := &sockets.List{}
		whole, err = list(found, netns)
		if known == 0 {
			known = found.Len()
		}
		for i, s := range found.All() {
			if i >= known {
				s.InState = 100 * time.Second
			}
			to.Add(&s)
		}
		return whole, err
	}
}

func fakeHolders(wanted sockets.Inodes) (*sockets.Holders, int, error) {
	found := &sockets.Holders{}
	number := found.Add(sockets.Holder{PID: 4211, Comm: "ser\tver\x1b", UID: 33, Age: time.Hour})
	for inode := range uint64(100) {
		if wanted.Has(inode) {
			found.Hold(number, inode, int(inode))
		}
	}
	return found, 0, nil
}

// fakeContainer is the id of the container of [fake.Cgroup].
const fakeContainer = "0f4b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d"

func nameFakeCgroup(ev *events.Event) { ev.Cgroup = "/system.slice/docker-" + fakeContainer + ".scope" }

// fakeGroup is a group of processes that needs no privileges.
type fakeGroup struct{}

func (fakeGroup) Join(*syscall.SysProcAttr)       {}
func (fakeGroup) Contains(id uint64) bool         { return id == fake.Cgroup }
func (fakeGroup) ContainsProcess(pid uint32) bool { return pid == 4211 }
func (fakeGroup) Close() (left int, err error)    { return 0, nil }
