package pipeline

import (
	"log/slog"
	"time"

	"github.com/closetrace/closetrace/internal/enrich"
	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/runtimes"
)

// Resolver completes an event, in place, by what the kernel side does not report.
type Resolver func(*events.Event)

// Resolvers complete the events of a source.
type Resolvers struct {
	// Owner finds the process that holds the socket. It may search /proc; nil looks up no owner.
	Owner Resolver
	// Others find the names of cgroups and, where asked for, the functions of a stack and the names of containers.
	Others []Resolver
	// Stacks begins to name the functions of an event's stack, beside the stream; nil names none.
	Stacks *enrich.Stacks
}

// split returns the resolvers of every event, and the one that the classifier calls for an event that it reports.
//
// An owner is looked up only once an event is concluded without one: most received FINs are not reported, and the next
// call on a socket names most owners. Who else holds a socket of which one descriptor was closed is looked up at once.
// A recording gets these owners as well, so that a replay reports the same. Without a classifier (recordOnly) it is not
// known which FINs are reported, and none is looked up for them.
func (r Resolvers) split(to Recorder, recordOnly bool) (every []Resolver, onReport Resolver) {
	every = append(every, r.Others...)
	switch {
	case r.Owner == nil:
		return every, nil
	case recordOnly:
		return append(every, func(ev *events.Event) {
			if ev.Kind != events.KindPeerFIN {
				r.Owner(ev)
			}
		}), nil
	}
	late, ok := to.(OwnerRecorder)
	if to != nil && !ok {
		return append(every, r.Owner), nil
	}
	return append(every, func(ev *events.Event) {
		if ev.Kind == events.KindShared {
			r.Owner(ev)
		}
	}), r.recordedBy(late)
}

// recordedBy returns the resolver of owners. What it finds is recorded; nil: nowhere.
func (r Resolvers) recordedBy(to OwnerRecorder) Resolver {
	if to == nil {
		return r.Owner
	}
	return func(ev *events.Event) {
		if r.Owner(ev); ev.Owner != nil {
			to.Owner(ev)
		}
	}
}

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
func NewResolvers(o ResolverOptions, log *slog.Logger) Resolvers {
	owners := enrich.NewOwners(o.Proc)
	r := Resolvers{Owner: owners.Resolve}
	if o.NetDir != nil {
		r.Others = append(r.Others, enrich.NewConnections(o.VisitOwn, o.NetDir, owners).Resolve)
	}
	if o.NetDir != nil && o.Lost != nil {
		r.Others = append(r.Others, enrich.NewOtherEnds(o.VisitOwn, o.NetDir, o.NetDirs, o.Lost, owners).Resolve)
	}
	if o.Stacks {
		r.Stacks = newStacks(o, log)
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
