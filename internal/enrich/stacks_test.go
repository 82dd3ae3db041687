package enrich

import (
	"bufio"
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/symbols"
)

func TestParseMaps(t *testing.T) {
	got := parseMaps(strings.NewReader("" +
		"00400000-0041a000 r-xp 00001000 fe:00 1234                               /usr/bin/a b\n" +
		"0061a000-0061b000 rw-p 0001a000 fe:00 1234                               /usr/bin/a b\n" +
		"7f0000000000-7f0000001000 r-xp 00000000 00:00 0 \n" +
		"7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0                          [vdso]\n" + "garbage\n\n"))
	want := []mapping{
		{
			start:  0x400000,
			end:    0x41a000,
			offset: 0x1000,
			inode:  1234,
			path:   "/usr/bin/a b",
		}, {start: 0x7f0000000000, end: 0x7f0000001000},
		{start: 0x7ffd00000000, end: 0x7ffd00002000, path: "[vdso]"},
	}
	if !reflect.DeepEqual(got.all, want) || got.cut != 0 {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestStackBegins(t *testing.T) {
	for stat, want := range map[string]uint64{
		"7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 10 1000 10 18446744073709551615 1 2 140722 0": 140722,
		"7 (a) S 1": 0, "": 0,
	} {
		if got := stackBegins(stat); got != want {
			t.Errorf("%q: %d, want %d", stat, got, want)
		}
	}
}

// startStack is that of a process on this machine.
func startStack(t *testing.T, pid int) uint64 {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	if fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])); fields[25] == "0" { // startstack
		t.Skip("this kernel does not show where a stack begins")
	}
	begins := stackBegins(string(stat))
	if begins == 0 {
		t.Fatalf("no begin of the stack is read in %s", stat)
	}
	return begins
}

// direct is a namer that reads files in this process.
type direct struct{ t *testing.T }

func (d direct) Names(file *os.File, offsets []uint64) ([]symbols.Name, error) {
	info, err := file.Stat()
	if err != nil {
		d.t.Error(err)
	}
	names, err := symbols.Lookup(file, info.Size(), offsets, time.Now().Add(time.Minute))
	if err != nil {
		return nil, symbols.ErrFile
	}
	return names, nil
}

// resolve names a stack, and waits until that is done.
func resolve(t *testing.T, s *Stacks, pid int, startStack uint64, addresses ...uint64) *events.CallStack {
	t.Helper()
	ev := events.Event{
		Task:      events.Task{PID: uint32(pid)},
		CallStack: &events.CallStack{StartStack: startStack, Addresses: addresses},
	}
	n := s.Begin(&ev)
	select {
	case <-n.Done():
	case <-time.After(time.Minute):
		t.Fatal("not named within a minute")
	}
	n.Finish()
	return ev.CallStack
}

// The own stack, by Go's table: functions, files and lines. It ends before what is no address of code.
func TestOwnStack(t *testing.T) {
	pcs := make([]uintptr, 1)
	runtime.Callers(1, pcs)
	_, _, line, _ := runtime.Caller(0)
	start, pc := startStack(t, os.Getpid()), uint64(pcs[0])
	s := NewStacks("/proc", direct{t})
	got := resolve(t, s, os.Getpid(), start, 1, pc, pc, 2, pc)
	want := fmt.Sprintf("enrich.TestOwnStack (%s:%d)", thisFile(), line-1)
	if user := got.User; len(user) != 3 || user[0] != "0x1" || !strings.HasSuffix(user[1], want) || user[2] != user[1] ||
		got.Unresolved != 0 {
		t.Errorf("line %d: got %q, %d unresolved", line-1, user, got.Unresolved)
	}
	// It is known also when the process is gone.
	s.root = t.TempDir()
	if again := resolve(t, s, os.Getpid(), start, 1, pc, pc); !slices.Equal(again.User, got.User) {
		t.Errorf("later: %q", again.User)
	}
	// What another program has left behind is not looked for in this one.
	other := resolve(t, NewStacks("/proc", direct{t}), os.Getpid(), start+16, pc)
	if want := []string{fmt.Sprintf("%#x", pc)}; !slices.Equal(other.User, want) || other.Unresolved != 0 {
		t.Errorf("of another program: %q, want %q", other.User, want)
	}
	// Without a namer there are modules and offsets.
	plain := resolve(t, NewStacks("/proc", nil), os.Getpid(), start, pc)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if len(plain.User) != 1 || !strings.HasPrefix(plain.User[0], filepath.Base(self)+"+0x") || plain.Unresolved != 1 {
		t.Errorf("without a namer: %q, %d unresolved", plain.User, plain.Unresolved)
	}
}

func thisFile() string {
	_, file, _, _ := runtime.Caller(1)
	return file
}

// Go source lines are found in every kind of linking, and in stripped files.
func TestGoProgram(t *testing.T) {
	for _, how := range [][]string{
		{"-ldflags=-s -w"}, {"-ldflags=-s -w", "-buildmode=pie"}, {"-ldflags=-linkmode=external"},
		{"-ldflags=-s -w -linkmode=external"}, {"-ldflags=-s -w -linkmode=external", "-buildmode=pie"},
	} {
		t.Run(strings.Join(how, " "), func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "tells")
			build := exec.Command("go", append(append([]string{"build", "-o", path}, how...), "./testdata/tells")...)
			build.Env = append(os.Environ(), "CGO_ENABLED=1")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			tells := exec.Command(path)
			stdin, err := tells.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			stdout, err := tells.StdoutPipe()
			if err == nil {
				err = tells.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			defer tells.Wait()
			defer stdin.Close()
			var address uint64
			var line int
			if _, err := fmt.Fscan(stdout, &address, &line); err != nil {
				t.Fatal(err)
			}
			pid := tells.Process.Pid
			got := resolve(t, NewStacks("/proc", direct{t}), pid, startStack(t, pid), address).User[0]
			if !strings.HasPrefix(got, "main.here (") || !strings.HasSuffix(got, fmt.Sprintf("tells/main.go:%d)", line)) {
				t.Errorf("line %d is %q", line, got)
			}
		})
	}
}

// linksLibc reports whether a program is linked with a libc.so.
func linksLibc(t *testing.T, path string) bool {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	libraries, err := f.ImportedLibraries()
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(libraries, func(name string) bool { return strings.HasPrefix(name, "libc.so") })
}

// A function of a shared library, which is mapped anywhere, by its symbol.
func TestLibraryFunction(t *testing.T) {
	cat := exec.Command("cat")
	stdin, err := cat.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cat.StdoutPipe()
	if err == nil {
		err = cat.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer cat.Wait()
	defer stdin.Close()
	fmt.Fprintln(stdin, "started")
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	pid := cat.Process.Pid
	start := startStack(t, pid)
	s := NewStacks("/proc", direct{t})
	maps := s.readSpace(uint32(pid), start).maps.all
	i := slices.IndexFunc(maps, func(m mapping) bool { return strings.HasPrefix(filepath.Base(m.path), "libc.so") })
	if i < 0 && !linksLibc(t, cat.Path) {
		t.Skip("cat is not linked with a libc.so")
	}
	if i < 0 {
		t.Fatalf("no libc.so is mapped: %v", maps)
	}
	library := maps[i]
	f, err := elf.Open(library.path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	functions, err := f.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, symbol := range functions {
		if symbol.Name != "fputs" && symbol.Name != "qsort" {
			continue
		}
		for _, p := range f.Progs {
			if p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 && symbol.Value >= p.Vaddr && symbol.Value < p.Vaddr+p.Filesz {
				address := symbol.Value - p.Vaddr + p.Off - library.offset + library.start + 4
				got := resolve(t, s, pid, start, address).User[0]
				if !strings.HasSuffix(got, "+0x4 ("+library.path+")") || !strings.Contains(got, symbol.Name) {
					t.Errorf("%s+4 is %q", symbol.Name, got)
				}
				named++
			}
		}
	}
	if named == 0 {
		t.Errorf("%s has neither fputs nor qsort", library.path)
	}
	library.inode++
	if f, _, err := openMapped(fmt.Sprintf("/proc/%d/root", pid), &library); err == nil {
		f.Close()
		t.Error("opened another file of that name")
	}
}
