//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// measureNative measures, on this machine, how long closetrace takes to start, and its CPU time. That needs root, and
// is left out without.
func (r *results) measureNative(ctx context.Context, dir string, times int) error {
	r.Starts, r.Native = nil, nil
	if times == 0 {
		return nil
	}
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "bench: not root: nothing is measured on this machine")
		return nil
	}
	program := filepath.Join(dir, "closetrace")
	build := command(ctx, "go", "build", "-trimpath", "-o", program, "./cmd/closetrace")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if err := build.Run(); err != nil {
		return fmt.Errorf("%s: %w", build, err)
	}
	var err error
	if r.Starts, err = measureStarts(program, times); err != nil {
		return err
	}
	r.Native, err = measureShares(program, times)
	return err
}

// measureStarts measures the time from closetrace's start to its first line, while sockets are closed.
func measureStarts(program string, times int) ([]startUp, error) {
	var found []startUp
	for _, mode := range modes {
		s := startUp{Mechanism: mode}
		for range times {
			took, err := firstLine(tracer{name: mode, argv: []string{program, "--attach", mode, "-o", "json"}})
			if err != nil {
				fmt.Fprintf(os.Stderr, "bench: %s: how long it takes to start is not measured: %v\n", mode, err)
				break
			}
			s.MS = append(s.MS, float64(took)/float64(time.Millisecond))
		}
		if len(s.MS) > 0 {
			found = append(found, s)
		}
	}
	return found, nil
}

// firstLine starts a tracer and ends it at its first line.
func firstLine(t tracer) (time.Duration, error) {
	p, err := start(t)
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(filepath.Dir(p.out))
	err = p.awaitReady(func() error { return (&load{}).one(mixBare) })
	if stopErr := p.stop(); err == nil {
		err = stopErr
	}
	return p.readyAfter, err
}

// nativeConns is how many connections a native measurement opens and closes, of each of the load's listeners: fewer
// than there are local ports.
const nativeConns = 5000

// measureShares measures the CPU time of closetrace as a share of that of the load, which it traces, in each attach
// mode that works here.
func measureShares(program string, times int) ([]cpuShare, error) {
	l, err := newLoad()
	if err != nil {
		return nil, err
	}
	var found []cpuShare
	for _, t := range tracers() {
		if t.kind != kindOurs || !hasNativeBound(t) {
			continue
		}
		t.argv[0] = program
		s, err := l.cpuShare(t, times)
		if err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s: its CPU time is not measured: %v\n", t.name, err)
			continue
		}
		found = append(found, s)
	}
	return found, nil
}

// hasNativeBound reports whether there is a budget of the tracer's CPU time.
func hasNativeBound(t tracer) bool {
	for _, b := range ratios {
		if t.name == t.mechanism+b.tracer {
			return b.native > 0
		}
	}
	return false
}

// cpuShare measures one tracer, after it has seen the load once.
func (l *load) cpuShare(t tracer, times int) (s cpuShare, err error) {
	s.Tracer = t.name
	p, err := start(t)
	if err != nil {
		return s, err
	}
	defer os.RemoveAll(filepath.Dir(p.out))
	if err = p.awaitReady(func() error { return l.one(mixBare) }); err == nil {
		err = l.runEach(nativeConns)
	}
	for range times {
		time.Sleep(settleTime)
		if err != nil {
			break
		}
		ours, own := p.cpu(), ownCPU()
		err = l.runEach(nativeConns)
		own = ownCPU() - own
		time.Sleep(settleTime)
		s.Shares = append(s.Shares, float64(p.cpu()-ours)/float64(own))
	}
	if stopErr := p.stop(); err == nil {
		err = stopErr
	}
	s.Lost = lost(p.stderr())
	return s, err
}

// runEach runs the FIN mix with each listener, n times.
func (l *load) runEach(n int) error {
	for _, one := range append(l.threads, l) {
		if err := one.run(mixFIN, n); err != nil {
			return err
		}
	}
	return nil
}

// ownCPU returns the CPU time of this process in nanoseconds, in user mode and in system calls.
func ownCPU() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		return 0
	}
	return t.Nano()
}
