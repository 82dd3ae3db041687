package live

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/closetrace/closetrace/internal/pipeline"
	"github.com/closetrace/closetrace/internal/probe"
)

// attachMemory is the memory limit while attaching. 14 MB are in use at once. With a limit of 16 MB the collector took
// most of the time, with 20 MB a fifth; with this one the process is 2 MB larger for a moment.
const attachMemory = 32 << 20

// Attach loads and attaches the programs of the kernel side. It collects garbage early, because the kernel's type
// information is most of what a trace ever allocates. GOGC overrides that, GOMAXPROCS the limit of processors.
func Attach(ctx context.Context, o probe.Options) (pipeline.Source, error) {
	limitProcessors()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(25)
		defer debug.SetGCPercent(50)
		defer debug.SetMemoryLimit(debug.SetMemoryLimit(attachMemory))
	}
	p, err := probe.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	if err := releaseProgram(); err != nil {
		o.Log.Debug("the pages of the program file stay in memory", "error", err)
	}
	return p, nil
}

// maxProcessors is how many processors run Go code at once: one reads, one classifies and writes. On all of a large
// machine the collector would take a quarter of it in bursts, and memory for each.
const maxProcessors = 4

func limitProcessors() {
	if os.Getenv("GOMAXPROCS") == "" && runtime.GOMAXPROCS(0) > maxProcessors {
		runtime.GOMAXPROCS(maxProcessors)
	}
}
