package live

import (
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/enrich"
	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/pipeline"
	"github.com/closetrace/closetrace/internal/sink"
	"github.com/closetrace/closetrace/internal/symbols"
	"github.com/closetrace/closetrace/test/fake"
)

// stuckNamer is a namer that never answers.
type stuckNamer struct{ release chan struct{} }

func (n stuckNamer) Names(*os.File, []uint64) ([]symbols.Name, error) {
	<-n.release
	return nil, symbols.ErrNoHelper
}

// withStacks is a source whose first event has a stack of this process.
type withStacks struct {
	*fake.Source
	read int
	pc   uint64
}

func (s *withStacks) Read(ev *events.Event) error {
	err := s.Source.Read(ev)
	if s.read++; err == nil && s.read%2 == 1 {
		ev.Task.PID = uint32(os.Getpid())
		ev.CallStack = &events.CallStack{Addresses: []uint64{s.pc, s.pc}, StartStack: ownStackStart()}
	}
	return err
}

// ownStackStart returns where the stack of this process begins: proc(5), field 28 of stat.
func ownStackStart() (begins uint64) {
	text, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(text), ") ")
	for _, digit := range strings.Fields(after)[28-3] {
		begins = 10*begins + uint64(digit-'0')
	}
	return begins
}

// timeline notes when each event was passed on.
type timeline struct {
	pipeline.DiscardRecorder
	mu     sync.Mutex
	events []events.Event
}

func (l *timeline) Write(ev *events.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, *ev)
	return nil
}

// A stack that is never named delays no event for long, and changes no order: it has modules and offsets, which are
// counted.
func TestNamesThatNeverCome(t *testing.T) {
	namer := stuckNamer{make(chan struct{})}
	defer close(namer.release)
	kept := &timeline{}
	var stderr strings.Builder
	o := pipeline.Options{Stderr: &stderr, Recorder: kept, Limit: 200}
	o.Resolvers.NameStack = nameStack(enrich.NewStacks("/proc", namer))
	source := &withStacks{Source: &fake.Source{Left: 200}, pc: pcOfThisTest()}
	r := pipeline.NewRun(source, sink.NewJSONL(io.Discard), o, new(counters))
	begin := time.Now()
	if err := r.Trace(t.Context()); err != nil {
		t.Fatal(err)
	}
	// An event waits for its names for 20 ms. A stack after the other would take 100 times as long.
	if took := time.Since(begin); took > 800*time.Millisecond {
		t.Errorf("took %v", took)
	}
	inOrder := slices.IsSortedFunc(kept.events, func(a, b events.Event) int { return int(a.MonoNS) - int(b.MonoNS) })
	if len(kept.events) != 200 || !inOrder {
		t.Errorf("%d events, or not in order", len(kept.events))
	}
	for i, ev := range kept.events {
		stack := ev.CallStack
		if (i%2 == 0) != (stack != nil) || stack != nil && (stack.Unresolved != 2 || len(stack.User) != 2) {
			t.Fatalf("event %d: %+v", i, stack)
		}
	}
	const want = "200 stack frames not resolved (file replaced, too large, too slow or damaged): shown as module+offset\n"
	if !strings.Contains(stderr.String(), want) {
		t.Errorf("standard error:\n%s", &stderr)
	}
}

func pcOfThisTest() uint64 {
	pcs := make([]uintptr, 1)
	runtime.Callers(1, pcs)
	return uint64(pcs[0])
}
