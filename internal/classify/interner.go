package classify

import "github.com/closetrace/closetrace/internal/events"

// maxInterned bounds an interner.
const maxInterned = 4096

// interner holds one copy of each value that was made, so that an equal one need
// not be allocated: causes and tasks are few. It starts anew when it is full.
type interner[K comparable, V any] map[K]V

// recentCauses holds the last cause of each length. Most endings have the cause of a
// recent one, and comparing takes a third of what the look-up in a map takes.
type recentCauses [32]string

func (in interner[K, V]) add(k K, v V) V {
	if len(in) == maxInterned {
		clear(in)
	}
	in[k] = v
	return v
}

// cause returns the text of a phrase.
func (c *Classifier) cause(p phrase) string {
	recent := &c.recentCauses[len(p)%len(c.recentCauses)]
	if *recent != string(p) {
		*recent = c.internCause(p)
	}
	return *recent
}

func (c *Classifier) internCause(p phrase) string {
	if text, ok := c.causes[string(p)]; ok {
		return text
	}
	text := string(p)
	return c.causes.add(text, text)
}

// task returns a copy of a task, which must not be changed. A thread has one until
// it is renamed or its number is reused.
func (c *Classifier) task(t *events.Task) *events.Task {
	if c.recentTask == nil || *c.recentTask != *t {
		c.recentTask = c.internTask(t)
	}
	return c.recentTask
}

func (c *Classifier) internTask(t *events.Task) *events.Task {
	if task := c.tasks[t.TID]; task != nil && *task == *t {
		return task
	}
	task := *t
	return c.tasks.add(t.TID, &task)
}
