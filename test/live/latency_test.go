//go:build linux

package live

import (
	"bufio"
	"os"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// Every ending is printed within 100 ms, although no record wakes closetrace while others come: each socket is closed
// when the line of the previous one was printed, which is just after closetrace polled, and so as long as possible
// before it polls again. And a record does wake it after a time in which nothing happened. A busy machine may delay
// some lines, but not all.
func TestLatency(t *testing.T) {
	t.Run("Busy", func(t *testing.T) { attempts(t, func(t testing.TB) { latency(t, 0, 200) }) })
	t.Run("Idle", func(t *testing.T) { attempts(t, func(t testing.TB) { latency(t, 2*events.LaterTick, 30) }) })
}

// latency closes a socket at least so long after the line of the previous one, until some lines in a row came in time.
func latency(t testing.TB, pause time.Duration, tries int) {
	const limit, inARow = 100 * time.Millisecond, 5
	var took []time.Duration
	inNetns(t, func(uint32) {
		r := launch(t, "-o", "json", "-p", itoa(os.Getpid()))
		lines := bufio.NewReader(r.stdout)
		for row := 0; row < inARow && len(took) < tries; row++ {
			time.Sleep(pause)
			closeUnconnected(t, 1)
			closed := time.Now()
			must(t, r.stdout.SetReadDeadline(closed.Add(30*time.Second)))
			_, err := lines.ReadString('\n')
			must(t, err)
			took = append(took, time.Since(closed))
			if took[len(took)-1] > limit {
				row = -1
			}
		}
		r.interrupt(t)
	})
	if len(took) >= tries {
		t.Errorf("in %d tries no %d lines in a row came within %v: %v", tries, inARow, limit, took)
	}
}
