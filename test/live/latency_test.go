//go:build linux

package live

import (
	"bufio"
	"os"
	"testing"
	"time"
)

// No record wakes closetrace, and yet every ending is printed within 100 ms. Each
// socket is closed when the line of the previous one was printed, which is just
// after closetrace polled, and so as long as possible before it polls again. A
// busy machine may delay some lines, but not all.
func TestLatency(t *testing.T) { attempts(t, latency) }

func latency(t testing.TB) {
	const limit, inARow, tries = 100 * time.Millisecond, 5, 200
	var took []time.Duration
	inNetns(t, func(uint32) {
		r := launch(t, "-o", "json", "-p", itoa(os.Getpid()))
		lines := bufio.NewReader(r.stdout)
		for row := 0; row < inARow && len(took) < tries; row++ {
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
