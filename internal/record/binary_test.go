package record

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/rawevent"
)

// readBinary returns what a file of format 2 has, decompressed if necessary, and the error that ended it.
func readBinary(t testing.TB, content []byte) (got []string, r *Reader, err error) {
	t.Helper()
	if r, err = readAny(bytes.NewReader(content), rawevent.Recorded); err != nil {
		return nil, nil, err
	}
	for {
		var ev events.Event
		switch err := r.Read(&ev); {
		case err == nil:
			got = append(got, fmt.Sprintf("%+v %+v %+v", ev, ev.Owner, ev.OtherEnd))
		case errors.Is(err, events.ErrIdle):
			got = append(got, fmt.Sprint("idle ", r.IdleNS))
		case errors.Is(err, io.EOF):
			return got, r, nil
		case errors.As(err, new(*Damage)):
			return got, r, err
		default:
			got = append(got, "unknown")
		}
	}
}

func recordedV2(t testing.TB) (content []byte, all []string) {
	t.Helper()
	content, err := os.ReadFile("testdata/v2.rec")
	if err != nil {
		t.Fatal(err)
	}
	all, r, err := readBinary(t, content)
	if err != nil || r.End == nil || len(all) < 10 {
		t.Fatalf("%d events, %v", len(all), err)
	}
	return content, all
}

// withoutPointers removes the addresses of pointers, which two readings do not share.
func withoutPointers(all []string) []string {
	var without []string
	for _, text := range all {
		for {
			before, after, found := strings.Cut(text, ":0xc")
			if !found {
				break
			}
			text = before + ": " + strings.TrimLeft(after, "0123456789abcdef")
		}
		without = append(without, text)
	}
	return without
}

// A file that is cut after any byte gives what is in its whole frames, and has no end.
func TestBinaryCutAtEveryByte(t *testing.T) {
	t.Parallel()
	content, all := recordedV2(t)
	all = withoutPointers(all)
	whole := 0
	for size := range content {
		got, r, err := readBinary(t, content[:size])
		if r == nil {
			if err == nil || len(got) > 0 {
				t.Fatalf("%d bytes: no header, no error", size)
			}
			continue
		}
		if r.End != nil || len(got) < whole || !slices.Equal(withoutPointers(got), all[:len(got)]) {
			t.Fatalf("%d bytes: end %v, %d after %d", size, r.End, len(got), whole)
		}
		if err != nil && !strings.Contains(err.Error(), "is cut off after ") {
			t.Fatalf("%d bytes: %v", size, err)
		}
		whole = len(got)
	}
	if whole != len(all) {
		t.Errorf("%d of %d read", whole, len(all))
	}
}

// Each flipped bit is an error, or, of a compressed file, changes nothing.
func TestBinaryFlippedBits(t *testing.T) {
	t.Parallel()
	plainFile, all := recordedV2(t)
	all = withoutPointers(all)
	compressedFile, err := os.ReadFile("testdata/v2.rec.zst")
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for _, content := range [][]byte{plainFile, compressedFile} {
		for range 2000 {
			bit := rng.IntN(8 * len(content))
			flipped := bytes.Clone(content)
			flipped[bit/8] ^= 1 << (bit % 8)
			got, r, err := readBinary(t, flipped)
			got = withoutPointers(got)
			if err == nil && (r.End == nil || !slices.Equal(got, all)) {
				t.Fatalf("bit %d: no error, and %d of %d events, end %v", bit, len(got), len(all), r.End)
			}
			if err == nil && len(content) == len(plainFile) {
				t.Fatalf("bit %d: not noticed", bit)
			}
			if len(got) > len(all) || !slices.Equal(got, all[:len(got)]) {
				t.Fatalf("bit %d: other events, and then %v", bit, err)
			}
		}
	}
}

// binaryTo returns a writer of a recording whose records have this version's layout.
func binaryTo(t testing.TB, b *bytes.Buffer) *binaryWriter {
	t.Helper()
	h := header
	h.Record = rawevent.Layout()
	w, err := newBinaryWriter(bufio.NewWriter(b), h, maphash.MakeSeed())
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// eventsOf returns the events that a writer has written to b.
func eventsOf(t testing.TB, w *binaryWriter, b *bytes.Buffer) (all []events.Event) {
	t.Helper()
	if err := w.w.Flush(); err != nil {
		t.Fatal(err)
	}
	r, err := readAny(b, rawevent.Recorded)
	if err != nil {
		t.Fatal(err)
	}
	for ev, err := range r.Events() {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, *ev)
	}
	return all
}

// frames returns a file of a header with a layout and these frames.
func frames(t testing.TB, layout []events.Field, more ...[]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	h := header
	h.Record = layout
	w, err := newBinaryWriter(bufio.NewWriter(&b), h, maphash.MakeSeed())
	if err := cmp.Or(err, w.w.Flush()); err != nil {
		t.Fatal(err)
	}
	for _, frame := range more {
		b.Write(frame)
	}
	return b.Bytes()
}

func frameOf(t testing.TB, kind frameType, payload string) []byte {
	t.Helper()
	frame, err := sealFrame(append(beginFrame(nil, kind), payload...))
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

func TestBinaryDamage(t *testing.T) {
	event := frameOf(t, frameEvent, `{"kind":"close","mono_ns":1,"flags":"fin","before":"ESTABLISHED","after":"FIN_WAIT1"}`)
	end := frameOf(t, frameEnd, `{"took_ns":1}`)
	zeros := make([]byte, 1<<16)
	for _, tt := range []struct {
		name   string
		frames [][]byte
		events int
		end    bool
		damage string
	}{
		{"whole", [][]byte{event, end}, 1, true, ""},
		{"a type of a later version", [][]byte{event, frameOf(t, 99, "?"), event, end}, 2, true, ""},
		{"no end", [][]byte{event}, 1, false, ""},
		{"a frame of 4 GiB", [][]byte{event, {255, 255, 255, 255, 2, 0, 0, 0}}, 1, false, "frame 3: invalid length of 4294967295"},
		{"zeros, as after a power failure", [][]byte{event, zeros}, 1, false, "frame 3: wrong checksum"},
		{"more after the end", [][]byte{end, event}, 0, false, "frame 3: more after the end"},
		{"another recording after the end", [][]byte{event, end, frames(t, nil, event)}, 1, false,
			"frame 4: another recording begins here"},
		{"another recording, without an end before", [][]byte{event, frames(t, nil, event)}, 1, false,
			"frame 3: another recording begins here"},
		{"another recording, compressed", [][]byte{event, end, append(bytes.Clone(compressedMagic), zeros...)}, 1, false,
			"frame 4: another recording begins here"},
		{"a second header", [][]byte{frameOf(t, frameHeader, "{}")}, 0, false, "frame 2: a second header"},
		{"a record without a layout", [][]byte{frameOf(t, frameRecord, "x"), event}, 2, false, ""},
		{"an idle frame that is too short", [][]byte{frameOf(t, frameIdle, "x"), event}, 2, false, ""},
	} {
		got, r, err := readBinary(t, frames(t, nil, tt.frames...))
		if r == nil || len(got) != tt.events || (r.End != nil) != tt.end ||
			(err == nil) != (tt.damage == "") || err != nil && !strings.HasPrefix(err.Error(), tt.damage) {
			t.Errorf("%s: %d events, %v", tt.name, len(got), err)
		}
	}
}

// rawRecord returns a record of this version's layout with these fields set.
func rawRecord(t testing.TB, set map[string]uint64) []byte {
	t.Helper()
	var raw []byte
	for _, f := range rawevent.Layout() {
		raw = append(raw, make([]byte, f.Offset+f.Size-len(raw))...)
		if n, ok := set[f.Name]; ok {
			var word [8]byte
			binary.LittleEndian.PutUint64(word[:], n)
			copy(raw[f.Offset:][:f.Size], word[:])
			delete(set, f.Name)
		}
	}
	if len(set) > 0 {
		t.Fatalf("no such fields: %v", set)
	}
	return append(raw, make([]byte, 64)...) // what a kernel side may add
}

// Records keep what was looked up and named, and no address of the kernel.
func TestBinaryRecord(t *testing.T) {
	const address = 0xffff888012345678
	raw := rawRecord(t, map[string]uint64{
		"kind": uint64(events.KindReset), "time_ns": 7, "flags": uint64(events.TaskContext | events.SentRST), "sock": address,
		"listener": address, "caller": address, "syscall": 3, "kernel_reason": 2, "cgroup_id": 5, "socket_cgroup_id": 6,
		"retransmits": 9,
	})
	want := events.Event{
		Kind: events.KindReset, MonoNS: 7, Flags: events.TaskContext | events.SentRST, CgroupID: 5, SocketCgroupID: 6,
		Cgroup: "/a", SocketCgroup: "/b", Syscall: "close", KernelReason: "NO_SOCKET", Retransmits: 9,
		Owner: &events.Task{PID: 1, Comm: "\xff"}, Searched: true, OtherHolders: 2, Stack: []string{"tcp_done"},
		OtherEnd:  &events.OtherEnd{State: events.LastAck, Owner: &events.Task{Comm: "\xfe"}},
		CallStack: &events.CallStack{User: []string{"f"}},
	}
	written := want
	written.Sock, written.Listener, written.Record = address, address, raw
	var b bytes.Buffer
	h := header
	h.Record = rawevent.Layout()
	w, err := newBinaryWriter(bufio.NewWriter(&b), h, maphash.MakeSeed())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Write(&written), w.Write(&written), w.End(&End{}), w.w.Flush()); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(b.Bytes(), []byte("\x78\x56\x34\x12\x80\x88")) {
		t.Error("an address of the kernel is in the file")
	}
	r, err := readAny(&b, rawevent.Recorded)
	if err != nil {
		t.Fatal(err)
	}
	for ev, err := range r.Events() {
		if err != nil {
			t.Fatal(err)
		}
		want.Sock, want.Listener = alias(w.seed, address), alias(w.seed, address)
		if !reflect.DeepEqual(ev, &want) {
			t.Errorf("read\n%+v\nwrote\n%+v", ev, &want)
		}
	}
	if r.End == nil {
		t.Error("no end")
	}
}

// Names that a writer forgets are forgotten by the reader, too, whatever their number.
func TestBinaryNamesForgotten(t *testing.T) {
	var b bytes.Buffer
	w := binaryTo(t, &b)
	path := func(n int) string {
		if n > maxNames+5 {
			return "" // removed meanwhile
		}
		return fmt.Sprint("/", n%maxNames)
	}
	for n := range 2*maxNames + 10 {
		id := uint64(n%maxNames) + 1
		ev := events.Event{CgroupID: id, SocketCgroupID: id, Cgroup: path(n), Record: rawRecord(t, map[string]uint64{
			"kind": uint64(events.KindClose), "cgroup_id": id, "socket_cgroup_id": id,
		})}
		if err := w.Write(&ev); err != nil {
			t.Fatal(err)
		}
	}
	all := eventsOf(t, w, &b)
	for n := range all {
		if all[n].Cgroup != path(n) {
			t.Fatalf("event %d: cgroup %q, want %q", n, all[n].Cgroup, path(n))
		}
	}
	if len(all) != 2*maxNames+10 {
		t.Errorf("%d events", len(all))
	}
}

// An event that needs a name too many keeps the names that the file has already.
func TestBinaryNamesOfOneEvent(t *testing.T) {
	for _, known := range []int{maxNames - 1, maxNames} {
		var b bytes.Buffer
		w := binaryTo(t, &b)
		write := func(task, socket int) {
			ev := events.Event{
				CgroupID: uint64(task), Cgroup: fmt.Sprint("/", task),
				SocketCgroupID: uint64(socket), SocketCgroup: fmt.Sprint("/", socket),
			}
			ev.Record = rawRecord(t, map[string]uint64{
				"kind": uint64(events.KindClose), "cgroup_id": ev.CgroupID, "socket_cgroup_id": ev.SocketCgroupID,
			})
			if err := w.Write(&ev); err != nil {
				t.Fatal(err)
			}
		}
		for id := known; id > 0; id-- {
			write(id, id)
		}
		write(1, known+1)
		all := eventsOf(t, w, &b)
		last := all[len(all)-1]
		if want := fmt.Sprint("/", known+1); last.Cgroup != "/1" || last.SocketCgroup != want {
			t.Errorf("after %d names: read %q and %q, wrote /1 and %s", known, last.Cgroup, last.SocketCgroup, want)
		}
	}
}

// A cgroup may be that of the task in one event and that of the socket in the next. Its name is always the last one.
func TestBinaryNameOfBothCgroups(t *testing.T) {
	var b bytes.Buffer
	w := binaryTo(t, &b)
	want := [][2]string{{"/b", "/a"}, {"/a2", ""}, {"/b", "/a"}}
	for i, names := range want {
		task, socket := uint64(2), uint64(1)
		if i == 1 {
			task = socket
		}
		ev := events.Event{
			CgroupID: task, SocketCgroupID: socket, Cgroup: names[0], SocketCgroup: names[1],
			Record: rawRecord(t, map[string]uint64{
				"kind": uint64(events.KindClose), "cgroup_id": task, "socket_cgroup_id": socket,
			}),
		}
		if err := w.Write(&ev); err != nil {
			t.Fatal(err)
		}
	}
	var got [][2]string
	for _, ev := range eventsOf(t, w, &b) {
		got = append(got, [2]string{ev.Cgroup, ev.SocketCgroup})
	}
	if !slices.Equal(got, want) {
		t.Errorf("read %q, wrote %q", got, want)
	}
}

// A recording with another layout is read by the names of its fields.
func TestBinaryOtherLayout(t *testing.T) {
	own := rawRecord(t, map[string]uint64{
		"kind": uint64(events.KindClose), "time_ns": 7, "retransmits": 9, "srtt_us": 70000,
	})
	var layout []events.Field
	var raw []byte
	for _, f := range rawevent.Layout() {
		value := own[f.Offset:][:f.Size]
		switch f.Name {
		case "retransmitted": // not known by that version
			continue
		case "retransmits": // wider there
			value, f.Size = []byte{9, 0, 0, 0}, 4
		case "sk_err": // narrower there, and negative
			value, f.Size = []byte{0xfe, 0xff}, 2
		case "window_of_another_version", "rst_window": // too wide to fit
			value, f.Size = []byte{0, 0, 1, 0}, 4
		case "rst_ttl":
			value = []byte{64}
		}
		raw = append(raw, 0) // all are elsewhere
		f.Offset = len(raw)
		raw = append(raw, value...)
		layout = append(layout, f, events.Field{Name: "new_" + f.Name, Offset: 0, Size: 1})
	}
	r, err := readAny(bytes.NewReader(frames(t, layout, frameOf(t, frameRecord, string(raw)))), rawevent.Recorded)
	if err != nil {
		t.Fatal(err)
	}
	var ev events.Event
	if err := r.Read(&ev); err != nil {
		t.Fatal(err)
	}
	if ev.Kind != events.KindClose || ev.MonoNS != 7 || ev.Retransmits != 9 || ev.SockErr != -2 || ev.SRTTUS != 70000 ||
		ev.RST == nil || ev.RST.Window != 65535 {
		t.Errorf("read %+v", ev)
	}
	for i := range layout {
		if layout[i].Name == "local" {
			layout[i].Size = 12
		}
	}
	if _, err := readAny(bytes.NewReader(frames(t, layout)), rawevent.Recorded); err == nil ||
		!strings.Contains(err.Error(), "a field local of 12 bytes") {
		t.Errorf("a field of another size: %v", err)
	}
}

// A layout that hides where addresses of the kernel are is not written.
func TestBinaryLayoutNeedsSock(t *testing.T) {
	if _, err := newBinaryWriter(nil, events.Header{Record: rawevent.Layout()[:5]}, maphash.MakeSeed()); err == nil {
		t.Error("no error")
	}
}

func TestBinaryWriteAllocatesNothing(t *testing.T) {
	h := header
	h.Record = rawevent.Layout()
	w, err := newBinaryWriter(bufio.NewWriter(io.Discard), h, maphash.MakeSeed())
	if err != nil {
		t.Fatal(err)
	}
	ev := events.Event{Kind: events.KindClose, CgroupID: 1, Cgroup: "/a", Syscall: "close", Record: rawRecord(t, nil)}
	if n := testing.AllocsPerRun(100, func() {
		if err := w.Write(&ev); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations per event", n)
	}
}

// An existing file is replaced only if that is asked for.
func TestCreateExisting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.rec")
	for _, force := range []bool{false, true} {
		f, err := Create(path, header, Options{Force: force})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(&End{}); err != nil {
			t.Fatal(err)
		}
		if _, err := Create(path, header, Options{}); err == nil || !strings.HasSuffix(err.Error(), "a.rec exists") {
			t.Errorf("replaced: %v", err)
		}
	}
}

// A recording follows no symbolic link, not even to replace a file: in the directory of another user it may lead to any
// file. With rotation and force, the next number is taken.
func TestCreateLink(t *testing.T) {
	dir := t.TempDir()
	other, none := filepath.Join(dir, "other"), filepath.Join(dir, "none")
	if err := os.WriteFile(other, []byte("of another user"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{other, none, os.DevNull} {
		path := filepath.Join(t.TempDir(), "a.rec")
		for _, link := range []string{path, strings.Replace(path, ".rec", "-000000.rec", 1)} {
			if err := os.Symlink(to, link); err != nil {
				t.Fatal(err)
			}
		}
		for _, force := range []bool{false, true} {
			_, err := Create(path, header, Options{Force: force})
			if !hint.Is(err, hint.Usage) || !strings.Contains(err.Error(), path+" is a symbolic link") {
				t.Errorf("link to %s, force %t: %v", to, force, err)
			}
		}
		f, err := CreateFiles(path, header, Options{Force: true, Rotation: Rotation{Size: 1 << 20}})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(&End{}); err != nil || !strings.HasSuffix(f.Path(), "a-000001.rec") {
			t.Errorf("with rotation: %s, %v", f.Path(), err)
		}
	}
	if text, err := os.ReadFile(other); string(text) != "of another user" {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := os.Lstat(none); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file was made: %v", err)
	}
}

// Any bytes are an error or events, in bounded memory, and the same when they are read again.
func FuzzFrames(f *testing.F) {
	content, _ := recordedV2(f)
	f.Add(content)
	f.Add(content[:len(content)/2])
	f.Add(frames(f, nil, frameOf(f, frameEvent, `{"kind":"close"}`), frameOf(f, frameName, `{"name":"x"}`)))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, _, err := readBinary(t, b)
		again, _, errAgain := readBinary(t, b)
		if fmt.Sprint(err) != fmt.Sprint(errAgain) || !slices.Equal(withoutPointers(got), withoutPointers(again)) {
			t.Errorf("read %q, %v, and then %q, %v", got, err, again, errAgain)
		}
	})
}
