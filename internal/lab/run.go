//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds every wait for something that is sure to come. It is long
// because an emulated machine is some twenty times slower than a real one.
const patience = 30 * time.Second

// running lets scenarios run side by side, but for those that run alone.
var running sync.RWMutex

// room is one run of a scenario: its namespace and what lives there.
type room struct {
	ctx     context.Context
	sc      *Scenario
	res     *Result
	netns   int // descriptor of the namespace
	base    map[string]uint64
	sockets map[string]*socket
	threads map[string]*thread
	helpers map[string]*helper
	// messages are descriptors on their way, by the name of the socket.
	messages map[string]*message
	globals  map[string]string // global settings to restore
}

// Run provokes the scenario in a new network namespace, on a thread of its own
// that dies with it.
//
// After the last step, while sockets are still open, Run calls settle (if it is
// not nil) with the result so far: there the caller waits until its tracer has
// reported the expected endings and a quiet period has passed. Only then the
// window ends, and what is left is closed.
//
// An error means that a step did not behave as written, or that there is no
// right to make a namespace (then it wraps EPERM). If a need of the scenario
// does not hold, the result says so in NotPossible and nothing was run. The
// result is never nil.
//
// Scenarios may be run at the same time. One that has to run [Scenario.Alone]
// waits until the others have ended, and lets none begin.
func (sc *Scenario) Run(ctx context.Context, settle func(*Result)) (*Result, error) {
	return sc.RunWith(ctx, nil, settle)
}

// RunWith is Run, and calls begin (if it is not nil) before the first step, on
// the scenario's thread inside its namespace, so that the caller can open what
// has to watch from in there. An error of it ends the run.
func (sc *Scenario) RunWith(ctx context.Context, begin func(*Result) error, settle func(*Result)) (*Result, error) {
	if sc.Alone() {
		running.Lock()
		defer running.Unlock()
	} else {
		running.RLock()
		defer running.RUnlock()
	}
	r := &room{
		ctx: ctx,
		sc:  sc,
		res: &Result{
			Sockets:  map[string]Endpoint{},
			Counters: map[string]uint64{},
			IDs:      map[string]int{},
		},
		netns:    -1,
		sockets:  map[string]*socket{},
		threads:  map[string]*thread{},
		helpers:  map[string]*helper{},
		messages: map[string]*message{},
		globals:  map[string]string{},
	}
	if err := r.checkVerbs(); err != nil {
		return r.res, err
	}
	var err error
	onNewThread(func() { err = r.run(begin, settle) })
	return r.res, err
}

// run is the life of the room, on the room's thread.
func (r *room) run(begin func(*Result) error, settle func(*Result)) (err error) {
	if err := r.enterNewNetns(); err != nil {
		return err
	}
	defer unix.Close(r.netns)
	for _, need := range r.sc.needs() {
		reason, err := r.unmet(need)
		if err != nil {
			return fmt.Errorf("need %q: %w", need, err)
		}
		if reason != "" {
			r.res.Unmet = need
			r.res.NotPossible = fmt.Sprintf("needs %s: %s", need, reason)
			return nil
		}
	}
	defer func() { err = errors.Join(err, r.cleanup()) }()
	if begin != nil {
		if err := begin(r.res); err != nil {
			return err
		}
	}
	if r.base, err = readCounters(); err != nil {
		return err
	}
	r.res.StartNS, r.res.EndNS = monotonic(), math.MaxUint64
	for _, st := range r.sc.Steps {
		if err := r.step(st); err != nil {
			return fmt.Errorf("%s%s:%d: %s: %w", r.sc.Name, extension, st.Line, st.Text, err)
		}
	}
	if settle != nil {
		settle(r.res)
	}
	return r.endWindow()
}

// endWindow notes when the window ended and how the counters had moved by then.
func (r *room) endWindow() error {
	r.res.EndNS = monotonic()
	now, err := readCounters()
	for name, n := range now {
		if before := r.base[name]; n > before {
			r.res.Counters[name] = n - before
		}
	}
	return err
}

// step takes one step and checks what the application saw.
func (r *room) step(st Step) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	do, err := r.bind(st)
	if err != nil {
		return err
	}
	outcome, err := do()
	return check(st.Want, outcome, err)
}

// check compares what a step wants with its outcome. A system call's error is
// an outcome, too.
func check(want, outcome string, err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) && want != "" {
		outcome, err = unix.ErrnoName(errno), nil
	}
	switch {
	case err != nil:
		return err
	case want == "" && outcome == "EOF":
		return errors.New("end of file")
	case want != "" && outcome != want:
		return fmt.Errorf("got %s, not %s", outcome, want)
	}
	return nil
}

// cleanup ends what the steps left: helpers, threads, sockets, settings.
func (r *room) cleanup() error {
	if r.res.EndNS == math.MaxUint64 {
		r.res.EndNS = monotonic() // a step failed
	}
	var errs []error
	for key := range r.globals {
		errs = append(errs, r.restore(key))
	}
	for _, h := range r.helpers {
		h.end()
	}
	for _, m := range r.messages {
		errs = append(errs, m.drop())
	}
	for _, s := range r.sockets {
		s.abandon()
	}
	for name, t := range r.threads {
		if !t.ended(patience) {
			errs = append(errs, fmt.Errorf("thread %s is still blocked", name))
		}
	}
	return errors.Join(errs...)
}

// until polls until the condition holds. The condition also says what it found
// instead, for the error.
func (r *room) until(want string, found func() (now string, err error)) error {
	deadline := time.Now().Add(patience)
	for pause := 100 * time.Microsecond; ; pause = min(2*pause, 20*time.Millisecond) {
		now, err := found()
		if err != nil || now == want {
			return err
		}
		if err := r.ctx.Err(); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s, not %s, after %v", now, want, patience)
		}
		time.Sleep(pause)
	}
}

// monotonic returns CLOCK_MONOTONIC in nanoseconds.
func monotonic() uint64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return uint64(ts.Nano())
}
