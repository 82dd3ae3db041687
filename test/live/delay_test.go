//go:build linux

package live

import (
	"bufio"
	"os"
	"testing"
	"time"
)

// Nobody wakes closetrace for a record, and yet what ended is told within a tenth
// of a second. Each socket is closed when the line of the one before has come,
// which is when closetrace has just looked, and so as long as can be before it
// looks again. A busy machine may delay some, but not all.
func TestLinesComeSoon(t *testing.T) { attempts(t, linesComeSoon) }

func linesComeSoon(t testing.TB) {
	const soon, inARow, tries = 100 * time.Millisecond, 5, 200
	var took []time.Duration
	inNetns(t, func(uint32) {
		r := launch(t, "-o", "json", "-p", itoa(os.Getpid()))
		lines := bufio.NewReader(r.stdout)
		for row := 0; row < inARow && len(took) < tries; row++ {
			bare(t, 1)
			closed := time.Now()
			must(t, r.stdout.SetReadDeadline(closed.Add(30*time.Second)))
			_, err := lines.ReadString('\n')
			must(t, err)
			took = append(took, time.Since(closed))
			if took[len(took)-1] > soon {
				row = -1
			}
		}
		r.interrupt(t)
	})
	if len(took) >= tries {
		t.Errorf("in %d tries no %d lines in a row came within %v: %v", tries, inARow, soon, took)
	}
}
