package lab

import (
	"context"
	"errors"
	"flag"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if RunHelper() {
		return
	}
	// Scenarios mostly wait. The flag may say otherwise.
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// run runs a scenario without a tracer. Only the lack of the right to make
// namespaces is a reason to skip.
func run(t *testing.T, sc *Scenario) (*Result, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	res, err := sc.Run(ctx, nil)
	if errors.Is(err, unix.EPERM) && res.Netns == 0 {
		t.Skip("not possible here: ", err)
	}
	return res, err
}

// runAsMeant runs a scenario until its steps have the outcomes, and the kernel's
// counters move, as it says, but three times at most: on a busy machine a timer of
// the kernel may come first.
func runAsMeant(t *testing.T, sc *Scenario) *Result {
	t.Helper()
	for left := 3; ; left-- {
		res, wrong := run(t, sc)
		if wrong == nil && res.NotPossible == "" {
			for _, m := range CompareCounters(sc, res) {
				wrong = errors.Join(wrong, errors.New(m.String()))
			}
		}
		if wrong == nil {
			return res
		}
		if left == 1 {
			t.Fatal(wrong)
		}
		t.Log("once more: ", wrong)
	}
}

// TestScenarios runs every scenario's steps and compares what the application
// sees and what the kernel counts.
func TestScenarios(t *testing.T) {
	all, err := Scenarios()
	if err != nil {
		t.Fatal(err)
	}
	for _, sc := range all {
		t.Run(sc.Name, func(t *testing.T) {
			if !sc.Alone() {
				t.Parallel()
			}
			res := runAsMeant(t, sc)
			if res.NotPossible != "" {
				t.Skip("not possible here: ", res.NotPossible)
			}
			for _, e := range sc.Endings {
				if _, ok := res.Sockets[e.Socket]; !ok {
					t.Errorf("line %d: the run has no socket %s", e.Line, e.Socket)
				}
			}
			if res.StartNS == 0 || res.EndNS < res.StartNS {
				t.Errorf("window from %d to %d", res.StartNS, res.EndNS)
			}
		})
	}
}
