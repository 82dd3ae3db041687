package enrich

import (
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/symbols"
)

func newJob(uid uint32) *Naming { return &Naming{uid: uid, done: make(chan struct{})} }

// A user whose jobs block does not keep others waiting, and may not fill the queue.
func TestScheduleIsFair(t *testing.T) {
	block := make(chan struct{})
	defer close(block)
	s := newSchedule(2, func(n *Naming) {
		if n.uid == 1 {
			<-block
		}
	})
	accepted := 0
	for range 2 * maxJobsPerUser {
		if s.add(newJob(1)) {
			accepted++
		}
	}
	if accepted < maxJobsPerUser || accepted > maxJobsPerUser+1 {
		t.Errorf("%d jobs of one user accepted", accepted)
	}
	for range 100 {
		job := newJob(2)
		if !s.add(job) {
			t.Fatal("no room")
		}
		select {
		case <-job.done:
		case <-time.After(time.Minute):
			t.Fatal("a job of another user waits")
		}
	}
}

// Jobs that no event waits for are left out if there are others.
func TestAbandonedJobs(t *testing.T) {
	var mu sync.Mutex
	var ran []*Naming
	begin := make(chan struct{})
	s := newSchedule(1, func(n *Naming) {
		<-begin
		mu.Lock()
		defer mu.Unlock()
		ran = append(ran, n)
	})
	jobs := []*Naming{newJob(1), newJob(1), newJob(1), newJob(1)}
	for i, job := range jobs {
		job.abandoned.Store(i < 3)
		if i == 0 {
			job.abandoned.Store(false)
		}
		s.add(job)
	}
	close(begin)
	for _, job := range jobs {
		<-job.done
	}
	mu.Lock()
	defer mu.Unlock()
	if n := len(ran); n == 0 || n > 2 && !slices.Contains(ran, jobs[3]) {
		t.Errorf("%d jobs ran", n)
	}
	if slices.Contains(ran, jobs[1]) && slices.Contains(ran, jobs[2]) {
		t.Error("ran what no event waits for")
	}
}

// A user whose job took long waits before the next one.
func TestSlowUserWaits(t *testing.T) {
	s := newSchedule(1, func(*Naming) { time.Sleep(2 * slowJob) })
	first, second := newJob(1), newJob(1)
	s.add(first)
	<-first.done
	ended := time.Now()
	s.add(second)
	<-second.done
	if waited := time.Since(ended); waited < slowShare*2*slowJob {
		t.Errorf("waited %v", waited)
	}
}

// blaming is a namer that cannot read any file.
type blaming struct {
	mu    sync.Mutex
	asked int
	err   error
}

func (b *blaming) Names(*os.File, []uint64) ([]symbols.Name, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked++
	return nil, b.err
}

// A file that cannot be read is not tried again. If the reason is not the file, it is.
func TestBadFile(t *testing.T) {
	pid := os.Getpid()
	start := startStack(t, pid)
	for err, want := range map[error]int{symbols.ErrFile: 1, symbols.ErrNoHelper: 3} {
		namer := &blaming{err: err}
		s := NewStacks("/proc", namer)
		code := s.readSpace(uint32(pid), start).maps.all
		i := slices.IndexFunc(code, func(m mapping) bool { return m.hasFile() })
		if i < 0 {
			t.Fatal("no file is mapped")
		}
		for range 3 {
			if got := resolve(t, s, pid, start, code[i].start+1); got.Unresolved != 1 {
				t.Errorf("%+v", got)
			}
		}
		if namer.asked != want {
			t.Errorf("%v: asked %d times, want %d", err, namer.asked, want)
		}
	}
}

// Without waiting, a stack has its addresses, and each counts as not resolved.
func TestFinishAtOnce(t *testing.T) {
	block := make(chan struct{})
	defer close(block)
	s := NewStacks("/proc", nil)
	s.schedule = newSchedule(1, func(*Naming) { <-block })
	ev := events.Event{CallStack: &events.CallStack{Addresses: []uint64{0x1000, 0x2000}, StartStack: 1}}
	s.Begin(&ev).Finish()
	if got := ev.CallStack; !slices.Equal(got.User, []string{"0x1000", "0x1fff"}) || got.Unresolved != 2 {
		t.Errorf("got %+v", got)
	}
}
