//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// countRuns makes the kernel count how often its BPF programs run, and for how long, until it is closed.
func countRuns() (io.Closer, error) {
	return ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
}

type runs struct{ runs, ns uint64 }

// bpfRuns returns the sums over all loaded programs.
func bpfRuns() runs {
	var sum runs
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if err != nil {
			return sum
		}
		id = next
		prog, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue // gone
		}
		if stats, err := prog.Stats(); err == nil {
			sum.runs += stats.RunCount
			sum.ns += uint64(stats.Runtime)
		}
		prog.Close()
	}
}

// ring is a read-only view of the tracer's ring buffer. It is empty for a tracer without one.
type ring struct {
	size     uint64
	producer []byte // a page that begins with the position
	data     []byte // twice, one after the other
}

// openRing maps the ring buffer of the running tracer.
func openRing() (*ring, error) {
	for id := ebpf.MapID(0); ; {
		next, err := ebpf.MapGetNextID(id)
		if err != nil {
			return &ring{}, nil
		}
		id = next
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			continue // gone
		}
		defer m.Close()
		if m.Type() == ebpf.RingBuf {
			return mapRing(m)
		}
	}
}

func mapRing(m *ebpf.Map) (*ring, error) {
	page := os.Getpagesize()
	size := int(m.MaxEntries())
	producer, err := unix.Mmap(m.FD(), int64(page), page, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("ring buffer: %w", err)
	}
	data, err := unix.Mmap(m.FD(), 2*int64(page), 2*size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("ring buffer: %w", err)
	}
	return &ring{uint64(size), producer, data}, nil
}

// produced returns how many bytes were written so far.
func (r *ring) produced() uint64 {
	if r.producer == nil {
		return 0
	}
	return binary.NativeEndian.Uint64(r.producer)
}

// records counts the records that were written since a position. They must still be in the buffer.
func (r *ring) records(from uint64) (n uint64) {
	const header, flags = 8, 3 << 30 // BPF_RINGBUF_HDR_SZ; busy and discarded
	for to := r.produced(); from < to && to-from <= r.size; n++ {
		length := binary.NativeEndian.Uint32(r.data[from%r.size:]) &^ flags
		from += (uint64(length) + header + 7) / 8 * 8
	}
	return n
}

func (r *ring) close() {
	for _, mapped := range [][]byte{r.producer, r.data} {
		if mapped != nil {
			_ = unix.Munmap(mapped) // of what was mapped above
		}
	}
}
