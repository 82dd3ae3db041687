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
	// noTimers: a CPU on which no timer runs for so long has not that one.
	noTimers = 2 * time.Second
)

// doOrphans waits until the kernel has counted its orphans. Its timer is a
// deferrable one, which a CPU that sleeps puts off for as long as it likes, so
// every CPU is kept awake, once it is due, until timers have run there.
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

// stayAwake runs on one CPU, and nowhere else, until the kernel has run timers
// there. The thread ends with its goroutine, as that is locked to it.
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

// timerRuns is how often a CPU has run its timers, by /proc/softirqs: a column for
// each CPU, and a line for each kind.
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
