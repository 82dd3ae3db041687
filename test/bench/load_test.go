//go:build linux

package main

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// The threads make as many connections as asked for, whatever the number.
func TestThreadsShare(t *testing.T) {
	for _, n := range []int{1, 4, 7, 500} {
		made := 0
		for i := range threads {
			made += share(n, i)
		}
		if made != n {
			t.Errorf("%d connections, want %d", made, n)
		}
	}
}

// Each mix opens and closes connections, and leaves none open.
func TestLoad(t *testing.T) {
	l, err := newLoad()
	if errors.Is(err, unix.EADDRINUSE) {
		t.Skipf("another process has its ports: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, one := range append(l.threads, l) {
			unix.Close(one.listener)
		}
	})
	next := func() int {
		fd, err := unix.Dup(l.listener)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
		return fd
	}
	before := next()
	for _, mix := range []string{mixFIN, mixLinger0, mixUnread, mixBare, mixThreads} {
		if err := l.run(mix, 9); err != nil {
			t.Error(err)
		}
	}
	if after := next(); after > before {
		t.Errorf("the next descriptor was %d and is %d", before, after)
	}
}
