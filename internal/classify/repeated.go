package classify

import "github.com/closetrace/closetrace/internal/events"

// repeated gives what was made before where the same is asked for again: the causes of endings and the tasks that
// bring them about are few, and need not be made anew for each. It is bounded, and begins anew when it is full.
type repeated struct {
	texts map[string]string
	late  [16]string // some of the last texts, by length
	tasks map[events.Task]*events.Task
	last  *events.Task
	pasts []events.Past // to be used: made many at once
}

const maxRepeated = 4096

func newRepeated() repeated {
	return repeated{texts: map[string]string{}, tasks: map[events.Task]*events.Task{}}
}

func (r *repeated) text(b []byte) string {
	late := &r.late[len(b)%len(r.late)]
	if *late != string(b) {
		*late = r.known(b)
	}
	return *late
}

func (r *repeated) known(b []byte) string {
	if s, ok := r.texts[string(b)]; ok {
		return s
	}
	if len(r.texts) == maxRepeated {
		clear(r.texts)
	}
	s := string(b)
	r.texts[s] = s
	return s
}

// task gives a task that nobody may change.
func (r *repeated) task(t *events.Task) *events.Task {
	if r.last != nil && *r.last == *t {
		return r.last
	}
	known, ok := r.tasks[*t]
	if !ok {
		if len(r.tasks) == maxRepeated {
			clear(r.tasks)
		}
		made := *t
		known = &made
		r.tasks[made] = known
	}
	r.last = known
	return known
}

// past is the form that goes into a later ending.
func (r *repeated) past(p *past, ev *events.Event) *events.Past {
	if p == nil {
		return nil
	}
	if len(r.pasts) == 0 {
		r.pasts = make([]events.Past, 64)
	}
	made := &r.pasts[0]
	r.pasts = r.pasts[1:]
	made.Path, made.AgoNS, made.Actor = p.path, uint64(p.ago(ev)), p.actor
	return made
}
