//go:build linux

package live

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/probe"
)

// In a burst that overflows the ring buffer, what is reported and what is counted
// as lost add up to what happened.
func TestRingTooSmall(t *testing.T) { attempts(t, ringTooSmall) }

func ringTooSmall(t testing.TB) {
	const closes = 1000 // 64K hold 240 records
	inNetns(t, func(uint32) {
		r := launch(t, "-o", "json", "--buffer-size", "64K", "-p", itoa(os.Getpid()))
		lines := r.collect()
		r.whileStopped(t, func() { closeUnconnected(t, closes) })
		code, stderr := r.interrupt(t)
		got := len(<-lines)
		if code != 0 || lost(stderr) < closes/2 || got+lost(stderr) != closes {
			t.Errorf("%d closes, %d reported, exit code %d, standard error:\n%s", closes, got, code, stderr)
		}
	})
}

// What overflows the ring buffer while programs are attached is no loss, because tracing has not begun. From then on
// all that is counted as lost is also reported.
func TestLossesBeforeTracing(t *testing.T) {
	var closing atomic.Bool
	var busy sync.WaitGroup
	closing.Store(true)
	for range 2 {
		busy.Go(func() {
			for closing.Load() {
				if fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err == nil {
					unix.Close(fd)
				}
			}
		})
	}
	o := fullTier(t)
	o.Attach, o.Shared, o.BufferSize = probe.Mode(*attach), shared, 64<<10 // 240 records
	p, err := probe.Open(t.Context(), o)
	closing.Store(false)
	busy.Wait()
	if hint.Is(err, hint.Privilege) && os.Getenv("CLOSETRACE_LIVE") != "1" {
		t.Skipf("needs the privileges of closetrace: %v", err)
	}
	must(t, err)
	defer p.Close()
	must(t, p.Detach())
	var ev events.Event
	var reported, read uint64
	for err = p.Read(&ev); err == nil; err = p.Read(&ev) {
		read++
		if ev.Kind == events.KindLoss {
			reported += uint64(ev.LostRecords)
		}
	}
	if lost := p.Losses().LostRecords; !errors.Is(err, events.ErrIdle) || lost != reported {
		t.Errorf("%v: lost %d records, of which %d were reported; %d events", err, lost, reported, read)
	}
}

// A verdict that rests on a time in which records were lost is inferred, live and in
// replay, and the loss is reported while it happens. The same verdict with nothing
// lost is observed.
func TestVerdictsAfterLostRecords(t *testing.T) { attempts(t, verdictsAfterLostRecords) }

func verdictsAfterLostRecords(t testing.TB) {
	file := filepath.Join(t.TempDir(), "loss.rec")
	inNetns(t, func(uint32) {
		r := launch(t, "-o", "json", "--buffer-size", "64K", "--only", "close.silent.closed", "-w", file)
		l, addr := listen(t, loopback4)
		ended := func() conn { // this side's FIN first: TIME_WAIT, and the descriptor is still open
			a, b := connect(t, l, addr)
			must(t, unix.Shutdown(a.fd, unix.SHUT_WR))
			must(t, unix.Close(b.fd))
			a.state(t, unix.BPF_TCP_CLOSE)
			return a
		}
		must(t, unix.Close(ended().fd))
		lines := bufio.NewReader(r.stdout)
		first, err := lines.ReadBytes('\n') // so that nothing of it is unread when the loss begins
		must(t, err)
		late := ended()
		r.whileStopped(t, func() { closeUnconnected(t, 1000) })
		for {
			notice, err := r.stderr.ReadString('\n')
			must(t, err)
			if strings.HasPrefix(notice, "closetrace: lost ") {
				break
			}
		}
		must(t, unix.Close(late.fd))
		must(t, unix.Close(l))
		printed := make(chan []byte, 1)
		go func() {
			rest, _ := io.ReadAll(lines)
			printed <- append(first, rest...)
		}()
		code, stderr := r.interrupt(t)
		out := <-printed
		var doubts []string
		for line := range bytes.Lines(out) {
			var l struct{ Path, Confidence, Doubt string }
			must(t, json.Unmarshal(line, &l))
			if l.Path == "close.silent.closed.timewait" {
				doubts = append(doubts, l.Confidence+": "+l.Doubt)
			}
		}
		if code != 0 || len(doubts) != 2 || doubts[0] != "observed: " ||
			!strings.HasPrefix(doubts[1], "inferred: records were lost or probes missed meanwhile: ") {
			t.Errorf("%q, exit code %d:\n%s", doubts, code, stderr)
		}
		path, err := program()
		must(t, err)
		again, err := exec.Command(path, "replay", file, "-o", "json", "--only", "close.silent.closed").Output()
		must(t, err)
		if !bytes.Equal(again, out) {
			t.Errorf("replayed:\n%s\nlive:\n%s", again, out)
		}
	})
}

// The audit shows RSTs that it cannot explain, and their possible cause.
func TestAuditAfterLostRecords(t *testing.T) { attempts(t, auditAfterLostRecords) }

func auditAfterLostRecords(t testing.TB) {
	const connections = 300
	inNetns(t, func(uint32) {
		r := launch(t, "-o", "json", "--buffer-size", "64K")
		lines := r.collect()
		r.whileStopped(t, func() { resets(t, connections) })
		_, stderr := r.interrupt(t)
		explained := 0
		for _, l := range <-lines {
			if strings.HasPrefix(l.Path, "close.rst.linger0") {
				explained++
			}
		}
		_, audit, _ := strings.Cut(stderr, "audit: ")
		want := "RSTs sent " + itoa(connections) + ", explained " + itoa(explained) + ";"
		if explained == connections || !strings.HasPrefix(audit, want) ||
			!strings.Contains(audit, "possible cause: "+grouped(lost(stderr))+" lost records") {
			t.Errorf("%d explained, want %q in:\n%s", explained, want, stderr)
		}
	})
}

// grouped formats a number below a million as the summary does.
func grouped(n int) string {
	if n < 1000 {
		return itoa(n)
	}
	return itoa(n/1000) + "," + itoa(1000 + n%1000)[1:]
}

// One exit closes thousands of sockets. Each is reported as closed by the exit,
// or counted as missed. The buffer holds all records, so that the test does not
// depend on when closetrace is scheduled.
func TestManySocketsInOneExit(t *testing.T) {
	sockets := scaled(10_000, 1_000)
	inNetns(t, func(uint32) {
		out := outputFile(t)
		r := launchTo(t, out, "--netns", threadNetns(), "-o", "json", "--buffer-size", "16M")
		a := startChild(t, "hold", itoa(sockets/2))
		a.exit(t)
		_, stderr := r.interrupt(t)
		want := sockets + 1 // the listener
		closes := countLines(t, out, func(path, _ string) bool { return strings.HasPrefix(path, "close.") })
		byExit := countLines(t, out, func(path, end string) bool {
			return strings.HasPrefix(path, "close.") && strings.Contains(end, `"trigger":"exit"`) &&
				strings.Contains(end, `"actor":{"pid":`+itoa(a.Process.Pid)+",")
		})
		if closes != byExit || byExit > want || byExit+missed(stderr) < want || lost(stderr) != 0 {
			t.Errorf("%d sockets, %d closes, %d by the exit; standard error:\n%s", want, closes, byExit, stderr)
		}
	})
}

// closetrace is stopped for seconds while little happens: it misses nothing, and
// the endings are the same.
func TestStoppedForSeconds(t *testing.T) { attempts(t, stoppedForSeconds) }

func stoppedForSeconds(t testing.TB) {
	const each = 10
	inNetns(t, func(uint32) {
		r := launch(t, "-o", "json")
		lines := r.collect()
		r.whileStopped(t, func() {
			resets(t, each)
			time.Sleep(2 * time.Second) // the point of the test
			l, addr := listen(t, loopback4)
			for range each {
				a, b := connect(t, l, addr)
				b.send(t, 9)
				a.queued(t, 9)
				must(t, unix.Close(a.fd))
				must(t, unix.Close(b.fd))
			}
			for range each {
				a, b := connect(t, l, addr)
				must(t, unix.Close(a.fd))
				b.state(t, uint8(events.CloseWait))
				must(t, unix.Close(b.fd))
			}
		})
		code, stderr := r.interrupt(t)
		paths := map[string]int{}
		for _, l := range <-lines {
			paths[l.Path]++
		}
		for path, want := range map[string]int{
			"close.rst.linger0": each, "close.rst.unread": each, "recv.rst": 2 * each,
			"close.fin.active": each, "close.fin.passive": each, "close.silent.closed.reset": 2 * each,
		} {
			if paths[path] != want {
				t.Errorf("%s: %d endings, want %d", path, paths[path], want)
			}
		}
		if code != 0 || lost(stderr) != 0 {
			t.Errorf("exit code %d, standard error:\n%s", code, stderr)
		}
	})
}
