package serve

import (
	"context"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/metrics"
	"github.com/closetrace/closetrace/internal/sockets"
	"github.com/closetrace/closetrace/internal/stuck"
)

// StuckSource finds the sockets that do not close.
type StuckSource struct {
	*sockets.Source
	// Namespaces returns the network namespaces to look at, as in [sockets.Request].
	Namespaces func() map[uint32]string
	// Cgroup returns the path of the cgroup of a process, Names completes an event that has one.
	Cgroup func(pid uint32) string
	Names  func(*events.Event)
}

// maxShare is the inverse of the share of time that may be spent on counting stuck sockets.
const maxShare = 50

// countStuck counts the stuck sockets until ctx ends.
func (d *daemon) countStuck(ctx context.Context) {
	for {
		settings, changed := d.current()
		every := settings.StuckEvery
		begin := time.Now()
		if every > 0 {
			d.lookForStuck()
		}
		var next <-chan time.Time
		if every > 0 {
			next = time.After(max(every, maxShare*time.Since(begin)))
		} else {
			d.metrics.SetStuck(nil)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-next:
		}
	}
}

// lookForStuck counts the stuck sockets. If they cannot be listed, the last numbers remain.
func (d *daemon) lookForStuck() {
	from := d.o.Stuck
	snapshot, err := from.Look(sockets.Request{
		Namespaces: from.Namespaces(), SkipInaccessible: true, WantHolders: stuck.WantHolders,
	})
	if err != nil {
		d.o.Live.Probe.Log.Warn("stuck sockets are not counted", "because", err)
		return
	}
	found := metrics.Stuck{}
	workloads := map[uint32]string{} // by process
	for f := range stuck.NewReport(snapshot, &stuck.Filter{}, 0).Findings() {
		age := time.Duration(0)
		if f.Age != nil {
			age = f.Age.Duration()
		}
		found.Add(f.State, string(f.Diagnosis), from.workload(f, workloads), age)
	}
	d.metrics.SetStuck(found)
}

// workload returns the name of the workload of the process that has to close a socket.
func (s *StuckSource) workload(f *stuck.Finding, known map[uint32]string) string {
	holders := f.Processes()
	if len(holders) == 0 {
		return metrics.None
	}
	h := &holders[0]
	if name, ok := known[h.PID]; ok {
		return name
	}
	ev := events.Event{Cgroup: s.Cgroup(h.PID)}
	if s.Names != nil {
		s.Names(&ev)
	}
	name := metrics.Name(ev.Cgroup, ev.ContainerNames, h.Comm)
	known[h.PID] = name
	return name
}
