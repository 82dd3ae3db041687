package live

import (
	"log/slog"
	"time"

	"github.com/closetrace/closetrace/internal/enrich"
	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/pipeline"
	"github.com/closetrace/closetrace/internal/runtimes"
)

// ResolverOptions say what to look up, and where.
type ResolverOptions struct {
	Proc string // /proc
	// VisitOwn visits sockets of closetrace's own network namespace; nil: those that NetDir shows.
	VisitOwn enrich.VisitOwn
	// NetDir returns /proc/PID/net of a network namespace, to look for connections there; nil looks for none.
	NetDir func(netns uint32) string
	// NetDirs returns the same of all network namespaces that are known. It may be nil.
	NetDirs func() map[uint32]string
	// Lost reports whether something was lost since its last call. nil: no open socket of the other end is looked for,
	// as a filter may hide who sent a RST.
	Lost   func() bool
	Stacks bool // name the functions of user stacks
	// Symbols starts what reads the files that they are in. It is called before privileges are dropped.
	Symbols    func() (enrich.Namer, error)
	Containers bool // ask the runtimes for the names of containers
	Runtimes   []*runtimes.API
	AnswerIn   time.Duration // how long an event waits for a runtime's answer
	// Cgroups returns the resolver of the names of cgroups.
	Cgroups func() (func(*events.Event), error)
}

// NewResolvers returns the resolvers of a live run. Without cgroup v2 there are no names of cgroups or containers,
// which log says.
func NewResolvers(o ResolverOptions, log *slog.Logger) pipeline.Resolvers {
	owners := enrich.NewOwners(o.Proc)
	r := pipeline.Resolvers{Owner: owners.Resolve}
	if o.NetDir != nil {
		r.Others = append(r.Others, enrich.NewConnections(o.VisitOwn, o.NetDir, owners).Resolve)
	}
	if o.NetDir != nil && o.Lost != nil {
		r.Others = append(r.Others, enrich.NewOtherEnds(o.VisitOwn, o.NetDir, o.NetDirs, o.Lost, owners).Resolve)
	}
	if o.Stacks {
		r.NameStack = nameStack(newStacks(o, log))
	}
	name, err := o.Cgroups()
	if err != nil {
		log.Info("cgroup names unavailable", "because", err)
		return r
	}
	r.Others = append(r.Others, name)
	if o.Containers {
		r.Others = append(r.Others, runtimes.New(o.Runtimes, o.AnswerIn, log).Resolve)
	}
	return r
}

// newStacks starts to name functions. Without symbols they are shown as module and offset, which log says.
func newStacks(o ResolverOptions, log *slog.Logger) *enrich.Stacks {
	if o.Symbols == nil {
		return enrich.NewStacks(o.Proc, nil)
	}
	namer, err := o.Symbols()
	if err != nil {
		log.Warn("functions in stacks are not named", "because", err)
		return enrich.NewStacks(o.Proc, nil)
	}
	return enrich.NewStacks(o.Proc, namer)
}

// nameStack returns what begins to name the functions of a stack.
func nameStack(stacks *enrich.Stacks) func(*events.Event) pipeline.Naming {
	return func(ev *events.Event) pipeline.Naming {
		if n := stacks.Begin(ev); n != nil {
			return n
		}
		return nil // and not a Naming that is nil
	}
}
