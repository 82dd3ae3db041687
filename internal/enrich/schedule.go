package enrich

import (
	"sync"
	"time"
)

// Limits on the work that waits.
const (
	maxJobs        = 2048
	maxJobsPerUser = 512
	// slowJob is how long a job may take without consequences. After a longer one, jobs of that user wait four times
	// as long, so that they get a fifth of the time.
	slowJob   = 50 * time.Millisecond
	slowShare = 4
)

// schedule runs jobs on goroutines, of each user at most one at a time, and the users in turn: no user can keep the
// others waiting for longer than a job takes.
type schedule struct {
	mu      sync.Mutex
	changed *sync.Cond
	users   map[uint32]*userJobs
	turns   []uint32 // users with jobs
	jobs    int      // that wait
}

// userJobs are the jobs of a user.
type userJobs struct {
	waiting  []*Naming
	running  bool
	notUntil time.Time
}

// newSchedule starts n goroutines that run jobs.
func newSchedule(n int, run func(*Naming)) *schedule {
	s := &schedule{users: map[uint32]*userJobs{}}
	s.changed = sync.NewCond(&s.mu)
	for range n {
		go func() {
			for {
				job := s.next()
				begin := time.Now()
				run(job)
				close(job.done)
				s.ended(job.uid, time.Since(begin))
			}
		}()
	}
	return s
}

// add adds a job. It reports false if too many wait.
func (s *schedule) add(job *Naming) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.users[job.uid]
	if s.jobs >= maxJobs || u != nil && len(u.waiting) >= maxJobsPerUser {
		return false
	}
	if u == nil {
		u = &userJobs{}
		s.users[job.uid] = u
	}
	if u.waiting = append(u.waiting, job); len(u.waiting) == 1 {
		s.turns = append(s.turns, job.uid)
	}
	s.jobs++
	s.changed.Signal()
	return true
}

// next waits for a job.
func (s *schedule) next() *Naming {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		for i, uid := range s.turns {
			u := s.users[uid]
			if u.running || time.Now().Before(u.notUntil) {
				continue
			}
			s.turns = append(s.turns[:i:i], s.turns[i+1:]...)
			job := s.takeFrom(u)
			if u.running = true; len(u.waiting) > 0 {
				s.turns = append(s.turns, uid)
			}
			return job
		}
		s.changed.Wait()
	}
}

// takeFrom takes the next job of a user: one whose result an event still waits for, or else the last.
func (s *schedule) takeFrom(u *userJobs) *Naming {
	for {
		job := u.waiting[0]
		u.waiting = u.waiting[1:]
		s.jobs--
		if len(u.waiting) == 0 || !job.abandoned.Load() {
			return job
		}
		close(job.done)
	}
}

// ended ends a job of a user, which took some time.
func (s *schedule) ended(uid uint32, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.users[uid]
	u.running = false
	switch {
	case took > slowJob:
		u.notUntil = time.Now().Add(slowShare * took)
		time.AfterFunc(slowShare*took, func() { s.forget(uid) })
	case len(u.waiting) == 0:
		delete(s.users, uid)
	}
	s.changed.Broadcast()
}

// forget ends the time that a user has to wait.
func (s *schedule) forget(uid uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.users[uid]; u != nil && !u.running && len(u.waiting) == 0 && !time.Now().Before(u.notUntil) {
		delete(s.users, uid)
	}
	s.changed.Broadcast()
}
