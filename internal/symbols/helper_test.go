//go:build linux

package symbols

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if RunHelper() {
		return
	}
	os.Exit(m.Run())
}

// process is a process of a helper: its status, by key.
type process struct {
	pid    int
	status map[string]string
}

// children returns the processes that a process started.
func children(t *testing.T, parent int) (all []process) {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		text, err := os.ReadFile(filepath.Join(dir, "status"))
		if err != nil {
			continue // it has ended
		}
		p := process{status: map[string]string{}}
		for line := range strings.Lines(string(text)) {
			key, value, _ := strings.Cut(line, ":")
			p.status[key] = strings.Join(strings.Fields(value), " ")
		}
		if p.pid, err = strconv.Atoi(p.status["Pid"]); err != nil {
			t.Fatal(err)
		}
		if p.status["PPid"] == strconv.Itoa(parent) && !strings.HasPrefix(p.status["State"], "Z") {
			all = append(all, p)
		}
	}
	return all
}

// processes returns the supervisor and the reader of the only helper.
func processes(t *testing.T) (both []process) {
	t.Helper()
	eventually(t, "a supervisor and a reader", func() bool {
		both = children(t, os.Getpid())
		if len(both) == 1 {
			both = append(both, children(t, both[0].pid)...)
		}
		return len(both) == 2
	})
	return both
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 30 s", what)
		}
	}
}

// opened opens a file with a content.
func opened(t *testing.T, content []byte) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// A helper names functions of files that are open here, in processes that may do nothing else. What it cannot read does
// no harm to the next look-up; if it is killed, it is started again; it ends with its socket.
func TestHelper(t *testing.T) {
	inherited := opened(t, []byte("not for the reader"))
	open, err := unix.Dup(int(inherited.Fd())) // without O_CLOEXEC
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(open)
	h, err := Start()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	honest := opened(t, withNames(1, "\x00closes\x00"))
	works := func() error {
		names, err := h.Names(honest, []uint64{16, 1 << 50})
		want := []Name{{Symbol, "closes+0x10", 0x400010}, {Unnamed, "", 1 << 50}}
		if err == nil && !slices.Equal(names, want) {
			err = fmt.Errorf("got %+v, want %+v", names, want)
		}
		return err
	}
	if err := works(); err != nil {
		t.Fatal(err)
	}
	both := processes(t)
	for _, p := range both {
		for key, want := range map[string]string{
			"CapInh": "0", "CapPrm": "0", "CapEff": "0", "CapAmb": "0", "NoNewPrivs": "1",
		} {
			if got := p.status[key]; strings.TrimLeft(got, "0") != strings.Trim(want, "0") {
				t.Errorf("%s of process %d is %s", key, p.pid, got)
			}
		}
		const nobody = "65534 65534 65534 65534"
		user, group, groups := p.status["Uid"], p.status["Gid"], p.status["Groups"]
		if os.Geteuid() == 0 && (user != nobody || group != nobody || groups != "") {
			t.Errorf("process %d is of user %q, group %q, groups %q", p.pid, user, group, groups)
		}
	}
	checkLimits(t, both[1].pid)
	// Only this process may look at the descriptors of one that is not dumpable, if it is root.
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", both[1].pid))
	if err != nil || len(links) == 0 && os.Geteuid() == 0 {
		t.Errorf("no descriptors: %v", err)
	}
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && to == inherited.Name() {
			t.Errorf("the reader has inherited %s", to)
		}
	}
	for name, file := range map[string]*os.File{
		"damaged": opened(t, withNames(1, "\x00a\x00")[:300]), "slow": opened(t, withNames(maxSymbols, "\x00a\x00")),
	} {
		offsets := slices.Repeat([]uint64{4096}, MaxOffsets)
		if names, err := h.Names(file, offsets); !errors.Is(err, ErrFile) {
			t.Errorf("%s: %d names, error %v", name, len(names), err)
		}
		eventually(t, "a look-up after that of a "+name+" file", func() bool { return works() == nil })
	}
	if err := unix.Kill(processes(t)[1].pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a look-up after the reader was killed", func() bool { return works() == nil })
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of the helper", func() bool { return len(children(t, os.Getpid())) == 0 })
	if err := works(); !errors.Is(err, ErrNoHelper) {
		t.Errorf("after its end: %v", err)
	}
}

// A file that is shortened and lengthened while it is read is an error or has names. It ends no process.
func TestTruncation(t *testing.T) {
	h, err := Start()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	content := withNames(100000, "\x00closes\x00")
	file := opened(t, content)
	reader := processes(t)[1].pid
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-end:
				return
			default:
			}
			for _, size := range []int64{0, 4096, int64(len(content))} {
				if err := os.Truncate(file.Name(), size); err != nil {
					t.Error(err)
				}
			}
			if err := os.WriteFile(file.Name(), content, 0o600); err != nil {
				t.Error(err)
			}
		}
	}()
	results := map[error]int{}
	// On a busy machine the file may be whole at each of 300 look-ups.
	for n, begin := 0, time.Now(); n < 300 || results[ErrFile] == 0 && time.Since(begin) < time.Minute; n++ {
		_, err := h.Names(file, []uint64{16})
		results[err]++
	}
	close(end)
	<-ended
	if results[ErrNoHelper] > 0 || results[ErrFile] == 0 {
		t.Errorf("results: %v", results)
	}
	if now := processes(t)[1].pid; now != reader {
		t.Errorf("the reader is process %d, and was %d", now, reader)
	}
}

// checkLimits checks the resource limits of the reader.
func checkLimits(t *testing.T, pid int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		t.Fatal(err)
	}
	for limit, want := range map[string]int{
		"Max data size": maxData, "Max open files": maxDescriptors, "Max file size": 0, "Max core file size": 0,
	} {
		_, values, _ := strings.Cut(string(text), limit)
		words := append(strings.Fields(values), "", "")
		if words[0] != strconv.Itoa(want) || words[1] != words[0] {
			t.Errorf("%s is %s and %s, want %d", limit, words[0], words[1], want)
		}
	}
}

// A helper that has no process left says so, and does not block.
func TestNoHelper(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(pair[1])
	h := &Helper{fd: pair[0], answer: make([]byte, maxAnswer)}
	defer h.Close()
	for range 2 {
		if _, err := h.Names(opened(t, nil), []uint64{1}); !errors.Is(err, ErrNoHelper) {
			t.Errorf("got %v", err)
		}
	}
}
