package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/sink"
)

// readCounters reads the counters of a network namespace from its directory
// /proc/PID/net.
func readCounters(dir string) (sink.Counters, error) {
	counters := sink.Counters{}
	for _, name := range []string{"snmp", "netstat"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		parseCounters(string(text), counters)
	}
	// Without this one it is not the file that it should be.
	if _, ok := counters["TcpOutRsts"]; !ok {
		return nil, fmt.Errorf("no TcpOutRsts in %s", filepath.Join(dir, "snmp"))
	}
	return counters, nil
}

// parseCounters takes pairs of lines, "Tcp: names..." and "Tcp: values...".
// Those of TcpExt are known by their names alone, as in nstat.
func parseCounters(text string, into sink.Counters) {
	var heads []string
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if heads == nil || heads[0] != words[0] {
			heads = words
			continue
		}
		protocol := strings.TrimSuffix(words[0], ":")
		if protocol == "TcpExt" {
			protocol = ""
		}
		for i := 1; i < min(len(heads), len(words)); i++ {
			// Some are signed, none of which is of interest.
			if n, err := strconv.ParseUint(words[i], 10, 64); err == nil {
				into[protocol+heads[i]] = n
			}
		}
		heads = nil
	}
}

// moved is by how much counters moved.
func moved(from, to sink.Counters) sink.Counters {
	by := sink.Counters{}
	for name, n := range to {
		by[name] = n - from[name]
	}
	return by
}

var errNetnsGone = errors.New("the network namespace is gone")

// netnsCounters reads the counters of the network namespace behind a path, which
// has to be the one with this inode number still; without a path, those of this
// process's own.
//
// The file is not kept open from one reading to the next: that would keep a
// namespace alive that everybody else is done with.
func netnsCounters(path string, inode uint32) (counters sink.Counters, err error) {
	if path == "" {
		return readCounters("/proc/self/net")
	}
	if now, err := netnsInode(path); err != nil || now != inode {
		return nil, errNetnsGone
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = inNetns(path, func() (err error) {
			counters, err = readCounters("/proc/thread-self/net")
			return err
		})
	}()
	<-done
	return counters, err
}

// inNetns runs do in a network namespace, on a thread that takes care of
// nothing else. A thread that cannot go back ends with its goroutine.
func inNetns(path string, do func() error) error {
	runtime.LockOSThread()
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(home)
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return &fs.PathError{Op: "enter", Path: path, Err: err}
	}
	err = do()
	if unix.Setns(home, unix.CLONE_NEWNET) == nil {
		runtime.UnlockOSThread()
	}
	return err
}
