package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/closetrace/closetrace/internal/enrich"
	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/explain"
	"github.com/closetrace/closetrace/internal/filter"
	"github.com/closetrace/closetrace/internal/flagvalue"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/kernel"
	"github.com/closetrace/closetrace/internal/netns"
	"github.com/closetrace/closetrace/internal/pipeline"
	"github.com/closetrace/closetrace/internal/probe"
	"github.com/closetrace/closetrace/internal/rawevent"
	"github.com/closetrace/closetrace/internal/record"
	"github.com/closetrace/closetrace/internal/rights"
	"github.com/closetrace/closetrace/internal/runtimes"
	"github.com/closetrace/closetrace/internal/sink"
	"github.com/closetrace/closetrace/internal/sockets"
	"github.com/closetrace/closetrace/internal/stuck"
)

const stuckAbout = `closetrace stuck lists the sockets that do not close, and says why: those in CLOSE_WAIT,
FIN_WAIT1, FIN_WAIT2, CLOSING and LAST_ACK, and listeners whose accept queue is full. It
reads them with BPF iterators, or from sock_diag and /proc.

What this side has to close comes first, what waits for the peer last. Sockets with the
same process, service, state and diagnosis share a line, largest group first, at most
1,000 lines; -o wide and json print each socket, CLOSE_WAIT first, then oldest first.
SERVICE is here:PORT if a listener has the local port, otherwise the address of the
peer. An age with ≥ is a lower bound. It is exact for sockets that changed state while
--watch was running, or that --since FILE recorded. The diagnoses:

  never-accepted     it is still in the accept queue; WHY names the listener
  accept-queue-full  a listener drops handshakes; WHY has its queue and limit
  leaked             everything was read, including the EOF; it stays open
  not-reading        the application leaves data, or only the EOF, unread
  busy-sending       data is unsent or unacknowledged
  forked-child       a process holds it that inherited it from another process
  inherited          only a program that the server started holds it
  peer-silent        the peer does not acknowledge the FIN
  peer-open          this side is closed or shut down, the peer has not closed
`

const stuckExamples = `Examples:
  sudo closetrace stuck
  sudo closetrace stuck --min-age 1m -o wide
  sudo closetrace stuck --all-netns
  sudo closetrace stuck --netns web,db
  sudo closetrace stuck -c nginx --state close-wait
  sudo closetrace stuck --watch 10s        with growth and exact ages
  sudo closetrace stuck -o json | jq 'select(.diagnosis == "leaked") | .holders'
`

// sourceAuto is the choice of --source that uses iterators if the kernel has them.
const sourceAuto = "auto"

// stuckSystem is what stuck uses of this machine.
type stuckSystem struct {
	console *console
	spaces  netns.Finder
	// The sources of sockets.
	iterators func(trace bool, log *slog.Logger) (*sockets.Source, error)
	sockDiag  func() *sockets.Source
	// boot identifies this boot, as the header of a recording does.
	boot func() (release string, wallOffsetNS int64)
	// dropPrivileges gives up privileges for good: [kernel.DropPrivileges].
	dropPrivileges func(later kernel.Use) error
}

// stuckFlags are the flags of closetrace stuck.
type stuckFlags struct {
	netns    []string
	allNetns bool
	names    bool // of containers
	minAge   time.Duration
	watch    time.Duration
	count    uint64
	output   format
	source   string
	since    string
	verbose  bool
	filter   stuck.Filter
	color    colorWhen
	language explain.Language
}

func newStuck(m stuckSystem, t tracer) *cobra.Command {
	f := &stuckFlags{output: formatTable, source: sourceAuto, color: colorAuto, language: m.console.language}
	cmd := &cobra.Command{
		Use:   "stuck [flags]",
		Short: "List the sockets that do not close, and say why",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return f.run(cmd.Context(), m, t) },

		DisableFlagsInUseLine: true,
	}
	shown := f.filterFlags()
	g := newGroup("Flags")
	g.flags.Var(flagvalue.Words(&f.netns), "netns", "in these network namespaces: "+netnsNames)
	g.flags.BoolVar(&f.allNetns, "all-netns", false, "in all network namespaces with a process or a name")
	g.flags.Var(flagvalue.Duration{Time: &f.minAge}, "min-age",
		"only those known to be in their state for at least `TIME`")
	g.flags.Var(flagvalue.Duration{Time: &f.watch}, "watch",
		"list again every `TIME`, and show how much groups grew")
	g.flags.Uint64Var(&f.count, "count", 0, "with --watch: stop after `N` lists")
	g.flags.VarP(outputChoice(&f.output), "output", "o", "table: groups; wide: every socket; json: a socket per line")
	source := flagvalue.OneOf(&f.source, sourceAuto, sockets.Iterator, sockets.SockDiag)
	g.flags.Var(source, "source", "iterator (BPF), or sock_diag and /proc; auto uses the first that works")
	g.flags.Var(flagvalue.File{Path: &f.since}, "since",
		"also take exact ages from `FILE`, recorded since boot by closetrace -w FILE, which may still be running")
	g.flags.Var(colorChoice(&f.color), "color", "color what this side has to close: always, never, or "+
		"auto (on a terminal, unless NO_COLOR is set or TERM is dumb)")
	languageFlag(g, &f.language, "of WHY: ")
	g.flags.BoolVarP(&f.verbose, "verbose", "v", false, "log to stderr which source was used, and why")
	helpFlag(g)
	codes := hint.LiveExitCodes("the sockets cannot be listed")
	help := manual{about: stuckAbout, groups: []flagGroup{shown, g}, tail: codes + "\n" + stuckExamples}
	help.attach(cmd)
	complete(cmd, "output", outputChoice(&f.output).Words())
	complete(cmd, "source", source.Words())
	completeLanguage(cmd)
	return cmd
}

// filterFlags returns the filters, which follow the rules of those of trace.
func (f *stuckFlags) filterFlags() flagGroup {
	g := newGroup("Show only (all flags must match, and any value of a list)")
	g.flags.VarP(flagvalue.Ports(&f.filter.Events.Ports), "port", "P",
		"these ports, local or remote: numbers, ranges such as 8000-8100, or names such as https")
	g.flags.VarP(flagvalue.Ports(&f.filter.Events.LocalPorts), "lport", "L", "these local ports")
	g.flags.VarP(flagvalue.Ports(&f.filter.Events.RemotePorts), "rport", "D", "these remote ports")
	g.flags.BoolVarP(&f.filter.Events.IPv4, "ipv4", "4", false, "IPv4, including IPv4 on IPv6 sockets")
	g.flags.BoolVarP(&f.filter.Events.IPv6, "ipv6", "6", false, "IPv6; with -4: both")
	shown := &f.filter.Endings
	g.flags.VarP(flagvalue.PIDs(&shown.PIDs), "pid", "p",
		"sockets that these processes hold, or whose listener they hold")
	g.flags.VarP(flagvalue.Words(&shown.Comms), "comm", "c",
		"same, for processes with these names; * matches anything")
	g.flags.Var(flagvalue.Users(&shown.UIDs), "uid", "same, for processes of these users: ids or names")
	g.flags.Var(flagvalue.Words(&f.filter.Events.Cgroups), "cgroup",
		"same, for processes in these cgroups (v2) or below")
	g.flags.Var(flagvalue.Words(&f.filter.Events.Containers), "container",
		"same, for processes in these containers: id or id prefix; with --container-names also a name")
	g.flags.BoolVar(&f.names, "container-names", false,
		"take names of containers, queried from the runtime's API socket")
	f.filter.CgroupOf = func(pid uint32) string { return enrich.ProcessCgroup("/proc", pid) }
	g.flags.Var(flagvalue.Networks(&shown.Nets), "cidr", "addresses in these networks, local or remote")
	g.flags.Var(flagvalue.States(&shown.States), "state", "sockets in one of these states")
	g.flags.Var(flagvalue.Ports(&shown.NotPorts), "exclude-port", "hide these ports, local or remote")
	return g
}

// validate rejects flags that exclude each other.
func (f *stuckFlags) validate() error {
	switch {
	case f.allNetns && len(f.netns) > 0:
		return hint.New(hint.Usage, "--all-netns and --netns exclude each other", "leave out one of them")
	case f.count > 0 && f.watch == 0:
		return hint.New(hint.Usage, "--count needs --watch", "add --watch TIME")
	}
	if why := filter.Contradiction(&f.filter.Events, &f.filter.Endings); why != "" {
		return hint.New(hint.Usage, "nothing can match: "+why, "leave out one of the flags")
	}
	return nil
}

func (f *stuckFlags) run(ctx context.Context, m stuckSystem, t tracer) error {
	if err := f.validate(); err != nil {
		return err
	}
	for i, text := range f.filter.Events.Cgroups {
		f.filter.Events.Cgroups[i] = events.CgroupPath(text)
	}
	if err := f.findContainers(t); err != nil {
		return err
	}
	defer debug.SetGCPercent(debug.SetGCPercent(25)) // a list of sockets has no pointers: collecting garbage is cheap
	if err := kernel.CheckProc(); err != nil {
		return err
	}
	log := m.console.logger(f.verbose)
	history, err := f.history(m, log)
	if err != nil {
		return err
	}
	source, err := f.open(m, log)
	if err != nil {
		return err
	}
	defer source.Close()
	var later kernel.Use
	if f.allNetns || len(f.netns) > 0 {
		later = kernel.EntersNetns
	}
	if err := m.dropPrivileges(later); err != nil {
		log.Warn("could not drop unneeded privileges", "because", err)
	}
	out := sink.NewStuck(pipeline.NewDeadlineWriter(m.console.stdout, m.console.interrupted), sink.StuckOptions{
		JSON: f.output == formatJSON, Wide: f.output == formatWide, Repeated: f.watch > 0,
		Source: source.Name, Width: m.console.stdout.width,
		Color: f.color.enabled(m.console.stdout.color), Say: f.language.Say(),
		ASCII: m.console.stdout.isASCII && f.language != explain.Chinese,
	})
	for n := uint64(1); ; n++ {
		err := f.list(m, source, history, out)
		switch {
		case errors.Is(err, syscall.EPIPE):
			return nil
		case err != nil || f.watch == 0 || n == f.count:
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(f.watch):
		}
	}
}

// open returns the source that --source names, or the best one that works.
func (f *stuckFlags) open(m stuckSystem, log *slog.Logger) (*sockets.Source, error) {
	if f.source != sockets.SockDiag {
		source, err := m.iterators(f.watch > 0, log)
		if err == nil || f.source == sockets.Iterator {
			return source, err
		}
		log.Debug("BPF iterators unavailable", "because", err)
		if f.watch > 0 {
			log.Warn("no change of state is traced: ages are lower bounds", "because", err)
		}
	}
	log.Debug("sockets", "source", sockets.SockDiag)
	return m.sockDiag(), nil
}

// iterators returns the source that reads BPF iterators, and /proc only for the state of the holders. With trace,
// changes of state are traced until it is closed.
func iterators(trace bool, log *slog.Logger) (*sockets.Source, error) {
	it, err := probe.OpenIterators(trace, log)
	if err != nil {
		return nil, err
	}
	log.Debug("sockets", "source", sockets.Iterator, "traces", it.Traces())
	return &sockets.Source{
		Name: sockets.Iterator,
		List: func(to *sockets.List, _ uint32) (bool, error) { return true, it.AppendSockets(to) },
		Holders: func(inodes sockets.Inodes) (*sockets.Holders, int, error) {
			found, err := it.Holders(inodes)
			return found, 0, err
		},
		Processes: processes, KeptByExec: keptByExec,
		Close: it.Close,
	}, nil
}

// sockDiag returns the source that asks sock_diag(7), and /proc for the holders.
func sockDiag() *sockets.Source {
	source := sockets.NewSockDiag(func(inodes sockets.Inodes) (*sockets.Holders, int) {
		return enrich.Holders("/proc", inodes)
	})
	source.Processes, source.KeptByExec = processes, keptByExec
	return source
}

func processes(pids map[uint32]bool) map[uint32]*sockets.Process {
	return enrich.Processes("/proc", pids)
}

func keptByExec(pid, tid uint32, fd int) bool { return enrich.KeptByExec("/proc", pid, tid, fd) }

// history reads when sockets entered their state from a recording of this boot, which may still be growing. It is nil
// without --since.
func (f *stuckFlags) history(m stuckSystem, log *slog.Logger) (*sockets.History, error) {
	if f.since == "" {
		return nil, nil
	}
	var file *os.File
	err := rights.AsUser(func() (err error) {
		file, err = record.Open(f.since)
		return err
	})
	if err != nil {
		return nil, err
	}
	defer file.Close()
	in, err := record.Read(file, rawevent.Recorded)
	if err != nil {
		return nil, err
	}
	if release, offset := m.boot(); !sockets.SameBoot(&in.Header, release, offset) {
		return nil, hint.New(hint.Usage,
			f.since+" was not recorded on this machine since its last boot, or the clock was set since",
			"record one: closetrace -w FILE")
	}
	h := &sockets.History{}
	if err := h.ReadFrom(in.Read); err != nil { // every event before the damage counts
		log.Debug("the recording has no end", "because", err)
	}
	return h, nil
}

// list prints one list, and on standard error what it may lack.
func (f *stuckFlags) list(m stuckSystem, source *sockets.Source, history *sockets.History, out *sink.Stuck) error {
	namespaces, inaccessible, err := m.spaces.Selected(f.netns, f.allNetns)
	if err != nil {
		return err
	}
	snapshot, err := source.Look(sockets.Request{
		Namespaces: namespaces, SkipInaccessible: f.allNetns, WantHolders: stuck.WantHolders, History: history,
	})
	if err != nil {
		return err
	}
	report := stuck.NewReport(snapshot, &f.filter, stuck.Milliseconds(f.minAge.Milliseconds()))
	left, err := out.Print(report)
	if err := pipeline.OutputFailure(err); err != nil {
		return err
	}
	fmt.Fprint(m.console.stderr, left)
	if report.Len()+report.Hidden == 0 && f.watch == 0 {
		fmt.Fprintln(m.console.stderr, "closetrace: no sockets are stuck in CLOSE_WAIT, FIN_WAIT1/2, CLOSING or LAST_ACK,"+
			" and no accept queue is full"+f.where())
	}
	fmt.Fprint(m.console.stderr, sink.StuckNotes(snapshot, report.Hidden, f.minAge))
	if inaccessible += snapshot.InaccessibleSpaces; inaccessible > 0 && f.allNetns {
		return hint.New(hint.Privilege,
			"cannot open the network namespaces of "+events.Quantity(uint64(inaccessible), "process", "processes"),
			"run as root, outside of containers and security profiles: sudo closetrace stuck --all-netns")
	}
	return nil
}

// where says which network namespaces were looked at.
func (f *stuckFlags) where() string {
	selected := ""
	if !f.filter.Empty() {
		selected = ", of those that the filters select"
	}
	switch {
	case f.allNetns:
		return selected
	case len(f.netns) > 0:
		return selected + " in " + strings.Join(f.netns, ", ")
	}
	return selected + " in this network namespace (--all-netns: in all)"
}

// findContainers looks up the containers. Without cgroups (v2), which have those that run, ids remain as they are.
func (f *stuckFlags) findContainers(t tracer) (err error) {
	var apis []*runtimes.API
	if f.names {
		apis = t.resolvers.Runtimes
	}
	named := &f.filter.Events.Containers
	mount, err := t.targets.cgroups()
	switch {
	case len(*named) == 0, err != nil && !f.names:
		return nil
	case err != nil:
		return cannotFilter(err)
	}
	*named, err = runtimes.IDs(mount, apis, *named)
	return err
}
