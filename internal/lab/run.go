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

	"github.com/closetrace/closetrace/internal/netns"
)

// stepTimeout bounds every wait of a step. It is long
// because an emulated machine is some twenty times slower than a real one.
const stepTimeout = 30 * time.Second

// running is held for reading by scenarios that run at the same time, for writing by one that runs alone.
var running sync.RWMutex

// sandbox is one run of a scenario: its network namespace, sockets, threads and helper processes.
type sandbox struct {
	ctx     context.Context
	sc      *Scenario
	res     *Result
	netns   int // descriptor of the namespace
	base    map[string]uint64
	sockets map[string]*socket
	threads map[string]*thread
	helpers map[string]*helper
	// messages are descriptors in SCM_RIGHTS messages that were not received, by the name of the socket.
	messages map[string]*message
	globals  map[string]global // settings of the whole machine to restore
}

// Run runs the steps of the scenario in a new network namespace, on a thread that ends with it.
//
// After the last step, while sockets are still open, Run calls settle (if it is
// not nil) with the result so far: the caller waits until its tracer has
// reported the expected endings and a quiet period has passed. Then the window
// ends, and Run closes the remaining sockets.
//
// Run returns an error if a step had another outcome than written, or if the
// process may not create a namespace (the error wraps EPERM). If a need of the
// scenario does not hold, the result says so in NotPossible and no step was run.
// The result is never nil.
//
// Scenarios may run at the same time. One that is [Scenario.Alone] waits until
// the others have ended, and blocks new ones.
func (sc *Scenario) Run(ctx context.Context, settle func(*Result)) (*Result, error) {
	return sc.RunWith(ctx, nil, settle)
}

// RunWith is like Run, and calls begin (if it is not nil) before the first step
// on the scenario's thread. There the caller can open sockets and files of the
// namespace. An error of begin ends the run.
func (sc *Scenario) RunWith(ctx context.Context, begin func(*Result) error, settle func(*Result)) (*Result, error) {
	if sc.Alone() {
		running.Lock()
		defer running.Unlock()
	} else {
		running.RLock()
		defer running.RUnlock()
	}
	r := &sandbox{
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
		globals:  map[string]global{},
	}
	if err := r.checkVerbs(); err != nil {
		return r.res, err
	}
	var err error
	onNewThread(func() { err = r.run(begin, settle) })
	return r.res, err
}

// run runs the scenario on the sandbox's thread.
func (r *sandbox) run(begin func(*Result) error, settle func(*Result)) (err error) {
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
	if r.base, err = netns.ThreadCounters(); err != nil {
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

// endWindow sets the end of the window and how far the counters moved in it.
func (r *sandbox) endWindow() error {
	r.res.EndNS = monotonic()
	now, err := netns.ThreadCounters()
	for name, n := range now {
		if before := r.base[name]; n > before {
			r.res.Counters[name] = n - before
		}
	}
	return err
}

// step runs one step and checks its outcome.
func (r *sandbox) step(st Step) error {
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

// check compares the outcome of a step with the expected one. The error of a
// system call is an outcome as well.
func check(want, outcome string, err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) && want != "" {
		outcome, err = unix.ErrnoName(errno), nil
	}
	switch {
	case err != nil:
		return err
	case want == "" && outcome == "EOF":
		return errors.New("unexpected EOF")
	case want != "" && outcome != want:
		return fmt.Errorf("got %s, not %s", outcome, want)
	}
	return nil
}

// cleanup ends helpers and threads, closes sockets and restores settings.
func (r *sandbox) cleanup() error {
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
		if !t.ended(stepTimeout) {
			errs = append(errs, fmt.Errorf("thread %s is still blocked", name))
		}
	}
	return errors.Join(errs...)
}

// until polls until found returns want. What it returned last is in the error.
func (r *sandbox) until(want string, found func() (now string, err error)) error {
	deadline := time.Now().Add(stepTimeout)
	for pause := 100 * time.Microsecond; ; pause = min(2*pause, 20*time.Millisecond) {
		now, err := found()
		if err != nil || now == want {
			return err
		}
		if err := r.ctx.Err(); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s, not %s, after %v", now, want, stepTimeout)
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
