//go:build linux

package live

import (
	"bufio"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// closeOften closes both ends of a connection again and again until its standard input ends. Before, it makes
// args[0] executable mappings of the file args[1].
func closeOften(args []string) error {
	if len(args) == 2 {
		if err := mapOften(args[0], args[1]); err != nil {
			return err
		}
	}
	d, err := newListener(loopback4)
	if err != nil {
		return err
	}
	go func() {
		for range time.Tick(time.Duration(scaled(20, 500)) * time.Millisecond) {
			ours, theirs, err := d.pair()
			if err != nil {
				fmt.Fprintln(os.Stderr, "churn:", err)
				os.Exit(1)
			}
			closesHere(ours)
			closesHere(theirs)
		}
	}()
	ready()
	return nil
}

// mapOften maps the pages of a file, each apart from the one before, as often as the kernel allows.
func mapOften(count, path string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	page := os.Getpagesize()
	for i := range n {
		_, err := unix.Mmap(int(f.Fd()), int64(i%100*2*page), page, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE)
		if err == unix.ENOMEM && i > n/2 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("mapping %d: %w", i, err)
		}
	}
	return nil
}

// badSection is a section that replaces those of a program. Its size may be a lie.
type badSection struct {
	name  string
	kind  elf.SectionType
	flags elf.SectionFlag
	data  []byte
	size  uint64 // if it is not that of the data
	link  uint32
}

// withSections replaces the sections of the program in a file, which the kernel does not need.
func withSections(t testing.TB, path string, sections ...badSection) {
	t.Helper()
	order := binary.LittleEndian
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	info, err := f.Stat()
	must(t, err)
	end := uint64(info.Size())
	put := func(data []byte) (at uint64) {
		at = end
		_, err := f.WriteAt(data, int64(at))
		must(t, err)
		end += uint64(len(data))
		return at
	}
	sections = append(append([]badSection{{}}, sections...), badSection{name: ".shstrtab", kind: elf.SHT_STRTAB})
	names := []byte{0}
	var headers []byte
	for i, s := range sections {
		start := len(names)
		names = append(append(names, s.name...), 0)
		if i == len(sections)-1 {
			s.data = names
		}
		if s.size == 0 {
			s.size = uint64(len(s.data))
		}
		h := make([]byte, 64)
		order.PutUint32(h, uint32(start))
		order.PutUint32(h[4:], uint32(s.kind))
		order.PutUint64(h[8:], uint64(s.flags))
		order.PutUint64(h[24:], put(s.data))
		order.PutUint64(h[32:], s.size)
		order.PutUint32(h[40:], s.link)
		headers = append(headers, h...)
	}
	head := order.AppendUint64(nil, put(headers))
	_, err = f.WriteAt(head, 0x28) // e_shoff
	must(t, err)
	counts := order.AppendUint16(nil, 64)
	counts = order.AppendUint16(counts, uint16(len(sections)))
	counts = order.AppendUint16(counts, uint16(len(sections)-1))
	_, err = f.WriteAt(counts, 0x3a) // e_shentsize, e_shnum, e_shstrndx
	must(t, err)
}

// everywhere returns n symbols of functions that contain each address, with the name at offset 1.
func everywhere(n int) []byte {
	s := make([]byte, 24)
	binary.LittleEndian.PutUint32(s, 1)
	s[4], s[6] = byte(elf.STT_FUNC), 1
	binary.LittleEndian.PutUint64(s[16:], 1<<62)
	return append(make([]byte, 24), slices.Repeat(s, n)...)
}

func symbolSections(symbols badSection, names string) []badSection {
	symbols.name, symbols.kind, symbols.link = ".symtab", elf.SHT_SYMTAB, 2
	return []badSection{symbols, {name: ".strtab", kind: elf.SHT_STRTAB, data: []byte(names)}}
}

// manyLines is a table of Go's lines that claims to have 2^32-1 functions.
func manyLines() []byte {
	table := []byte{0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8}
	for _, v := range []uint64{1<<32 - 1, 1, 0x400000, 80, 80, 80, 80, 80} {
		table = binary.LittleEndian.AppendUint64(table, v)
	}
	return append(table, make([]byte, 64)...)
}

// hostileProgram is a program of a user without privileges that closes connections.
type hostileProgram struct {
	name     string
	sections []badSection                            // if not nil, those of the file
	args     func(t testing.TB, dir string) []string // of closeOften
	// replace is called with the path and a free path beside it once the program runs; it may go on until the channel
	// is closed.
	replace func(t testing.TB, path, spare string, end <-chan struct{})
}

var hostilePrograms = []hostileProgram{
	{name: "lines", sections: []badSection{
		{name: ".gopclntab", kind: elf.SHT_PROGBITS, flags: elf.SHF_ALLOC, data: manyLines()},
		{name: ".text", kind: elf.SHT_PROGBITS, data: make([]byte, 64)},
	}},
	{name: "name", sections: symbolSections(
		badSection{data: everywhere(1000)}, "\x00"+strings.Repeat("A", 10<<20)+"\x00",
	)},
	{name: "endless", sections: symbolSections(badSection{data: everywhere(1000)}, "\x00"+strings.Repeat("A", 1<<20))},
	{name: "alloc", sections: symbolSections(
		badSection{data: everywhere(1), flags: elf.SHF_ALLOC, size: 3 << 30}, "\x00a\x00",
	)},
	{name: "fifo", replace: func(t testing.TB, path, spare string, _ <-chan struct{}) {
		must(t, unix.Mkfifo(spare, 0o644))
		must(t, os.Rename(spare, path))
	}},
	{name: "symlink", replace: func(t testing.TB, path, spare string, _ <-chan struct{}) {
		must(t, os.Symlink("/proc/self/mem", spare))
		must(t, os.Rename(spare, path))
	}},
	{name: "device", replace: func(t testing.TB, path, spare string, _ <-chan struct{}) {
		must(t, unix.Mknod(spare, unix.S_IFCHR|0o644, int(unix.Mkdev(1, 5)))) // /dev/zero
		must(t, os.Rename(spare, path))
	}},
	{name: "swapped", replace: func(t testing.TB, path, spare string, end <-chan struct{}) {
		must(t, unix.Mkfifo(spare, 0o644))
		go func() {
			for {
				select {
				case <-end:
					return
				case <-time.After(100 * time.Microsecond):
					_ = unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, spare, unix.RENAME_EXCHANGE)
				}
			}
		}()
	}},
	{name: "mappings", args: func(t testing.TB, dir string) []string {
		for range 14 {
			dir = filepath.Join(dir, strings.Repeat("d", 240))
		}
		must(t, os.MkdirAll(dir, 0o755))
		file := filepath.Join(dir, "file")
		must(t, os.WriteFile(file, make([]byte, 1<<20), 0o755))
		return []string{itoa(scaled(60000, 6000)), file}
	}},
}

// reachable returns a directory that every user may read.
func reachable(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for at := dir; at != "/"; at = filepath.Dir(at) {
		if st, err := os.Stat(at); err == nil && st.Mode()&0o5 != 0o5 {
			must(t, os.Chmod(at, st.Mode()|0o5))
		}
	}
	return dir
}

// start starts a program as nobody, in the namespace of the calling thread.
func (p *hostileProgram) start(t testing.TB, dir string, end <-chan struct{}) (pid uint32) {
	t.Helper()
	path, common := filepath.Join(dir, "hostile-"+p.name), filepath.Join(dir, "common")
	if p.sections != nil {
		copySelf(t, path)
		withSections(t, path, p.sections...)
	} else {
		if _, err := os.Stat(common); err != nil {
			copySelf(t, common)
		}
		must(t, os.Link(common, path))
	}
	words := []string{"churn"}
	if p.args != nil {
		words = append(words, p.args(t, dir)...)
	}
	a := &child{Cmd: exec.Command(path)}
	a.Env = append(os.Environ(), childVariable+"="+strings.Join(words, " "))
	a.Dir, a.Stderr = "/", os.Stderr
	a.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobodyUID, Gid: nobodyUID}}
	stdin, err := a.StdinPipe()
	must(t, err)
	a.stdin = stdin
	stdout, err := a.StdoutPipe()
	must(t, err)
	must(t, a.Start())
	t.Cleanup(func() {
		a.Process.Kill()
		a.Wait()
	})
	if word, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatalf("%s is not ready: %q, %v", p.name, word, err)
	}
	if p.replace != nil {
		p.replace(t, path, path+".spare", end)
	}
	return uint32(a.Process.Pid)
}

// copySelf copies this program for every user.
func copySelf(t testing.TB, path string) {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	from, err := os.Open(self)
	must(t, err)
	defer from.Close()
	to, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	must(t, err)
	_, err = io.Copy(to, from)
	must(t, err)
	must(t, to.Close())
	must(t, os.Chmod(path, 0o755))
}
