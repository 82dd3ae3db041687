package serve

import (
	"context"
	"errors"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/metrics"
	"github.com/closetrace/closetrace/internal/sockets"
	"github.com/closetrace/closetrace/internal/stuck"
)

// StuckSource finds the sockets that do not close.
type StuckSource struct {
	*sockets.Source
	// Namespaces returns the network namespaces to look at, as in [sockets.Request], and how many could not be opened.
	Namespaces func() (found map[uint32]string, inaccessible int, err error)
	// Cgroup returns the path of the cgroup of a process, Names completes an event that has one.
	Cgroup func(pid uint32) string
	Names  func(*events.Event)
}

// maxShare is the inverse of the share of time that may be spent on counting stuck sockets.
const maxShare = 50

// countStuck counts the stuck sockets until ctx ends.
func (d *daemon) countStuck(ctx context.Context) {
	warned := ""
	for {
		settings, changed := d.current()
		every := settings.StuckEvery
		begin := time.Now()
		if every > 0 {
			err := d.lookForStuck()
			if err != nil && err.Error() != warned { // the same is not repeated every 30 s
				what := "stuck sockets are not counted"
				if errors.Is(err, errInaccessible) {
					what = "stuck sockets of some network namespaces are not counted"
				}
				d.o.Live.Probe.Log.Warn(what, "because", err)
				warned = err.Error()
			}
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

var errInaccessible = errors.New("closetrace may not enter them: this needs CAP_SYS_ADMIN")

// lookForStuck counts the stuck sockets. If they cannot be listed, the last numbers remain. An error may also be about
// a part of them.
func (d *daemon) lookForStuck() error {
	from := d.o.Stuck
	namespaces, inaccessible, err := from.Namespaces()
	if err != nil {
		return err
	}
	snapshot, err := from.Look(sockets.Request{
		Namespaces: namespaces, SkipInaccessible: true, WantHolders: stuck.WantHolders,
	})
	if err != nil {
		return err
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
	if inaccessible+snapshot.InaccessibleSpaces > 0 {
		return errInaccessible
	}
	return nil
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
