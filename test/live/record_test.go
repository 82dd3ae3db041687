//go:build linux

package live

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A replay prints what its run printed, to the byte, in every format; the
// summary is the same, too.
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
			printed, said := tracedOutput(t, append(args, "-w", file)...)
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
			if afterFirst(said) != afterFirst(again.String()) {
				t.Errorf("said\n%s\nreplayed\n%s", said, &again)
			}
		})
	}
}

// The filters that the kernel decides let the same through in a replay of all.
func TestReplayFiltersAsTheKernelDoes(t *testing.T) { attempts(t, replayFiltersAsTheKernelDoes) }

func replayFiltersAsTheKernelDoes(t testing.TB) {
	file := filepath.Join(t.TempDir(), "all.zst")
	filters := [][]string{}
	live := []<-chan []line{}
	inNetns(t, func(uint32) {
		l4, at4 := listen(t, loopback4)
		d6, err := openDoor(loopback6)
		must(t, err)
		port := fmt.Sprint(at4.Port())
		filters = [][]string{{"-P", port}, {"-L", port}, {"-D", port}, {"-p", fmt.Sprint(os.Getpid())}, {"-6"}, {"-4", "-D", port}}
		sessions := []*session{launch(t, "-w", file)}
		for _, f := range filters {
			r := launch(t, append(f, "-o", "json")...)
			sessions, live = append(sessions, r), append(live, r.collect())
		}
		for range 10 {
			endingsOf(t, l4, at4)
			endingsOf(t, d6.fd, d6.at)
		}
		must(t, unix.Close(l4))
		must(t, unix.Close(d6.fd))
		for _, r := range sessions {
			if code, said := r.interrupt(t); code != 0 {
				t.Errorf("exit code %d, said:\n%s", code, said)
			}
		}
	})
	path, err := program()
	must(t, err)
	for i, f := range filters {
		want := sortedLines(<-live[i])
		out, err := exec.Command(path, append([]string{"replay", "-o", "json", file}, f...)...).Output()
		must(t, err)
		var got []line
		for l := range bytes.Lines(out) {
			var one line
			must(t, json.Unmarshal(l, &one))
			got = append(got, one)
		}
		if len(want) == 0 || !slices.Equal(sortedLines(got), want) {
			t.Errorf("%v: live\n%s\nreplayed\n%s", f, strings.Join(want, "\n"), strings.Join(sortedLines(got), "\n"))
		}
	}
}

func sortedLines(all []line) (sorted []string) {
	for _, l := range all {
		sorted = append(sorted, fmt.Sprintf("%+v", l))
	}
	slices.Sort(sorted)
	return sorted
}

// endingsOf are some of connections to a listener.
func endingsOf(t testing.TB, l int, at netip.AddrPort) {
	a, b := connect(t, l, at)
	must(t, unix.Close(a.fd))
	b.recv(t, 0)
	must(t, unix.Close(b.fd))
	a, b = connect(t, l, at)
	a.linger(t, 0)
	must(t, unix.Close(a.fd))
	must(t, unix.Close(b.fd))
}

// tracedOutput is what closetrace prints and says of some endings in a network
// namespace of their own.
func tracedOutput(t testing.TB, args ...string) (printed []byte, said string) {
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
		if code := ends(t, cmd); code != 0 {
			t.Errorf("exit code %d\n%s", code, rest)
		}
		printed, said = out.Bytes(), first+string(rest)
	})
	return printed, said
}

// someEndings are such as are held back, explained by each other, and told at
// once.
func someEndings(t testing.TB) {
	l, at := listen(t, loopback4)
	a, b := connect(t, l, at)
	must(t, unix.Close(a.fd))
	b.recv(t, 0)
	must(t, unix.Close(b.fd))
	a, b = connect(t, l, at)
	b.send(t, 148)
	a.queued(t, 148)
	must(t, unix.Close(a.fd))
	must(t, unix.Close(b.fd))
	a, b = connect(t, l, at)
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
