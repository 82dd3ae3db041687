//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// measureStarts measures the time from closetrace's start to its first line, while sockets are closed, on this
// machine. It needs root, and is left out without.
func measureStarts(ctx context.Context, dir string, times int) ([]startUp, error) {
	if times == 0 {
		return nil, nil
	}
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "bench: not root: how long closetrace takes to start is not measured")
		return nil, nil
	}
	program := filepath.Join(dir, "closetrace")
	build := command(ctx, "go", "build", "-trimpath", "-o", program, "./cmd/closetrace")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if err := build.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w", build, err)
	}
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
