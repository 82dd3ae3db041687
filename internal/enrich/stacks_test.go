package enrich

import (
	"bufio"
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

	"github.com/closetrace/closetrace/internal/events"
)

func TestParseMaps(t *testing.T) {
	got := parseMaps("00400000-0041a000 r-xp 00001000 fe:00 1234                               /usr/bin/a b\n" +
		"0061a000-0061b000 rw-p 0001a000 fe:00 1234                               /usr/bin/a b\n" +
		"7f0000000000-7f0000001000 r-xp 00000000 00:00 0 \n" +
		"7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0                          [vdso]\n" + "garbage\n\n")
	want := []mapping{
		{start: 0x400000, end: 0x41a000, offset: 0x1000, inode: 1234, path: "/usr/bin/a b"}, {start: 0x7f0000000000, end: 0x7f0000001000},
		{start: 0x7ffd00000000, end: 0x7ffd00002000, path: "[vdso]"},
	}
	if !reflect.DeepEqual(got, want) {
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
		t.Skip(err)
	}
	begins := stackBegins(string(stat))
	if begins == 0 {
		t.Skip("this kernel does not tell where a stack begins")
	}
	return begins
}

// The own stack, by Go's table: functions, files and lines.
func TestOwnStack(t *testing.T) {
	pcs := make([]uintptr, 1)
	runtime.Callers(1, pcs)
	_, _, line, _ := runtime.Caller(0)
	ev := events.Event{Task: events.Task{PID: uint32(os.Getpid())}, CallStack: &events.CallStack{
		StartStack: startStack(t, os.Getpid()), Addresses: []uint64{1, uint64(pcs[0]), 2},
	}}
	s := NewStacks("/proc")
	s.Fill(&ev)
	user := ev.CallStack.User
	if len(user) != 3 || user[0] != "0x1" || user[2] != "0x1" ||
		!strings.HasSuffix(user[1], fmt.Sprintf("enrich.TestOwnStack (%s:%d)", thisFile(), line-1)) {
		t.Errorf("line %d: got %q", line-1, user)
	}
	// It is known also when the process is gone.
	s.root = t.TempDir()
	again := events.Event{Task: ev.Task, CallStack: &events.CallStack{StartStack: ev.CallStack.StartStack, Addresses: ev.CallStack.Addresses}}
	if s.Fill(&again); !slices.Equal(again.CallStack.User, user) {
		t.Errorf("later: %q", again.CallStack.User)
	}
	// What another program has left behind is not looked for in this one.
	other := events.Event{Task: ev.Task, CallStack: &events.CallStack{StartStack: ev.CallStack.StartStack + 16, Addresses: []uint64{uint64(pcs[0])}}}
	NewStacks("/proc").Fill(&other)
	if got, want := other.CallStack.User, []string{fmt.Sprintf("%#x", pcs[0])}; !slices.Equal(got, want) {
		t.Errorf("of another program: %q, want %q", got, want)
	}
}

func thisFile() string {
	_, file, _, _ := runtime.Caller(1)
	return file
}

// A program of Go tells its lines however it was linked, and stripped.
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
			pid := uint32(tells.Process.Pid)
			s := NewStacks("/proc")
			got := s.name(pid, s.mapsOf(pid, startStack(t, tells.Process.Pid)), address)
			if !strings.HasPrefix(got, "main.here (") || !strings.HasSuffix(got, fmt.Sprintf("tells/main.go:%d)", line)) {
				t.Errorf("line %d is %q", line, got)
			}
		})
	}
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
		t.Skip(err)
	}
	defer cat.Wait()
	defer stdin.Close()
	fmt.Fprintln(stdin, "started")
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	s := NewStacks("/proc")
	maps := s.mapsOf(uint32(cat.Process.Pid), startStack(t, cat.Process.Pid))
	i := slices.IndexFunc(maps, func(m mapping) bool { return strings.HasPrefix(filepath.Base(m.path), "libc.so") })
	if i < 0 {
		t.Skip("cat is not linked with a libc.so")
	}
	library := maps[i]
	f, err := elf.Open(library.path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, symbol := range symbols {
		if symbol.Name != "fputs" && symbol.Name != "qsort" {
			continue
		}
		for _, p := range f.Progs {
			if p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 && symbol.Value >= p.Vaddr && symbol.Value < p.Vaddr+p.Filesz {
				address := symbol.Value - p.Vaddr + p.Off - library.offset + library.start + 4
				got := s.name(uint32(cat.Process.Pid), maps, address)
				if !strings.HasSuffix(got, "+0x4 ("+library.path+")") || !strings.Contains(got, symbol.Name) {
					t.Errorf("%s+4 is %q", symbol.Name, got)
				}
				named++
			}
		}
	}
	if named == 0 {
		t.Skip("this libc has none of these functions")
	}
	if got := s.name(uint32(cat.Process.Pid), []mapping{{start: 0, end: 1 << 20, inode: library.inode + 1, path: library.path}}, 4096); got != "0x1000 ("+library.path+")" {
		t.Errorf("of another file of that name: %q", got)
	}
}

// What is no program, or one that means harm, has no names.
func TestNoProgram(t *testing.T) {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	for name, text := range map[string][]byte{
		"empty": nil, "text": []byte("#!/bin/sh\n"), "cut": self[:len(self)/2],
		"header": append(slices.Clone(self[:64]), slices.Repeat([]byte{0xff}, 4096)...),
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
		if p := readProgram(path); p != nil {
			_ = p.name(4096, path) // does not panic
		}
	}
	if readProgram(filepath.Join(dir, "none")) != nil || readProgram(filepath.Join(dir, "text")) != nil {
		t.Error("what is no program was read as one")
	}
}
