//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// settle is what a tracer gets to come to the end of what it has to do, and timeWait what the kernel takes to forget
// the addresses of connections. Where nothing runs, the guest's clock leaps, so that waiting takes no time.
const (
	settleTime = 300 * time.Millisecond
	timeWait   = 61 * time.Second
	ringful    = 2000 // connections whose records closetrace's ring buffer holds at once, to be counted
	// warmUp is connections, after which closetrace remembers all that it does: 16,384 endings.
	warmUp = 8500
	// calm is when a machine that was booted has nothing left to do of its own.
	calm = time.Minute
)

// inGuest measures each tracer under each mix and writes the results.
func inGuest(o options) error {
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	if err := unix.Mount("debugfs", "/sys/kernel/debug", "debugfs", 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
		fmt.Fprintln(os.Stderr, "bench: some peers need debugfs:", err)
	}
	// A small machine keeps few connections in TIME_WAIT. The FIN of one that it did not keep is answered by a RST.
	if err := os.WriteFile("/proc/sys/net/ipv4/tcp_max_tw_buckets", []byte("262144"), 0o644); err != nil {
		return err
	}
	l, err := newLoad()
	if err != nil {
		return err
	}
	time.Sleep(calm)
	found := results{Kernel: release(), Conns: o.conns, Times: o.times}
	for _, t := range tracers() {
		if wanted, err := o.isMeasured(t.name); err != nil || !wanted {
			if err != nil {
				return err
			}
			continue
		}
		for mix := range strings.SplitSeq(o.mixes, ",") {
			if !t.isMeasured(mix) {
				continue
			}
			m, err := measure(l, t, mix, o)
			if err != nil && t.kind == kindPeer {
				m, err = measurement{Tracer: t.name, Kind: t.kind, Mix: mix, Failed: err.Error()}, nil
			}
			if err != nil {
				return fmt.Errorf("%s, %s: %w", t.name, mix, err)
			}
			found.Measurements = append(found.Measurements, m)
			fmt.Printf("%s, %s: %s\n", t.name, mix, m)
			time.Sleep(timeWait)
		}
	}
	text, err := json.Marshal(found)
	if err != nil {
		return err
	}
	return os.WriteFile(outFile, text, 0o644)
}

func release() string {
	text, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(text))
}

// measure starts a tracer, warms it up, and measures the load several times; then again while the kernel counts the
// runs of BPF programs, which costs something itself.
func measure(l *load, t tracer, mix string, o options) (measurement, error) {
	m := measurement{Tracer: t.name, Kind: t.kind, Mechanism: t.mechanism, Mix: mix, Closes: closesOf(mix)}
	p, err := start(t)
	if errors.Is(err, fs.ErrNotExist) {
		m.Absent = t.pkg
		return m, nil
	}
	if err != nil {
		return m, err
	}
	if err := p.awaitReady(func() error { return l.run(mixFIN, 1) }); err != nil {
		return m, errors.Join(err, p.stop())
	}
	if err := l.refuse(); err != nil {
		return m, err
	}
	time.Sleep(3 * settleTime)
	if err := l.run(mix, warmUp); err != nil {
		return m, err
	}
	time.Sleep(settleTime)
	for range o.times {
		r, err := once(l, p, mix, o.conns)
		if err != nil {
			return m, err
		}
		m.Runs = append(m.Runs, r)
	}
	if err := m.kernelSide(l, p, min(o.conns, ringful)); err != nil {
		return m, err
	}
	m.ResidentKB = p.resident()
	err = p.stop()
	m.Lost = lost(p.stderr())
	return m, err
}

// once measures one run of the load. On one CPU everything that runs costs time: what the tracer does not pay, the
// traced program pays.
func once(l *load, p *process, mix string, n int) (repeat, error) {
	cpu, begin := p.cpu(), now()
	err := l.run(mix, n)
	busy, took := p.cpu()-cpu, now()-begin
	time.Sleep(settleTime)
	per := func(ns int64) float64 { return float64(ns) / float64(n) }
	return repeat{Inline: per(took - busy), Tracer: per(p.cpu() - cpu)}, err
}

// kernelSide measures what the kernel side does, per connection.
func (m *measurement) kernelSide(l *load, p *process, n int) error {
	before, size, wakeUps := bpfRuns(), p.outputSize(), p.wakeUps()
	ring, err := openRing()
	if err != nil {
		return err
	}
	defer ring.close()
	from := ring.produced()
	counting, err := countRuns()
	if err != nil {
		return err
	}
	err = l.run(m.Mix, n)
	counting.Close()
	time.Sleep(settleTime)
	per := func(n2 uint64) float64 { return float64(n2) / float64(n) }
	after := bpfRuns()
	m.ProgramRuns, m.ProgramNS = per(after.runs-before.runs), per(after.ns-before.ns)
	m.Records, m.RecordBytes = per(ring.records(from)), per(ring.produced()-from)
	m.OutputBytes = per(uint64(p.outputSize() - size))
	m.WakeUps = per(uint64(p.wakeUps() - wakeUps))
	return err
}

func now() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0
	}
	return t.Nano()
}
