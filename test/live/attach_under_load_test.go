//go:build linux

package live

import (
	"context"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/probe"
)

// Attaching and detaching take a while, hook by hook. The kernel reports only a
// part of what happens in the meantime, and closetrace concludes no endings from
// it.
func TestAttachUnderLoad(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	var busy sync.WaitGroup
	defer busy.Wait()
	defer stop()
	for _, linger := range []bool{false, true} {
		l, addr := listen(t, loopback4)
		busy.Go(func() {
			defer unix.Close(l)
			for ctx.Err() == nil {
				time.Sleep(time.Millisecond) // busy, but not more than the ring buffer takes
				a, b := connect(t, l, addr)
				if linger {
					a.linger(t, 0)
				}
				unix.Close(a.fd)
				unix.Close(b.fd)
			}
		})
	}
	tr := trace(t, probe.Filter{})
	tr.mayMiss = true
	const enough = 100
	eventually(t, "endings", func() bool {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		return len(tr.endings) > enough
	})
	endings := tr.finish(t)
	if tr.unexplained > tr.losses.MissedProbes {
		t.Errorf("%d events that no rule covers, %d probes missed", tr.unexplained, tr.losses.MissedProbes)
	}
	var doubtful uint64
	for _, e := range endings {
		if e.Doubt != "" {
			doubtful++
			t.Logf("%s is %s, because %s: %s", e.Path, e.Confidence(), e.Doubt, e.Cause)
		}
	}
	if doubtful > tr.losses.MissedProbes {
		t.Errorf("%d doubtful endings, %d probes missed", doubtful, tr.losses.MissedProbes)
	}
}
