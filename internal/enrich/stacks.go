package enrich

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// What is remembered is bounded: by programs, some MB each, and by processes.
const (
	maxPrograms = 64
	maxSpaces   = 256
)

// Stacks names the functions of user stacks, from the files that a process has
// mapped, as it sees them. Not for concurrent use.
type Stacks struct {
	root     string
	programs map[fileID]*program // nil: it cannot be read
	spaces   map[uint32]space    // by process
}

// fileID tells one state of a file from another.
type fileID struct {
	dev, inode uint64
	changed    time.Duration // ctime
}

// space is an address space. A process has another one after execve(2), and
// where its stack begins tells them apart, because it is at random.
type space struct {
	startStack uint64
	maps       []mapping
}

// mapping is a part of a file in memory.
type mapping struct {
	start, end, offset uint64
	inode              uint64
	path               string
	program            *program // once it was looked for
	sought             bool
}

// NewStacks looks up in a /proc that is mounted at root.
func NewStacks(root string) *Stacks {
	return &Stacks{root: root, programs: map[fileID]*program{}, spaces: map[uint32]space{}}
}

// Fill names the stack of an event. What cannot be named is an address.
func (s *Stacks) Fill(ev *events.Event) {
	if ev.CallStack == nil || ev.CallStack.User != nil {
		return
	}
	maps := s.mapsOf(ev.Task.PID, ev.CallStack.StartStack)
	for i, address := range ev.CallStack.Addresses {
		if i > 0 {
			address-- // it is where the call returns to, which may be another line
		}
		ev.CallStack.User = append(ev.CallStack.User, s.name(ev.Task.PID, maps, address))
	}
}

// mapsOf are those of a process with this address space; if that is gone, as they
// were when it was last seen.
func (s *Stacks) mapsOf(pid uint32, startStack uint64) []mapping {
	if startStack == 0 {
		return nil
	}
	seen := s.spaces[pid]
	now := s.readMaps(pid, startStack)
	switch {
	case now == nil && seen.startStack == startStack:
		return seen.maps
	case now == nil:
		return nil
	}
	if seen.startStack == startStack {
		for i := range now {
			at := slices.IndexFunc(seen.maps, now[i].same)
			if at >= 0 {
				now[i] = seen.maps[at] // with its program
			}
		}
	}
	if len(s.spaces) >= maxSpaces {
		clear(s.spaces)
	}
	s.spaces[pid] = space{startStack, now}
	return now
}

func (m mapping) same(as mapping) bool {
	return m.start == as.start && m.end == as.end && m.offset == as.offset && m.inode == as.inode && m.path == as.path
}

// readMaps reads those of a process, nil if it has another address space.
func (s *Stacks) readMaps(pid uint32, startStack uint64) []mapping {
	process := filepath.Join(s.root, id(pid))
	text, err := os.ReadFile(filepath.Join(process, "maps"))
	if err != nil {
		return nil
	}
	// Read last: if it is the one now, it was the one before.
	stat, err := os.ReadFile(filepath.Join(process, "stat"))
	if err != nil || stackBegins(string(stat)) != startStack {
		return nil
	}
	return parseMaps(string(text))
}

// stackBegins takes startstack from a process's stat file: proc(5), field 28.
func stackBegins(stat string) uint64 {
	words := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	const startStack = 28 - 3 // words after the comm, which is the second
	if len(words) <= startStack {
		return 0
	}
	n, _ := strconv.ParseUint(words[startStack], 10, 64)
	return n
}

// parseMaps reads what can be executed: proc(5).
func parseMaps(text string) (all []mapping) {
	for line := range strings.Lines(text) {
		// START-END PERMISSIONS OFFSET DEVICE INODE PATH, which may have blanks
		words := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 6)
		if len(words) < 6 || len(words[1]) < 3 || words[1][2] != 'x' {
			continue
		}
		from, to, _ := strings.Cut(words[0], "-")
		m := mapping{start: hexadecimal(from), end: hexadecimal(to), offset: hexadecimal(words[2]), path: strings.TrimLeft(words[5], " ")}
		m.inode, _ = strconv.ParseUint(words[4], 10, 64)
		all = append(all, m)
	}
	return all
}

func hexadecimal(s string) uint64 {
	n, _ := strconv.ParseUint(s, 16, 64) // 0 is in no mapping
	return n
}

func (s *Stacks) name(pid uint32, maps []mapping, address uint64) string {
	i := slices.IndexFunc(maps, func(m mapping) bool { return address >= m.start && address < m.end })
	if i < 0 || maps[i].path == "" {
		return fmt.Sprintf("%#x", address)
	}
	m := &maps[i]
	if !m.sought {
		m.program, m.sought = s.program(pid, m), true
	}
	if m.program == nil {
		return fmt.Sprintf("%#x (%s)", address, m.path)
	}
	return m.program.name(address-m.start+m.offset, m.path)
}

// program is the file of a mapping, in the process's own file system. If another
// file has its name by now, it is none.
func (s *Stacks) program(pid uint32, m *mapping) *program {
	if m.inode == 0 || !strings.HasPrefix(m.path, "/") {
		return nil
	}
	path := filepath.Join(s.root, id(pid), "root", m.path)
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil || st.Ino != m.inode || st.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return nil
	}
	key := fileID{st.Dev, st.Ino, time.Duration(st.Ctim.Nano())}
	b, known := s.programs[key]
	if !known {
		if len(s.programs) >= maxPrograms {
			clear(s.programs)
		}
		b = readProgram(path)
		s.programs[key] = b
	}
	return b
}
