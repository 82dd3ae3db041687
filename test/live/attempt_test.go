//go:build linux

package live

import (
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/closetrace/closetrace/internal/kernel"
	"github.com/closetrace/closetrace/internal/probe"
)

// maxAttempts is how often a test may begin.
const maxAttempts = 3

// attempts runs a test that wants to see everything, and once more if it goes
// wrong and something excuses it: the kernel left out programs of closetrace
// meanwhile, and what was not run cannot tell; or the kernel did something else
// than the test provokes. All that the test waits for has to be of the attempt.
func attempts(t *testing.T, try func(t testing.TB)) {
	t.Helper()
	for left := maxAttempts; ; left-- {
		a := &attempt{TB: t}
		a.run(try)
		if len(a.wrong) == 0 {
			return
		}
		wrong := strings.Join(a.wrong, "\n")
		if left == 1 || a.missed == 0 && !a.otherwise && !(left == maxAttempts && missesUncounted(t)) {
			t.Error(wrong)
			return
		}
		t.Logf("once more (%d probes missed, kernel did otherwise: %v):\n%s", a.missed, a.otherwise, wrong)
	}
}

// missesUncounted tells of a kernel that leaves programs out without counting:
// one before 6.7 those of kprobes, and one that spares process 1. It is rare, so
// that one more attempt has to do.
func missesUncounted(t testing.TB) bool {
	return *attach == string(probe.Kprobe) && !countsKprobeMisses(kernel.Release()) || spared(t, 1)
}

// countsKprobeMisses tells whether a release counts the runs that a kprobe's
// program is left out of (6.7).
func countsKprobeMisses(release string) bool {
	var major, minor int
	_, err := fmt.Sscanf(release, "%d.%d", &major, &minor)
	return err == nil && (major > 6 || major == 6 && minor >= 7)
}

// attempt collects what goes wrong, for attempts to judge. What it does not have
// is the test's.
type attempt struct {
	testing.TB
	mu        sync.Mutex
	wrong     []string
	missed    uint64 // probes that the kernel counted as left out
	otherwise bool   // the kernel did something else than was provoked
	cleanups  []func()
}

// run is over when the attempt is, its cleanups included.
func (a *attempt) run(try func(t testing.TB)) {
	over := make(chan struct{})
	go func() { // FailNow ends it
		defer close(over)
		defer a.cleanup()
		try(a)
	}()
	<-over
}

func (a *attempt) cleanup() {
	for len(a.cleanups) > 0 {
		last := a.cleanups[len(a.cleanups)-1]
		a.cleanups = a.cleanups[:len(a.cleanups)-1]
		defer a.cleanup() // also where it fails
		last()
	}
}

func (a *attempt) fail(what string) {
	_, file, line, _ := runtime.Caller(2)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wrong = append(a.wrong, fmt.Sprintf("%s:%d: %s", filepath.Base(file), line, strings.TrimSuffix(what, "\n")))
}

// countMissed adds to what excuses another attempt.
func countMissed(t testing.TB, n uint64) {
	if a, is := t.(*attempt); is {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.missed += n
	}
}

// didOtherwise excuses another attempt, because something other than closetrace
// says that the kernel did something else than was provoked: its own counters, or
// what a system call gave. A busy machine lets timers come first.
func didOtherwise(t testing.TB) {
	if a, is := t.(*attempt); is {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.otherwise = true
	}
}

func (a *attempt) Error(args ...any)                 { a.fail(fmt.Sprintln(args...)) }
func (a *attempt) Errorf(format string, args ...any) { a.fail(fmt.Sprintf(format, args...)) }
func (a *attempt) Fail()                             { a.fail("failed") }
func (a *attempt) FailNow()                          { a.fail("failed"); runtime.Goexit() }
func (a *attempt) Fatal(args ...any)                 { a.fail(fmt.Sprintln(args...)); runtime.Goexit() }
func (a *attempt) Fatalf(format string, args ...any) {
	a.fail(fmt.Sprintf(format, args...))
	runtime.Goexit()
}
func (a *attempt) Failed() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.wrong) > 0
}
func (a *attempt) Cleanup(f func()) { a.cleanups = append(a.cleanups, f) }

// An attempt that goes wrong is repeated if something excuses it, and then only;
// its cleanups run either way.
func TestAttempt(t *testing.T) {
	for _, tt := range []struct {
		name  string
		try   func(t testing.TB)
		wrong int
	}{
		{"good", func(t testing.TB) { t.Cleanup(func() {}) }, 0},
		{"two errors", func(t testing.TB) { t.Error("one"); t.Errorf("two") }, 2},
		{"fatal", func(t testing.TB) { t.Fatal("one"); t.Error("never") }, 1},
		{"fatal in a cleanup", func(t testing.TB) { t.Cleanup(func() { t.Fatalf("two") }); t.Fatal("one") }, 2},
	} {
		a := &attempt{TB: t}
		cleaned := 0
		a.run(func(t testing.TB) {
			t.Cleanup(func() { cleaned++ })
			tt.try(t)
		})
		if len(a.wrong) != tt.wrong || cleaned != 1 || a.Failed() != (tt.wrong > 0) {
			t.Errorf("%s: %q, cleaned %d times", tt.name, a.wrong, cleaned)
		}
		if slices.ContainsFunc(a.wrong, func(s string) bool { return !strings.HasPrefix(s, "attempt_test.go:") }) {
			t.Errorf("%s: %q", tt.name, a.wrong)
		}
	}
	for _, excuse := range []func(testing.TB){didOtherwise, func(t testing.TB) { countMissed(t, 1) }} {
		tries := 0
		attempts(t, func(t testing.TB) {
			if tries++; tries < maxAttempts {
				excuse(t)
				t.Error("wrong")
			}
		})
		if tries != maxAttempts {
			t.Errorf("%d tries", tries)
		}
	}
}
