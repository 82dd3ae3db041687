//go:build linux

package lab

import (
	"errors"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// orphanPeriod is how often tcp_orphan_update counts the orphans that
	// tcp_max_orphans is compared with (LHS_ORPHAN_PERIOD, net/ipv4/tcp.c).
	orphanPeriod = 100 * time.Millisecond
	// severalTicks of the kernel's clock, at 100 a second or more.
	severalTicks = 40 * time.Millisecond
)

// doOrphans waits until the kernel has counted its orphans. Its timer is a
// deferrable one, which a CPU that sleeps puts off for as long as it likes, so
// every CPU is kept awake for some ticks once it is due.
func doOrphans(r *room, _ struct{}, _ []string) (string, error) {
	select {
	case <-time.After(orphanPeriod):
	case <-r.ctx.Done():
		return "", r.ctx.Err()
	}
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return "", err
	}
	var busy sync.WaitGroup
	errs := make([]error, runtime.NumCPU())
	for cpu, n := 0, 0; n < min(all.Count(), len(errs)); cpu++ {
		if !all.IsSet(cpu) {
			continue
		}
		err := &errs[n]
		n++
		busy.Go(func() { onNewThread(func() { *err = stayAwake(cpu) }) })
	}
	busy.Wait()
	return "", errors.Join(errs...)
}

// stayAwake runs on one CPU, and nowhere else, for several ticks. The thread
// ends with its goroutine, as that is locked to it.
func stayAwake(cpu int) error {
	var only unix.CPUSet
	only.Set(cpu)
	if err := unix.SchedSetaffinity(0, &only); err != nil {
		return err
	}
	for used := time.Duration(0); used < severalTicks; {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
			return err
		}
		used = time.Duration(ts.Nano())
	}
	return nil
}
