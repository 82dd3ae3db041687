//go:build linux

package live

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// largestRSS watches the resident memory of a process and of those that it started.
type largestRSS struct {
	pid int
	mu  sync.Mutex
	max int
}

func (l *largestRSS) watch(end <-chan struct{}) {
	for {
		select {
		case <-end:
			return
		case <-time.After(20 * time.Millisecond):
		}
		n := residentTree(l.pid)
		l.mu.Lock()
		l.max = max(l.max, n)
		l.mu.Unlock()
	}
}

func (l *largestRSS) largest() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.max
}

// residentTree returns the resident bytes of a process and its descendants.
func residentTree(pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	words := strings.Fields(string(text))
	pages, _ := strconv.Atoi(words[1])
	sum := pages * os.Getpagesize()
	for _, child := range childrenOf(pid) {
		sum += residentTree(child)
	}
	return sum
}

// childrenOf returns the processes that a process has started.
func childrenOf(pid int) (all []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, stat := range stats {
		text, err := os.ReadFile(stat)
		if err != nil {
			continue // it has ended
		}
		_, after, _ := strings.Cut(string(text), ") ")
		words := append(strings.Fields(after), "", "")
		if child, err := strconv.Atoi(filepath.Base(filepath.Dir(stat))); err == nil && words[1] == strconv.Itoa(pid) {
			all = append(all, child)
		}
	}
	return all
}

// descendants returns the processes that a process has started, and those that they have started.
func descendants(pid int) (all []int) {
	for _, child := range childrenOf(pid) {
		all = append(append(all, child), descendants(child)...)
	}
	return all
}
