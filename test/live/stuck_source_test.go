//go:build linux

package live

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/enrich"
	"github.com/closetrace/closetrace/internal/probe"
	"github.com/closetrace/closetrace/internal/sockets"
	"github.com/closetrace/closetrace/internal/stuck"
)

// iterators loads the iterators once.
var iterators = sync.OnceValues(
	func() (*probe.Iterators, error) { return probe.OpenIterators(false, slog.New(slog.DiscardHandler)) },
)

// allByIterators returns what the iterators find in the namespace of the calling
// thread.
func allByIterators(t *testing.T) []stuckLine {
	t.Helper()
	it, err := iterators()
	must(t, err)
	source := sockets.Source{
		List: func(to *sockets.List, _ uint32) (bool, error) { return true, it.AppendSockets(to) },
		Holders: func(wanted sockets.Inodes) (*sockets.Holders, int, error) {
			found, err := it.Holders(wanted)
			return found, 0, err
		},
		Processes:  func(pids map[uint32]bool) map[uint32]*sockets.Process { return enrich.Processes("/proc", pids) },
		KeptByExec: func(pid, tid uint32, fd int) bool { return enrich.KeptByExec("/proc", pid, tid, fd) },
	}
	snapshot, err := source.Look(sockets.Request{Namespaces: map[uint32]string{0: ""}, WantHolders: stuck.WantHolders})
	must(t, err)
	var out bytes.Buffer
	for _, f := range stuck.Find(snapshot) {
		must(t, json.NewEncoder(&out).Encode(f))
	}
	return stuckLines(t, out.Bytes())
}

// byIterators returns what the iterators find about one end of a connection.
func byIterators(t *testing.T, c conn) (found stuckLine) {
	t.Helper()
	for _, l := range allByIterators(t) {
		if l.Local == c.local.String() && l.Remote == c.remote.String() {
			return l
		}
	}
	return found
}

// checkSourcesAgree compares what sock_diag with /proc and the iterators report
// about a socket: bytes, descriptors and texts.
func checkSourcesAgree(t *testing.T, c conn, one stuckLine) {
	t.Helper()
	var other stuckLine
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); one = runStuck(t, c, "--source", "sock_diag") {
		other = byIterators(t, c)
		if one.State != "" && reflect.DeepEqual(comparable(one), comparable(other)) {
			return
		}
	}
	t.Errorf("sock_diag: %+v\niterators: %+v", one, other)
}

// comparable returns a line without its source and without times, which differ in
// each run.
func comparable(l stuckLine) stuckLine {
	l.Source, l.Time = "", time.Time{}
	if l.AgeAtLeastMS != nil {
		l.AgeAtLeastMS = new(int64)
	}
	if l.EndsInMS != nil {
		l.EndsInMS, l.Why = new(int64), ""
	}
	return l
}

// A thread with its own table of descriptors is not in /proc/PID/fd.
func stuckInAThread(t *testing.T) {
	inNetns(t, func(uint32) {
		must(t, unix.Unshare(unix.CLONE_FILES))
		l, addr := listen(t, loopback4)
		b := afterPeer(t, l, addr, 1)
		path := fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
		looks := make(chan [2]stuckLine)
		go func() { // on another thread, which shares the descriptors of the process
			defer close(looks)
			looks <- [2]stuckLine{
				runStuck(t, b, "--netns", path, "--source", "sock_diag"), runStuck(t, b, "--netns", path, "--source", "iterator"),
			}
		}()
		seen := <-looks
		if d := seen[0]; d.Diagnosis != "not-reading" || len(d.Holders) != 0 {
			t.Errorf("sock_diag and /proc: %+v", d)
		}
		i := seen[1]
		if i.Diagnosis != "not-reading" || len(i.Holders) != 1 || i.Holders[0].PID != os.Getpid() ||
			i.Holders[0].TID != unix.Gettid() ||
			!slices.Equal(i.Holders[0].FDs, []int{b.fd}) {
			t.Errorf("iterators: %+v, want descriptor %d of thread %d", i, b.fd, unix.Gettid())
		}
	})
}

// The iterators need no more capabilities than tracing, even for holders of other
// users.
func stuckUnprivileged(t *testing.T) {
	inNetns(t, func(uint32) {
		l, addr := listen(t, loopback4)
		defer unix.Close(l)
		b := afterPeer(t, l, addr, 0)
		defer unix.Close(b.fd)
		cmd := exec.Command(executableByAll(t), "stuck", "--source", "iterator", "-o", "json")
		asNobody(requiredCapabilities(t)...)(cmd)
		out, err := cmd.Output()
		must(t, err)
		for _, l := range stuckLines(t, out) {
			if l.Local == b.local.String() && l.Remote == b.remote.String() {
				l.checkHolder(t, b.fd)
				return
			}
		}
		t.Errorf("not listed: %s", out)
	})
}

// The iterators list the sockets of the namespace in which they are read.
func stuckOtherNetns(t *testing.T) {
	inStuckNetns(t, func(t *testing.T, listener int, addr netip.AddrPort) {
		b := afterPeer(t, listener, addr, 0)
		defer unix.Close(b.fd)
		if l := byIterators(t, b); l.State != "CLOSE_WAIT" {
			t.Errorf("in its namespace: %+v", l)
		}
		inNetns(t, func(uint32) {
			if l := byIterators(t, b); l.State != "" {
				t.Errorf("seen from another namespace: %+v", l)
			}
		})
	})
}
