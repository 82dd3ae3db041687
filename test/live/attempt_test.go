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

// maxAttempts limits how often a test is tried.
const maxAttempts = 3

// attempts runs a test that expects to see every event. If it fails, and
// something excuses that, it runs again: the kernel did not run some of
// closetrace's programs in the meantime, or it took another path than the test
// provokes. Everything that the test waits for must belong to the attempt. The
// report counts what is tried again.
func attempts(t *testing.T, try func(t testing.TB)) {
	t.Helper()
	addRetriable()
	retry(t, try, func(reason string) { addRetry(t.Name(), reason) })
}

// repeating lets one test at a time be repeated: those that made each other's probes be missed would do it again.
var repeating sync.Mutex

// retry calls excused before each attempt but the first.
func retry(t *testing.T, try func(t testing.TB), excused func(reason string)) {
	t.Helper()
	for n := 1; ; n++ {
		a := &attempt{TB: t}
		if n == 2 {
			repeating.Lock()
			defer repeating.Unlock()
		}
		a.run(try)
		if len(a.wrong) == 0 {
			return
		}
		failures := strings.Join(a.wrong, "\n")
		reason := a.excuse()
		if reason == "" && n == 1 && missesUncounted(t) {
			reason = "this kernel does not count every missed probe"
		}
		if reason == "" || n == maxAttempts {
			t.Error(failures)
			return
		}
		excused(reason)
		t.Logf("trying again, as %s:\n%s", reason, failures)
	}
}

// missesUncounted reports whether this kernel skips programs without counting:
// before 6.7 those of kprobes, and on some kernels all while process 1 is
// current. Both are rare, so one more attempt is enough.
func missesUncounted(t testing.TB) bool {
	return *attach == string(probe.Kprobe) && !countsKprobeMisses(kernel.Release()) || programsSkip(t, 1)
}

// countsKprobeMisses reports whether a release counts the runs that a kprobe's
// program misses (6.7).
func countsKprobeMisses(release string) bool {
	var major, minor int
	_, err := fmt.Sscanf(release, "%d.%d", &major, &minor)
	return err == nil && (major > 6 || major == 6 && minor >= 7)
}

// attempt collects failures for retry to judge. All other methods are those of
// the test.
type attempt struct {
	testing.TB
	mu        sync.Mutex
	wrong     []string
	missed    uint64 // probes that the kernel counted as left out
	otherPath bool   // the kernel did something else than was provoked
	cleanups  []func()
}

// excuse returns why a failure may be no fault of closetrace, or "".
func (a *attempt) excuse() string {
	switch {
	case a.missed == 1:
		return "1 probe was missed"
	case a.missed > 0:
		return fmt.Sprintf("%d probes were missed", a.missed)
	case a.otherPath:
		return "the kernel took another path than the provoked one"
	}
	return ""
}

// run returns when the attempt and its cleanups have ended.
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

// countMissed adds missed probes, which excuse another attempt.
func countMissed(t testing.TB, n uint64) {
	if a, is := t.(*attempt); is {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.missed += n
	}
}

// didOtherwise excuses another attempt, because evidence other than closetrace
// shows that the kernel took another path than the test provoked: the kernel's
// counters, or the result of a system call. On a busy machine a timer may expire
// first.
func didOtherwise(t testing.TB) {
	if a, is := t.(*attempt); is {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.otherPath = true
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

// A failed attempt is repeated only if something excuses it; its cleanups run in
// any case.
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
	for reason, excuse := range map[string]func(testing.TB){
		"the kernel took another path than the provoked one": didOtherwise,
		"1 probe was missed":    func(t testing.TB) { countMissed(t, 1) },
		"12 probes were missed": func(t testing.TB) { countMissed(t, 5); countMissed(t, 7) },
	} {
		tries := 0
		var reasons []string
		retry(t, func(t testing.TB) {
			if tries++; tries < 3 {
				excuse(t)
				t.Error("wrong")
			}
		}, func(reason string) { reasons = append(reasons, reason) })
		if tries != 3 || !slices.Equal(reasons, []string{reason, reason}) {
			t.Errorf("%d attempts, retried because %q", tries, reasons)
		}
	}
}

// A test that ends inside of a network namespace of its own ends, and so do its cleanups.
func TestFailureInNetns(t *testing.T) {
	a := &attempt{TB: t}
	a.run(func(t testing.TB) {
		c := newContainer(t)
		t.Cleanup(func() { c.do(t, func() error { return nil }) })
		c.do(t, func() error {
			t.Fatal("one")
			return nil
		})
	})
	if len(a.wrong) != 3 { // one, the do that it was in, and the do of the cleanup
		t.Errorf("%q", a.wrong)
	}
}
