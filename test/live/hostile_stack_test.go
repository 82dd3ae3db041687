//go:build linux

package live

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"

	"github.com/closetrace/closetrace/internal/kernel"
)

// Limits of what hostile programs may do to a trace with --stack.
const (
	hostileRSS = 100 << 20 // bytes, of closetrace and the processes that it starts
	hostileEnd = time.Second
	// hostileLag is within what nine of ten lines of another program are printed, if the machine has time for them.
	hostileLag = 100 * time.Millisecond
)

// Programs of another user, made to harm a reader of their files, do no harm with --stack: the lines of an
// innocent program go on, with names; memory stays bounded; SIGINT ends the trace. What is not resolved is shown and
// counted.
//
// An emulated processor does not keep the times, and its names come too late for lines that are printed in time. The
// other promises hold there.
func TestHostileStacks(t *testing.T) { attempts(t, hostileStacks) }

func hostileStacks(t testing.TB) {
	privileged(t)
	inNetns(t, func(uint32) {
		dir := reachable(t)
		end := make(chan struct{})
		defer close(end)
		innocent := startChild(t, "churn")
		pids := map[uint32]string{uint32(innocent.Process.Pid): "innocent"}
		for _, p := range hostilePrograms {
			pids[p.start(t, dir, end)] = p.name
		}
		r := launch(t, "--stack", "-o", "json") // only now, when its lines are read at once
		seen := watchStacks(t, r, pids)
		memory, watched := &largestRSS{pid: r.Process.Pid}, make(chan struct{})
		go memory.watch(watched)
		late := measureLateness(watched)
		// Names that come too late for a line are there for the next one.
		first := scaled(200, 1)
		eventually(t, "lines of each program", func() bool { return seen.all(first) })
		seen.forget()
		more := scaled(100, 10)
		eventually(t, "more lines of each program", func() bool { return seen.all(more) })
		close(watched)
		begin := time.Now()
		code, stderr := r.interrupt(t)
		<-seen.ended
		if took := time.Since(begin); code != 0 || took > hostileEnd && !emulated() {
			t.Errorf("ended with code %d after %v\n%s", code, took, stderr)
		}
		if n := memory.largest(); n == 0 || n > hostileRSS {
			t.Errorf("%d kB resident", n>>10)
		} else {
			t.Logf("%d kB resident", n>>10)
		}
		if !regexp.MustCompile(`\n[0-9,]+ stack frames? not resolved \(`).MatchString(stderr) {
			t.Errorf("the frames that were not resolved are not counted:\n%s", stderr)
		}
		seen.check(t, <-late)
	})
}

// measureLateness measures how much later than asked for a process runs on this machine: nine of ten times at most
// so much.
func measureLateness(end <-chan struct{}) <-chan time.Duration {
	result := make(chan time.Duration, 1)
	go func() {
		const nap = 5 * time.Millisecond
		var late []time.Duration
		for {
			begin := time.Now()
			select {
			case <-end:
				slices.Sort(late)
				result <- late[len(late)*9/10]
				return
			case <-time.After(nap):
				late = append(late, time.Since(begin)-nap)
			}
		}
	}()
	return result
}

// stackLines are the endings of some programs.
type stackLines struct {
	ended      chan struct{} // closed behind the last line
	mu         sync.Mutex
	programs   map[uint32]string
	lines      map[string]int
	unresolved map[string]int  // lines with functions that are shown as module and offset, and counted
	named      map[string]int  // lines with the function that closes
	lags       []time.Duration // of the innocent program
}

// watchStacks reads what closetrace prints, until it has ended.
func watchStacks(t testing.TB, r *session, programs map[uint32]string) *stackLines {
	s := &stackLines{
		ended: make(chan struct{}), programs: programs,
		lines: map[string]int{}, unresolved: map[string]int{}, named: map[string]int{},
	}
	go func() {
		defer close(s.ended)
		for lines := bufio.NewReader(r.stdout); ; {
			line, err := lines.ReadString('\n')
			if errors.Is(err, os.ErrClosed) || line == "" {
				return // a test that gave up closes the pipe
			}
			var e struct {
				MonoNS uint64 `json:"mono_ns"`
				Actor  struct{ PID uint32 }
				Stack  struct {
					User       []string
					Unresolved int
				}
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Errorf("%v in %q", err, line)
				return
			}
			s.add(e.Actor.PID, e.Stack.User, e.Stack.Unresolved, time.Duration(kernel.MonoNow()-e.MonoNS))
		}
	}()
	return s
}

func (s *stackLines) add(pid uint32, user []string, unresolved int, lag time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name, ok := s.programs[pid]
	if !ok {
		return
	}
	s.lines[name]++
	if slices.ContainsFunc(user, func(f string) bool { return strings.Contains(f, "live.closesHere (") }) {
		s.named[name]++
	}
	offsets := slices.ContainsFunc(user, func(f string) bool {
		// The kernel says so of a file that has lost its name.
		return strings.HasPrefix(strings.Replace(f, " (deleted)", "", 1), "hostile-"+name+"+0x")
	})
	if unresolved > 0 && (offsets || emulated()) { // there the mappings may be read too late
		s.unresolved[name]++
	}
	if name == "innocent" {
		s.lags = append(s.lags, lag)
	}
}

// forget begins anew.
func (s *stackLines) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.lines)
	clear(s.unresolved)
	clear(s.named)
	s.lags = nil
}

// all reports whether there are n lines of each program.
func (s *stackLines) all(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range s.programs {
		if s.lines[name] < n {
			return false
		}
	}
	return true
}

func (s *stackLines) check(t testing.TB, late time.Duration) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range hostilePrograms {
		// Of many mappings, those that are read may have the functions. The right file may be there when it is opened.
		if p.name != "mappings" && p.name != "swapped" && s.unresolved[p.name] < s.lines[p.name]/2 {
			t.Errorf("%s: %d of %d lines with module and offset", p.name, s.unresolved[p.name], s.lines[p.name])
		}
	}
	if emulated() {
		return // names come too late there, and lines
	}
	if s.named["innocent"] < s.lines["innocent"]*9/10 {
		t.Errorf("%d of %d lines of an innocent program with names", s.named["innocent"], s.lines["innocent"])
	}
	slices.Sort(s.lags)
	// An ending goes through three processes, each of which may have to wait for a processor.
	limit := hostileLag + 3*late
	lag := s.lags[len(s.lags)*9/10]
	t.Logf("%d lines: half within %v, nine of ten within %v; processes run %v late",
		len(s.lags), s.lags[len(s.lags)/2], lag, late)
	if lag > limit {
		t.Errorf("nine of ten lines within %v, want %v", lag, limit)
	}
}

// A user without privileges who has the capabilities gets names, too. The processes that read the files have none of
// the capabilities.
func TestStackWithCapabilities(t *testing.T) { attempts(t, stackWithCapabilities) }

func stackWithCapabilities(t testing.TB) {
	r := startReading(t, asNobody(append(requiredCapabilities(t), cap.DAC_READ_SEARCH, cap.SYS_PTRACE)...), "--stack")
	// Names that come too late for an ending are there for the next one at the same place.
	eventually(t, "the functions are named", func() bool {
		a, b := connectOn(t)
		closesHere(a.fd)
		stack := fmt.Sprint(r.waitFor(t, "close.fin.active", a)["stack"])
		must(t, unix.Close(b.fd))
		if strings.Contains(stack, "unresolved") {
			return false
		}
		if !strings.Contains(stack, "live.closesHere (") {
			t.Errorf("the stack is %s", stack)
		}
		return true
	})
	helpers := descendants(r.cmd.Process.Pid)
	if len(helpers) != 2 {
		t.Errorf("processes %v read files", helpers)
	}
	for _, pid := range helpers {
		status := readTrimmed(t, fmt.Sprintf("/proc/%d/status", pid))
		for _, line := range []string{"CapPrm:\t0000000000000000\n", "CapAmb:\t0000000000000000\n", "NoNewPrivs:\t1\n"} {
			if !strings.Contains(status, line) {
				t.Errorf("process %d has not %q:\n%s", pid, line, status)
			}
		}
	}
	r.finish(t)
}
