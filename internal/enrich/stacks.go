package enrich

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/symbols"
)

// Limits on what is kept.
const (
	maxSpaces     = 256
	maxSpaceBytes = 4 << 20 // of all address spaces
	maxNames      = 16384
	maxNameBytes  = 4 << 20
	maxBadFiles   = 4096
)

// mapsShare bounds the time spent on the mappings of a process: those read in 1 ms are used for 10 ms.
const mapsShare = 10

// Namer names the functions at offsets of a file: [symbols.Helper]. Its error [symbols.ErrFile] blames the file.
type Namer interface {
	Names(file *os.File, offsets []uint64) ([]symbols.Name, error)
}

// Stacks names the functions of user stacks, from the files that a process has mapped. It does so on goroutines of its
// own, because the processes may make that slow, and it does not read the files itself.
type Stacks struct {
	root     string
	namer    Namer
	schedule *schedule

	mu        sync.Mutex
	spaces    map[uint32]*space // by process
	bytes     int               // of the spaces
	names     map[nameKey]symbols.Name
	nameBytes int
	bad       map[fileID]bool // files that cannot be read
}

// fileID identifies one version of a file.
type fileID struct {
	dev, inode       uint64
	modified, change time.Duration // mtime and ctime
	size             int64
}

// nameKey is a place in a file.
type nameKey struct {
	file   fileID
	offset uint64
}

// space is an address space. A process has another one after execve(2). The randomized start of the stack identifies
// it. A space does not change, except for files.
type space struct {
	startStack uint64
	maps       mappings
	files      []fileID // of each mapping, zero if not known yet; Stacks.mu protects them
	until      time.Time
	bytes      int
}

// NewStacks returns a Stacks that reads the /proc mounted at root. Without a namer it names no functions.
func NewStacks(root string, n Namer) *Stacks {
	s := &Stacks{
		root: root, namer: n, spaces: map[uint32]*space{}, names: map[nameKey]symbols.Name{}, bad: map[fileID]bool{},
	}
	const atOnce = 2
	s.schedule = newSchedule(atOnce, s.run)
	return s
}

// Naming is the work of naming the functions of a stack.
type Naming struct {
	stack      *events.CallStack
	pid, uid   uint32
	startStack uint64
	addresses  []uint64
	done       chan struct{}
	abandoned  atomic.Bool

	mu         sync.Mutex
	frames     []string
	unresolved int
}

// Begin begins to name the functions of an event's stack. It does not block. It returns nil if there is nothing to
// name.
func (s *Stacks) Begin(ev *events.Event) *Naming {
	if ev.CallStack == nil || ev.CallStack.User != nil {
		return nil
	}
	n := &Naming{
		stack: ev.CallStack, pid: ev.Task.PID, uid: ev.Task.UID, startStack: ev.CallStack.StartStack,
		done: make(chan struct{}),
	}
	for i, address := range ev.CallStack.Addresses {
		if i > 0 {
			address-- // the return address may be on the next line
		}
		n.addresses = append(n.addresses, address)
		n.frames = append(n.frames, fmt.Sprintf("%#x", address))
	}
	n.unresolved = len(n.frames)
	if s.known(n) || !s.schedule.add(n) {
		close(n.done)
	}
	return n
}

// known names what is known of a stack already, and reports whether that is all.
func (s *Stacks) known(n *Naming) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.spaces[n.pid]
	if at == nil || at.startStack != n.startStack {
		return false
	}
	frames := s.place(n, at)
	all := time.Now().Before(at.until)
	for i := range frames {
		s.recall(at, &frames[i])
		all = all && frames[i].known
	}
	n.show(at, frames)
	return all
}

// Done is closed when there is nothing more to name.
func (n *Naming) Done() <-chan struct{} { return n.done }

// Finish sets what was named until now. A function that was not is shown as module and offset, or as address.
func (n *Naming) Finish() {
	n.abandoned.Store(true)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stack.User, n.stack.Unresolved = append([]string(nil), n.frames...), n.unresolved
}

// set replaces the frames.
func (n *Naming) set(frames []string, unresolved int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.frames, n.unresolved = frames, unresolved
}

// run names the functions of a stack.
func (s *Stacks) run(n *Naming) {
	at := s.spaceOf(n)
	if at == nil {
		n.set(n.frames, 0) // there is nothing to name them by
		return
	}
	frames := s.place(n, at)
	n.show(at, frames)
	s.mu.Lock()
	for i := range frames {
		s.recall(at, &frames[i])
	}
	s.mu.Unlock()
	for i := range frames {
		if m := frames[i].mapping; m >= 0 && !frames[i].known {
			s.nameAll(n, at, m, frames[i:])
			n.show(at, frames)
		}
	}
	n.show(at, frames)
}

// frame is a function of a stack.
type frame struct {
	address, offset uint64 // in memory, in the file
	mapping         int    // its number, -1: not known
	known           bool   // nothing more is to be found out
	name            symbols.Name
}

// place finds the mappings of a stack. The stack ends before the first address that is in none, because it is no
// address of code, but has at least one function.
func (s *Stacks) place(n *Naming, at *space) []frame {
	var frames []frame
	for i, address := range n.addresses {
		f := frame{address: address, mapping: at.maps.find(address)}
		switch {
		case f.mapping >= 0:
			m := &at.maps.all[f.mapping]
			f.offset, f.known = address-m.start+m.offset, !m.hasFile()
		case !at.maps.hides(address):
			if f.known = true; i > 0 {
				return frames
			}
		}
		frames = append(frames, f)
	}
	return frames
}

// hasFile reports whether a file may have the names of a mapping. Shared memory has none.
func (m *mapping) hasFile() bool {
	return m.inode != 0 && strings.HasPrefix(m.path, "/") &&
		!strings.HasPrefix(m.path, "/memfd:") && !strings.HasPrefix(m.path, "/SYSV")
}

// show sets the texts of frames.
func (n *Naming) show(at *space, frames []frame) {
	var texts []string
	unresolved := 0
	for i := range frames {
		text, resolved := frames[i].text(at)
		if texts = append(texts, text); !resolved {
			unresolved++
		}
	}
	n.set(texts, unresolved)
}

// text returns a frame as it is shown, and whether it is all that can be said.
func (f *frame) text(at *space) (text string, resolved bool) {
	if f.mapping < 0 {
		return fmt.Sprintf("%#x", f.address), f.known
	}
	m := &at.maps.all[f.mapping]
	switch {
	case m.path == "":
		return fmt.Sprintf("%#x", f.address), m.inode == 0
	case !m.hasFile():
		return fmt.Sprintf("%#x (%s)", f.address, m.path), true
	case !f.known || f.name.Kind == symbols.Unresolved:
		return fmt.Sprintf("%s+%#x", filepath.Base(m.path), f.offset), false
	case f.name.Kind == symbols.Function:
		return f.name.Text, true
	case f.name.Kind == symbols.Symbol:
		return fmt.Sprintf("%s (%s)", f.name.Text, m.path), true
	}
	return fmt.Sprintf("%#x (%s)", f.name.Address, m.path), true
}

// recall looks up a frame among the known names. The caller holds s.mu.
func (s *Stacks) recall(at *space, f *frame) {
	if f.known || f.mapping < 0 {
		return
	}
	file := at.files[f.mapping]
	if s.bad[file] {
		f.known, f.name.Kind = true, symbols.Unresolved
	} else if name, ok := s.names[nameKey{file, f.offset}]; ok {
		f.known, f.name = true, name
	}
}

// nameAll names the frames of a mapping that are not known.
func (s *Stacks) nameAll(n *Naming, at *space, m int, frames []frame) {
	file, version, err := openMapped(filepath.Join(s.root, id(n.pid), "root"), &at.maps.all[m])
	if err == nil {
		defer file.Close()
		s.mu.Lock()
		at.files[m] = version
		for i := range frames {
			if frames[i].mapping == m {
				s.recall(at, &frames[i])
			}
		}
		s.mu.Unlock()
	}
	var offsets []uint64
	var unknown []*frame
	for i := range frames {
		if f := &frames[i]; f.mapping == m && !f.known {
			f.known, f.name.Kind = true, symbols.Unresolved
			offsets, unknown = append(offsets, f.offset), append(unknown, f)
		}
	}
	if err != nil || s.namer == nil || len(offsets) == 0 || len(offsets) > symbols.MaxOffsets {
		return
	}
	names, err := s.namer.Names(file, offsets)
	if err != nil {
		s.blame(version, err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, f := range unknown {
		f.name = names[i]
		s.remember(nameKey{version, f.offset}, names[i])
	}
}

// remember keeps a name. The caller holds s.mu.
func (s *Stacks) remember(key nameKey, name symbols.Name) {
	if len(s.names) >= maxNames || s.nameBytes > maxNameBytes {
		clear(s.names)
		s.nameBytes = 0
	}
	s.names[key] = name
	s.nameBytes += len(name.Text)
}

// blame remembers a file that cannot be read.
func (s *Stacks) blame(file fileID, err error) {
	if !errors.Is(err, symbols.ErrFile) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.bad) >= maxBadFiles {
		clear(s.bad)
	}
	s.bad[file] = true
}

// openMapped opens the file of a mapping, by its path in the root directory of the process. The path has no symbolic
// links; if another file has it now, or it leads elsewhere, that is an error.
func openMapped(root string, m *mapping) (*os.File, fileID, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fileID{}, err
	}
	defer unix.Close(dir)
	path, err := unix.Openat2(dir, strings.TrimLeft(m.path, "/"), &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return nil, fileID{}, err
	}
	defer unix.Close(path)
	f, st, err := reopen(path)
	if err != nil {
		return nil, fileID{}, err
	}
	if st.Ino != m.inode {
		f.Close()
		return nil, fileID{}, errors.New("replaced")
	}
	return f, fileID{
		uint64(st.Dev), st.Ino, time.Duration(st.Mtim.Nano()), time.Duration(st.Ctim.Nano()), st.Size,
	}, nil
}

// spaceOf returns the address space of a stack, as it is now or as it was when it was read last. It returns nil if the
// process has ended or has another one.
func (s *Stacks) spaceOf(n *Naming) *space {
	if n.startStack == 0 {
		return nil
	}
	s.mu.Lock()
	seen := s.spaces[n.pid]
	s.mu.Unlock()
	if seen != nil && seen.startStack != n.startStack {
		seen = nil
	}
	begin := time.Now()
	if seen != nil && begin.Before(seen.until) {
		return seen
	}
	now := s.readSpace(n.pid, n.startStack)
	if now == nil {
		return seen
	}
	now.until = time.Now().Add(mapsShare * time.Since(begin))
	s.keep(n.pid, now, seen)
	return now
}

// keep keeps an address space, with the files that an earlier reading of it knew.
func (s *Stacks) keep(pid uint32, now, seen *space) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, m := range now.maps.all {
		if seen != nil && i < len(seen.maps.all) && seen.maps.all[i] == m {
			now.files[i] = seen.files[i]
		}
	}
	if old := s.spaces[pid]; old != nil {
		s.bytes -= old.bytes
	}
	if len(s.spaces) >= maxSpaces || s.bytes+now.bytes > maxSpaceBytes {
		clear(s.spaces)
		s.bytes = 0
	}
	s.spaces[pid] = now
	s.bytes += now.bytes
}

// readSpace reads the mappings of a process. It returns nil if the process has another address space.
func (s *Stacks) readSpace(pid uint32, startStack uint64) *space {
	process := filepath.Join(s.root, id(pid))
	f, err := openFile(filepath.Join(process, "maps"))
	if err != nil {
		return nil
	}
	maps := parseMaps(f)
	f.Close()
	// Read after the mappings: if the address space is this one now, it was before.
	stat, err := readFile(filepath.Join(process, "stat"))
	if err != nil || stackBegins(string(stat)) != startStack {
		return nil
	}
	at := &space{startStack: startStack, maps: maps, files: make([]fileID, len(maps.all))}
	const each = 120 // bytes of a mapping and its file
	at.bytes = each * len(maps.all)
	for i, m := range maps.all {
		if i == 0 || maps.all[i-1].path != m.path {
			at.bytes += len(m.path)
		}
	}
	return at
}

// stackBegins returns startstack of a process's stat file: proc(5), field 28.
func stackBegins(stat string) uint64 {
	words := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	const startStack = 28 - 3 // words after the comm, which is the second
	if len(words) <= startStack {
		return 0
	}
	n, _ := strconv.ParseUint(words[startStack], 10, 64)
	return n
}
