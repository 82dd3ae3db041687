//go:build linux

package lab

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// orphanPeriod is how often tcp_orphan_update counts the orphans that
	// tcp_max_orphans is compared with (LHS_ORPHAN_PERIOD, net/ipv4/tcp.c), and a
	// tick more.
	orphanPeriod = 110 * time.Millisecond
	// noTimers is how long to wait for a CPU to run timers. Without one in that time, it does not have that timer.
	noTimers = 2 * time.Second
)

// doOrphans waits until the kernel has counted its orphans. The kernel does it in
// a deferrable timer, which an idle CPU delays without limit. So once the timer
// is due, every CPU is kept busy until it has run its timers.
func doOrphans(r *sandbox, _ struct{}, _ []string) (string, error) {
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

// stayAwake keeps one CPU busy until the kernel has run timers there. It changes
// the affinity of its thread, which ends with its goroutine.
func stayAwake(cpu int) error {
	var only unix.CPUSet
	only.Set(cpu)
	if err := unix.SchedSetaffinity(0, &only); err != nil {
		return err
	}
	before, err := timerRuns(cpu)
	for end := time.Now().Add(noTimers); err == nil && time.Now().Before(end); {
		var now string
		if now, err = timerRuns(cpu); now != before {
			break
		}
	}
	return err
}

// timerRuns returns how often a CPU has run its timers, from /proc/softirqs: a
// column for each CPU, and a line for each kind.
func timerRuns(cpu int) (string, error) {
	text, err := os.ReadFile("/proc/softirqs")
	if err != nil {
		return "", err
	}
	lines := strings.Split(string(text), "\n")
	column := slices.Index(strings.Fields(lines[0]), fmt.Sprintf("CPU%d", cpu))
	for _, line := range lines[1:] {
		if fields := strings.Fields(line); column >= 0 && len(fields) > column+1 && fields[0] == "TIMER:" {
			return fields[column+1], nil
		}
	}
	return "", fmt.Errorf("/proc/softirqs has no timers of CPU %d", cpu)
}
