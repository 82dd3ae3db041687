//go:build linux

package live

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A replay prints byte for byte what the recorded run printed, in every format,
// and the same summary.
func TestReplayPrintsTheSame(t *testing.T) {
	privileged(t)
	for name, args := range map[string][]string{
		"a.jsonl": {"-o", "json"},
		"b.zst":   {"-o", "table"},
		"c.zst":   {"-o", "wide"},
		"d.jsonl": {"-o", "json", "--only", "rst", "--not", "recv"},
		"e.zst":   {"-o", "json", "-4", "--errors", "--min-unread", "1"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), name)
			printed, stderr := tracedOutput(t, append(args, "-w", file)...)
			path, err := program()
			must(t, err)
			replay := exec.Command(path, append([]string{"replay", file}, args...)...)
			var again bytes.Buffer
			replay.Stderr = &again
			got, err := replay.Output()
			if err != nil {
				t.Fatalf("replay: %v\n%s", err, &again)
			}
			if !bytes.Equal(got, printed) {
				t.Errorf("printed\n%s\nreplayed\n%s", printed, got)
			}
			if bytes.Count(printed, []byte("\n")) < 2 {
				t.Errorf("little was printed:\n%s", printed)
			}
			if afterFirst(stderr) != afterFirst(again.String()) {
				t.Errorf("standard error\n%s\nof the replay\n%s", stderr, &again)
			}
		})
	}
}

// In a replay, the filters that the kernel applies match the same endings, also if they were only recorded.
func TestReplayFiltersAsTheKernelDoes(t *testing.T) { attempts(t, replayFiltersAsTheKernelDoes) }

func replayFiltersAsTheKernelDoes(t testing.TB) {
	file, onlyRecorded := filepath.Join(t.TempDir(), "all.zst"), filepath.Join(t.TempDir(), "only.rec")
	filters := [][]string{}
	live := []<-chan []byte{}
	inNetns(t, func(uint32) {
		l4, at4 := listen(t, loopback4)
		d6, err := newListener(loopback6)
		must(t, err)
		port := fmt.Sprint(at4.Port())
		filters = [][]string{
			{"-P", port},
			{"-L", port},
			{"-D", port},
			{"-p", fmt.Sprint(os.Getpid())},
			{"-6"},
			{"-4", "-D", port},
		}
		sessions := []*session{launch(t, "-w", file), launch(t, "record", "-w", onlyRecorded)}
		for _, f := range filters {
			r := launch(t, append(f, "-o", "json")...)
			printed := make(chan []byte, 1)
			go func() {
				out, _ := io.ReadAll(r.stdout)
				printed <- out
			}()
			sessions, live = append(sessions, r), append(live, printed)
		}
		for range 10 {
			endingsOf(t, l4, at4)
			endingsOf(t, d6.fd, d6.addr)
		}
		must(t, unix.Close(l4))
		must(t, unix.Close(d6.fd))
		for _, r := range sessions {
			if code, stderr := r.interrupt(t); code != 0 {
				t.Errorf("exit code %d, standard error:\n%s", code, stderr)
			}
		}
	})
	path, err := program()
	must(t, err)
	for i, f := range filters {
		printed := endingsIn(t, <-live[i])
		from := []string{file, onlyRecorded}
		if i > 0 {
			from = from[:1] // a replay of one filter shows whether both have the same
		}
		for _, from := range from {
			out, err := exec.Command(path, append([]string{"replay", "-o", "json", from}, f...)...).Output()
			must(t, err)
			compareReplay(t, f, printed, endingsIn(t, out))
		}
	}
}

func compareReplay(t testing.TB, filter []string, traced, replayed []map[string]any) {
	t.Helper()
	if filter[0] == "-p" { // may match by an owner that /proc shows to one of them only
		traced, replayed = slices.DeleteFunc(traced, fromProc), slices.DeleteFunc(replayed, fromProc)
	}
	if len(traced) == 0 || len(traced) != len(replayed) {
		t.Errorf("%v: %d endings live, %d replayed", filter, len(traced), len(replayed))
		return
	}
	for j := range traced {
		differences("", traced[j], replayed[j], func(field string, live, replayed any) {
			t.Errorf("%v: %s is %v live, %v in the replay of\n%v", filter, field, live, replayed, traced[j])
		})
	}
}

// endingsIn returns the endings of -o json, by connection and time. The order of different connections depends on
// which event waits for another, which is a matter of when each tracer reads.
func endingsIn(t testing.TB, out []byte) (all []map[string]any) {
	t.Helper()
	for l := range bytes.Lines(out) {
		one := map[string]any{}
		must(t, json.Unmarshal(l, &one))
		all = append(all, one)
	}
	slices.SortStableFunc(all, func(a, b map[string]any) int {
		return cmp.Or(
			strings.Compare(a["local"].(string), b["local"].(string)),
			strings.Compare(a["remote"].(string), b["remote"].(string)),
			cmp.Compare(a["mono_ns"].(float64), b["mono_ns"].(float64)),
		)
	})
	return all
}

// clockSlack is how much later the program of another tracer may read the clock.
const clockSlack = 250 * time.Millisecond

// differences reports in which fields an ending is another in a replay of what one tracer recorded than for a second
// tracer. What two tracers may see differently:
//   - the time: each reads the clock by itself, and so what is computed from it
//   - an owner from /proc, or none: it is looked up at another time
func differences(field string, live, replayed any, report func(field string, live, replayed any)) {
	a, ok := live.(map[string]any)
	b, both := replayed.(map[string]any)
	if !ok || !both {
		if !sameField(field, live, replayed) {
			report(field, live, replayed)
		}
		return
	}
	if fromProc(a) || fromProc(b) {
		a, b = withoutOwner(a), withoutOwner(b)
	}
	for name := range maps.Keys(merged(a, b)) {
		differences(strings.TrimPrefix(field+"."+name, "."), a[name], b[name], report)
	}
}

func fromProc(e map[string]any) bool { return e["owner_by"] == "proc" }

// withoutOwner returns an ending without an owner that /proc shows or may not show any more.
func withoutOwner(e map[string]any) map[string]any {
	if by := e["owner_by"]; by != nil && by != "proc" {
		return e
	}
	e = maps.Clone(e)
	delete(e, "owner")
	delete(e, "owner_by")
	return e
}

func merged(a, b map[string]any) map[string]any {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

var duration = regexp.MustCompile(`[0-9.]+ (s|ms|µs)\b`)

func sameField(field string, a, b any) bool {
	name := field[strings.LastIndex(field, ".")+1:]
	x, _ := a.(float64) // 0 is left out
	y, _ := b.(float64)
	switch {
	case name == "time":
		return true // mono_ns in another form
	case strings.HasSuffix(name, "_ns"):
		return math.Abs(x-y) < float64(clockSlack)
	case strings.HasSuffix(name, "_ms"):
		return math.Abs(x-y) < float64(clockSlack.Milliseconds())
	case name == "cause":
		x, _ := a.(string)
		y, _ := b.(string)
		return duration.ReplaceAllString(x, "T") == duration.ReplaceAllString(y, "T")
	}
	return reflect.DeepEqual(a, b)
}

// endingsOf ends connections to a listener in several ways.
func endingsOf(t testing.TB, l int, addr netip.AddrPort) {
	a, b := connect(t, l, addr)
	must(t, unix.Close(a.fd))
	b.recv(t, 0)
	must(t, unix.Close(b.fd))
	a, b = connect(t, l, addr)
	a.linger(t, 0)
	must(t, unix.Close(a.fd))
	must(t, unix.Close(b.fd))
}

// tracedOutput returns what closetrace prints on standard output and standard
// error while connections end in a namespace.
func tracedOutput(t testing.TB, args ...string) (printed []byte, output string) {
	t.Helper()
	path, err := program()
	must(t, err)
	inNetns(t, func(netns uint32) {
		cmd := exec.Command(path, append(args, "--attach", *attach, "--netns", "/proc/self/ns/net")...)
		var out bytes.Buffer
		cmd.Stdout = &out
		pipe, err := cmd.StderrPipe()
		must(t, err)
		must(t, cmd.Start())
		t.Cleanup(func() { cmd.Process.Kill() })
		stderr := bufio.NewReader(pipe)
		first, err := stderr.ReadString('\n')
		if err != nil || !strings.HasPrefix(first, "closetrace: tracing on ") {
			t.Errorf("not ready: %q, %v", first, err)
		}
		for range 20 {
			someEndings(t)
		}
		must(t, cmd.Process.Signal(os.Interrupt))
		rest, err := io.ReadAll(stderr)
		must(t, err)
		if code := waitExit(t, cmd); code != 0 {
			t.Errorf("exit code %d\n%s", code, rest)
		}
		printed, output = out.Bytes(), first+string(rest)
	})
	return printed, output
}

// someEndings makes endings that stay pending, that explain each other, and that
// are reported immediately.
func someEndings(t testing.TB) {
	l, addr := listen(t, loopback4)
	a, b := connect(t, l, addr)
	must(t, unix.Close(a.fd))
	b.recv(t, 0)
	must(t, unix.Close(b.fd))
	a, b = connect(t, l, addr)
	b.send(t, 148)
	a.queued(t, 148)
	must(t, unix.Close(a.fd))
	must(t, unix.Close(b.fd))
	a, b = connect(t, l, addr)
	a.linger(t, 0)
	must(t, unix.Shutdown(b.fd, unix.SHUT_WR))
	must(t, unix.Close(a.fd))
	must(t, unix.Close(b.fd))
	must(t, unix.Close(l))
}

func afterFirst(text string) string {
	_, rest, _ := strings.Cut(text, "\n")
	return rest
}
