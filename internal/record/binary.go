package record

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"net/netip"
	"runtime"

	"github.com/closetrace/closetrace/internal/events"
)

// Version is the version of the recordings that this closetrace writes.
const Version = 2

// fileHeader is the first frame: what produced the recording, and the layout of its records.
type fileHeader struct {
	Version int `json:"format_version"`
	events.Header
	Arch string `json:"arch"` // GOARCH
}

// name is a name that records refer to by number, from here on. Exactly one of the numbers is set; without one, all
// names before it are forgotten.
type name struct {
	Cgroup      *uint64 `json:"cgroup,omitempty"`
	Syscall     *int32  `json:"syscall,omitempty"`
	ResetReason *uint32 `json:"reset_reason,omitempty"`
	Compat      bool    `json:"compat,omitempty"` // of a 32-bit system call
	Name        string  `json:"name"`
}

// lookups is what was looked up for one event.
type lookups struct {
	Owner          *events.Task           `json:"owner,omitempty"`
	OwnerBytes     []byte                 `json:"owner_comm_bytes,omitempty"` // names that are not UTF-8, as in line
	Searched       bool                   `json:"searched,omitempty"`
	OtherHolders   uint32                 `json:"other_holders,omitempty"`
	OtherRemote    netip.AddrPort         `json:"other_remote,omitzero"`
	OtherEnd       *events.OtherEnd       `json:"other_end,omitempty"`
	OtherEndBytes  []byte                 `json:"other_end_comm_bytes,omitempty"`
	ContainerNames *events.ContainerNames `json:"container_names,omitempty"`
	Stack          []string               `json:"stack,omitempty"`
	CallStack      *events.CallStack      `json:"call_stack,omitempty"`
}

// lookedUp reports whether anything was looked up for an event that a record does not have.
func lookedUp(ev *events.Event) bool {
	return ev.Owner != nil || ev.Searched || ev.OtherHolders != 0 || ev.OtherEnd != nil || ev.ContainerNames != nil ||
		ev.Stack != nil || ev.CallStack != nil || ev.OtherRemote.IsValid()
}

func lookupsOf(ev *events.Event) *lookups {
	l := &lookups{
		Owner: ev.Owner, Searched: ev.Searched, OtherHolders: ev.OtherHolders, OtherRemote: ev.OtherRemote,
		OtherEnd: ev.OtherEnd, ContainerNames: ev.ContainerNames, Stack: ev.Stack, CallStack: ev.CallStack,
	}
	if ev.Owner != nil {
		l.OwnerBytes = notText(ev.Owner.Comm)
	}
	if ev.OtherEnd != nil && ev.OtherEnd.Owner != nil {
		l.OtherEndBytes = notText(ev.OtherEnd.Owner.Comm)
	}
	return l
}

// put sets in an event what was looked up for it.
func (l *lookups) put(ev *events.Event) {
	if l.OwnerBytes != nil && l.Owner != nil {
		l.Owner.Comm = string(l.OwnerBytes)
	}
	if l.OtherEndBytes != nil && l.OtherEnd != nil && l.OtherEnd.Owner != nil {
		l.OtherEnd.Owner.Comm = string(l.OtherEndBytes)
	}
	ev.Owner, ev.Searched, ev.OtherHolders, ev.OtherRemote = l.Owner, l.Searched, l.OtherHolders, l.OtherRemote
	ev.OtherEnd, ev.ContainerNames, ev.Stack, ev.CallStack = l.OtherEnd, l.ContainerNames, l.Stack, l.CallStack
}

// offsets are the places in a record of what a writer replaces or names.
type offsets struct {
	size                                         int
	sock, listener, caller, cgroup, socketCgroup int
	syscall, kernelReason                        int
}

// find returns the offsets of a layout. It returns an error if a field is missing, which must not leave addresses of
// the kernel in a file.
func find(layout []events.Field) (o offsets, err error) {
	for _, f := range []struct {
		name string
		size int
		at   *int
	}{
		{"sock", 8, &o.sock}, {"listener", 8, &o.listener}, {"caller", 8, &o.caller}, {"cgroup_id", 8, &o.cgroup},
		{"socket_cgroup_id", 8, &o.socketCgroup}, {"syscall", 4, &o.syscall}, {"kernel_reason", 4, &o.kernelReason},
	} {
		*f.at = -1
		for _, field := range layout {
			if field.Name == f.name && field.Size == f.size {
				*f.at = field.Offset
			}
			o.size = max(o.size, field.Offset+field.Size)
		}
		if *f.at < 0 {
			return o, fmt.Errorf("the layout of records has no field %s of %d bytes", f.name, f.size)
		}
	}
	return o, nil
}

// nameKey identifies a name.
type nameKey struct {
	kind   byte // 'c' cgroup, 's' syscall, 't' syscall of 32 bits, 'r' reason of a RST
	number uint64
}

// maxNames bounds the names that a writer or reader remembers. A writer then forgets all of them and says so.
const maxNames = 4096

// maxName is the maximum length of a name in bytes: PATH_MAX, as most are paths of cgroups. A longer one is cut.
const maxName = 4096

// binaryWriter writes format 2.
type binaryWriter struct {
	w      *bufio.Writer
	seed   maphash.Seed
	at     offsets // size 0: no record can be written
	names  map[nameKey]string
	recent [4]recentName // the last ones: most events have the same
}

// recentName is a name that the file has.
type recentName struct {
	key  nameKey
	text string
}

// The places of names in [binaryWriter]'s recent ones.
const (
	ofCgroup = iota
	ofSocketCgroup
	ofSyscall
	ofReason
)

func newBinaryWriter(w *bufio.Writer, h events.Header, seed maphash.Seed) (*binaryWriter, error) {
	b := &binaryWriter{w: w, seed: seed, names: map[nameKey]string{}}
	if len(h.Record) > 0 {
		var err error
		if b.at, err = find(h.Record); err != nil {
			return nil, err
		}
	}
	head := fileHeader{Version: Version, Header: h, Arch: runtime.GOARCH}
	if _, err := w.Write(magic); err != nil {
		return nil, fmt.Errorf("writing the header: %w", err)
	}
	return b, b.json(frameHeader, head)
}

// Write appends an event: as the kernel side reported it, if the event has its record.
func (b *binaryWriter) Write(ev *events.Event) error {
	if b.at.size == 0 || len(ev.Record) < b.at.size {
		return b.json(frameEvent, lineOf(ev, b.seed))
	}
	if err := b.writeNames(ev); err != nil {
		return err
	}
	frame := append(b.begin(frameRecord), ev.Record[:b.at.size]...)
	record := frame[frameHead:]
	put := binary.LittleEndian.PutUint64
	put(record[b.at.sock:], alias(b.seed, ev.Sock))
	put(record[b.at.listener:], alias(b.seed, ev.Listener))
	put(record[b.at.caller:], 0)
	if lookedUp(ev) {
		text, err := json.Marshal(lookupsOf(ev))
		if err != nil {
			return fmt.Errorf("writing an event: %w", err)
		}
		frame = append(frame, text...)
	}
	return b.write(frame)
}

// writeNames appends the names of an event that the file does not have.
func (b *binaryWriter) writeNames(ev *events.Event) error {
	err := b.makeSpace()
	if err == nil && ev.CgroupID != 0 { // that of no task, which would take the place of the last one
		err = b.name(ofCgroup, nameKey{'c', ev.CgroupID}, ev.Cgroup)
	}
	if err == nil && ev.SocketCgroupID != ev.CgroupID {
		err = b.name(ofSocketCgroup, nameKey{'c', ev.SocketCgroupID}, ev.SocketCgroup)
	}
	if err == nil && ev.Syscall != "" {
		kind := byte('s')
		if ev.Flags.Has(events.CompatSyscall) {
			kind = 't'
		}
		err = b.name(ofSyscall, nameKey{kind, uint64(binary.LittleEndian.Uint32(ev.Record[b.at.syscall:]))}, ev.Syscall)
	}
	if err == nil && ev.KernelReason != "" {
		reason := binary.LittleEndian.Uint32(ev.Record[b.at.kernelReason:])
		err = b.name(ofReason, nameKey{'r', uint64(reason)}, ev.KernelReason)
	}
	return err
}

// makeSpace forgets all names unless those of an event fit. Forgetting them between two names of an event would forget
// the first one, to which the event refers.
func (b *binaryWriter) makeSpace() error {
	if len(b.names)+len(b.recent) <= maxNames {
		return nil
	}
	clear(b.names)
	clear(b.recent[:])
	return b.json(frameName, name{})
}

// name appends a name, unless the file has it. place is that of its kind.
func (b *binaryWriter) name(place int, key nameKey, text string) error {
	if last := &b.recent[place]; last.key == key && last.text == text {
		return nil
	}
	if err := b.addName(key, text[:min(len(text), maxName)]); err != nil {
		return err
	}
	b.recent[place] = recentName{key, text}
	return nil
}

// addName appends a name, unless the file has it.
func (b *binaryWriter) addName(key nameKey, text string) error {
	known, found := b.names[key]
	if known == text && (found || text == "") {
		return nil
	}
	b.names[key] = text
	clear(b.recent[:])
	n := name{Name: text}
	switch number, call, reason := key.number, int32(key.number), uint32(key.number); key.kind {
	case 'c':
		n.Cgroup = &number
	case 's', 't':
		n.Syscall, n.Compat = &call, key.kind == 't'
	case 'r':
		n.ResetReason = &reason
	}
	return b.json(frameName, n)
}

// Owner appends the owner of an event that was written before.
func (b *binaryWriter) Owner(ev *events.Event) error { return b.json(frameOwner, ownerOf(ev, b.seed)) }

// Idle appends that everything was read and all pending endings until monoNS were reported.
func (b *binaryWriter) Idle(monoNS uint64) error {
	return b.write(binary.LittleEndian.AppendUint64(b.begin(frameIdle), monoNS))
}

// End appends the last frame.
func (b *binaryWriter) End(e *End) error { return b.json(frameEnd, e) }

func (b *binaryWriter) json(t frameType, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("writing the recording: %w", err)
	}
	return b.write(append(b.begin(t), text...))
}

// begin returns a buffer with the head of a frame. As long as there is room, it is that of the writer, so that the
// frame is not copied.
func (b *binaryWriter) begin(t frameType) []byte {
	if b.w.Available() < frameHead+b.at.size+frameTail {
		_ = b.w.Flush() // write returns its error
	}
	return beginFrame(b.w.AvailableBuffer(), t)
}

// write completes and writes a frame that begin returned.
func (b *binaryWriter) write(frame []byte) error {
	frame, err := sealFrame(frame)
	if err == nil {
		_, err = b.w.Write(frame)
	}
	if err != nil {
		return fmt.Errorf("writing the recording: %w", err)
	}
	return nil
}
