//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
)

// floor is the tracer that does the least (floor.bpf.c): it reads its records every 50 ms and discards them.
func floor(ctx context.Context, mode string) error {
	spec, err := ebpf.LoadCollectionSpec(floorObject)
	if err != nil {
		return err
	}
	for name := range spec.Programs {
		if name != mode {
			delete(spec.Programs, name)
		}
	}
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		return err
	}
	defer coll.Close()
	prog := coll.Programs[mode]
	if prog == nil {
		return fmt.Errorf("no floor for %q", mode)
	}
	var ln link.Link
	if mode == "kprobe" {
		ln, err = link.Kprobe("tcp_close", prog, nil)
	} else {
		ln, err = link.AttachTracing(link.TracingOptions{Program: prog})
	}
	if err != nil {
		return err
	}
	defer ln.Close()
	fmt.Fprintln(os.Stderr, "attached")
	return discard(ctx, coll.Maps["ring"])
}

// discard reads records until ctx ends.
func discard(ctx context.Context, ring *ebpf.Map) error {
	reader, err := ringbuf.NewReader(ring)
	if err != nil {
		return err
	}
	defer reader.Close()
	var record ringbuf.Record
	for ctx.Err() == nil {
		reader.SetDeadline(time.Now().Add(50 * time.Millisecond))
		for err = nil; err == nil; {
			err = reader.ReadInto(&record)
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
	return nil
}
