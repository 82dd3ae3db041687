package serve

import (
	"context"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/metrics"
	"github.com/closetrace/closetrace/internal/pipeline"
	"github.com/closetrace/closetrace/internal/probe"
)

// read returns what the tracer has counted, for a scrape.
func (d *daemon) read() metrics.Readings {
	r := d.readSource()
	r.RecordingFailed, r.Recorded = d.run.RecordingFailed()
	for _, e := range d.o.Exporters {
		r.ExportDropped += e.Dropped()
	}
	return r
}

// readSource returns what its source has counted: once that is detached, what it had before.
func (d *daemon) readSource() metrics.Readings {
	r := d.readings(d.run.Losses(), d.run.Counted())
	if last := d.atDetach.Load(); last != nil { // perhaps since r was read
		return *last
	}
	return r
}

func (d *daemon) readings(lost events.Losses, counted map[events.Path]uint64) metrics.Readings {
	return metrics.Readings{
		LostRecords: lost.LostRecords, MissedProbes: lost.MissedProbes, Suppressed: lost.Suppressed,
		Counted: counted, Unexplained: d.audit.unexplained(lost.Suppressed),
	}
}

// source is a source that notes what it has counted before it is detached. Afterwards it has the numbers of a whole
// run: calls that are still blocked are runs that were missed, FINs that were not answered are endings. A service goes
// on with its next start, and these would be losses and endings that each restart adds.
type source struct {
	pipeline.Source
	of *daemon
}

// Detach detaches the source.
func (s source) Detach() error {
	last := s.of.readings(s.Losses(), s.Counted())
	s.of.atDetach.Store(&last)
	return s.Source.Detach()
}

// opening returns open with sources that note what they have counted.
func (d *daemon) opening(
	open func(context.Context, probe.Options) (pipeline.Source, error),
) func(context.Context, probe.Options) (pipeline.Source, error) {
	return func(ctx context.Context, o probe.Options) (pipeline.Source, error) {
		from, err := open(ctx, o)
		if err != nil {
			return nil, err
		}
		return source{from, d}, nil
	}
}
