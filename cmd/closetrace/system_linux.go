package main

import (
	"os"

	"github.com/closetrace/closetrace/internal/check"
	"github.com/closetrace/closetrace/internal/command"
	"github.com/closetrace/closetrace/internal/enrich"
	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/kernel"
	"github.com/closetrace/closetrace/internal/live"
	"github.com/closetrace/closetrace/internal/netns"
	"github.com/closetrace/closetrace/internal/rights"
	"github.com/closetrace/closetrace/internal/runtimes"
	"github.com/closetrace/closetrace/internal/sink"
	"github.com/closetrace/closetrace/internal/sockets"
	"github.com/closetrace/closetrace/internal/symbols"
)

// system is this process and what the commands use of this machine. Tests replace
// parts of it.
type system struct {
	args    []string
	term    string // of the environment, for example xterm
	console *console
	tracer  tracer
	stuck   stuckSystem
	group   func() (command.Group, error)
	examine examiner
	// dropForUser drops what the user does not have without this program; dropAll
	// drops every capability, also root's.
	dropForUser, dropAll func() error
}

// thisSystem returns the system that the process runs on.
func thisSystem() *system {
	console := standardConsole()
	dirs := netns.NewDirs(netns.System())
	return &system{
		args: os.Args[1:], term: os.Getenv("TERM"),
		console: console,
		tracer: tracer{
			console: console,
			system: live.System{
				Open: live.Attach, Privileges: kernel.Privileges, DropPrivileges: kernel.DropPrivileges, ReadCounters: counters,
				ReadOthers: otherCounters,
			},
			targets: targets{
				spaces:    netns.System(),
				cgroups:   func() (enrich.CgroupMount, error) { return enrich.FindCgroups("/proc") },
				checkPIDs: func() error { return enrich.CheckPIDs("/proc") },
			},
			resolvers: live.ResolverOptions{
				Proc: "/proc", Runtimes: runtimes.System(os.Getenv), AnswerIn: runtimes.AnswerTimeout, Cgroups: cgroups,
				VisitOwn: sockets.VisitOwn, NetDir: dirs.Of, NetDirs: dirs.All,
				Symbols: func() (enrich.Namer, error) { return symbols.Start() },
			},
		},
		stuck: stuckSystem{
			console: console, spaces: netns.System(), iterators: iterators, sockDiag: sockDiag,
			boot:           func() (string, int64) { return kernel.Release(), kernel.WallOffset() },
			dropPrivileges: kernel.DropPrivileges,
		},
		group:   func() (command.Group, error) { return command.NewCgroup("/proc") },
		examine: check.Examine, dropForUser: rights.DropForUser, dropAll: rights.DropAll,
	}
}

func (s *system) runner() runner {
	return runner{console: s.console, system: s.tracer.system, resolvers: s.tracer.resolvers, group: s.group}
}

func (s *system) lab() labSystem {
	return labSystem{console: s.console, open: s.tracer.system.Open, sockDiag: s.stuck.sockDiag}
}

func counters(path string, inode uint32) (sink.Counters, error) { return netns.Counters(path, inode) }

func otherCounters(except uint32, limit int) netns.Readings {
	finder := netns.System()
	return finder.Others(except, limit)
}

// cgroups returns the resolver of the paths of cgroups.
func cgroups() (func(*events.Event), error) {
	c, err := enrich.NewCgroups("/proc")
	if err != nil {
		return nil, err
	}
	return c.Resolve, nil
}
