package record

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/hint"
)

var header = events.Header{
	Schema:       events.SchemaVersion,
	Kernel:       "6.1.0",
	Attach:       "fentry",
	HZ:           250,
	WallOffsetNS: 5,
	AuditNetns:   7,
}

func samples() []events.Event {
	return []events.Event{
		{Kind: events.KindClose, MonoNS: 1, Flags: events.SentRST | events.TaskContext, Before: events.Established,
			After: events.Close, Local: netip.MustParseAddrPort("10.0.0.5:443"), Remote: netip.MustParseAddrPort("[::ffff:1.2.3.4]:80"),
			Task: events.Task{PID: 1, Comm: "a\x1b[31m\xffb", Process: "p\xfe"}, UnreadBytes: 148},
		{Kind: events.KindDone, MonoNS: 2, Before: events.BoundInactive + 1, Owner: &events.Task{PID: 2, Comm: "\xfe"}},
		{Kind: events.KindWaitOver, MonoNS: 3, Signal: 15},
		{Kind: events.KindDone, OtherEnd: &events.OtherEnd{State: events.LastAck, Owner: &events.Task{Comm: "\xfe"}}},
	}
}

func sampleEnd() *End {
	return &End{TookNS: 9, LostRecords: 1, MissedProbes: 2, Suppressed: 3, Undecodable: 4, Audit: Audit{
		Impossible: "no", Moved: map[string]uint64{"TcpOutRsts": 5}, Edges: map[string]uint64{"TcpOutRsts": 1},
	}}
}

// lines is the record as text: an event is its sample, the rest speaks for
// itself.
func lines(t *testing.T, r *Reader) (got []string, err error) {
	t.Helper()
	for {
		var ev events.Event
		switch err := r.Read(&ev); {
		case err == nil:
			got = append(got, fmt.Sprintf("%+v", shown(ev)))
		case errors.Is(err, events.ErrIdle):
			got = append(got, fmt.Sprint("idle ", r.IdleNS))
		case errors.Is(err, io.EOF):
			return got, nil
		case errors.As(err, new(*Damage)):
			return got, err
		default:
			got = append(got, "unknown")
		}
	}
}

// shown is an event with its pointers resolved.
func shown(ev events.Event) any {
	var owner, otherOwner events.Task
	var other events.OtherEnd
	if ev.Owner != nil {
		owner = *ev.Owner
	}
	if ev.OtherEnd != nil {
		other, otherOwner = *ev.OtherEnd, *ev.OtherEnd.Owner
	}
	ev.Owner, ev.OtherEnd, other.Owner = nil, nil, nil
	return struct {
		events.Event
		owner, otherOwner events.Task
		other             events.OtherEnd
	}{ev, owner, otherOwner, other}
}

// What is written is read again, in a file of either kind; any bytes that a
// process calls itself are kept.
func TestRoundTrip(t *testing.T) {
	for _, name := range []string{"a.jsonl", "a.jsonl.zst"} {
		path := filepath.Join(t.TempDir(), name)
		f, err := Create(path, header, Options{})
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, ev := range samples() {
			if err := errors.Join(f.Write(&ev), f.Idle(ev.MonoNS+10), f.Flush()); err != nil {
				t.Fatal(err)
			}
			want = append(want, fmt.Sprintf("%+v", shown(ev)), fmt.Sprint("idle ", ev.MonoNS+10))
		}
		if err := f.Close(sampleEnd()); err != nil {
			t.Fatal(err)
		}
		file, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		r, err := Read(file, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := lines(t, r)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: read\n%s\nwrote\n%s\n%v", name, strings.Join(got, "\n"), strings.Join(want, "\n"), err)
		}
		if !reflect.DeepEqual(r.Header, header) || !reflect.DeepEqual(r.End, sampleEnd()) {
			t.Errorf("%s: header %+v, end %+v", name, r.Header, r.End)
		}
	}
}

// Sockets are told apart, and their addresses not told.
func TestAddressesOfTheKernelStayThere(t *testing.T) {
	var b bytes.Buffer
	w, err := NewWriter(&b, header)
	if err != nil {
		t.Fatal(err)
	}
	for _, sock := range []uint64{18446612688458149632, 18446612688458128320, 18446612688458149632, 0} {
		if err := w.Write(&events.Event{Kind: events.KindClose, Sock: sock, Listener: sock}); err != nil {
			t.Fatal(err)
		}
	}
	if strings.Contains(b.String(), "184466126884581") {
		t.Errorf("an address of the kernel is in\n%s", &b)
	}
	r, err := NewReader(&b)
	if err != nil {
		t.Fatal(err)
	}
	var read []events.Event
	for ev, err := range r.Events() {
		if err != nil {
			t.Fatal(err)
		}
		read = append(read, *ev)
	}
	if read[0].Sock == read[1].Sock || read[0].Sock != read[2].Sock || read[3].Sock != 0 ||
		read[0].Listener != read[0].Sock {
		t.Errorf("sockets %x, %x, %x, %x", read[0].Sock, read[1].Sock, read[2].Sock, read[3].Sock)
	}
}

func TestDamage(t *testing.T) {
	const good = `{"schema_version":1,"kernel":"x","attach":"fentry","hooks":null,"hz":250,"wall_offset_ns":0}` + "\n"
	const event = `{"kind":"close","mono_ns":1,"flags":"fin","before":"ESTABLISHED","after":"FIN_WAIT1"}` + "\n"
	const end = `{"kind":"end","took_ns":1}` + "\n"
	tests := []struct {
		name, text      string
		events, unknown int
		end             bool
		damage          string
	}{
		{"whole", event + event + end, 2, 0, true, ""},
		{"without end", event + event, 2, 0, false, ""},
		{"without its last newline", event + strings.TrimSpace(event), 2, 0, false, ""},
		{"cut in the middle of an event", event + event[:30], 1, 0, false, "line 3"},
		{"cut in the middle of the end", event + end[:10], 1, 0, false, "line 3"},
		{"more after the end", event + end + event, 1, 0, false, "line 4"},
		{"another recording", event + end + good + event, 1, 0, false, "line 4: another recording begins here"},
		{"another recording, no end", event + good + event, 1, 0, false, "line 3: another recording begins here"},
		{"an end that is no end", event + `{"kind":"end","took_ns":"x"}` + "\n" + event, 2, 1, false, ""},
		{"damage in the middle", event + "\x00\x00" + event + event, 1, 0, false, "line 3"},
		{"an unknown kind", strings.Replace(event, `"close"`, `"zzz"`, 1) + event + end, 1, 1, true, ""},
		{"no kind", event + "{}\n" + event, 2, 1, false, ""},
		{"no object", event + "[]\n" + event, 2, 1, false, ""},
		{"an unknown flag", strings.Replace(event, `"fin"`, `"fun"`, 1) + event, 1, 1, false, ""},
		{"an unknown state", strings.Replace(event, "ESTABLISHED", "EST", 1) + event, 1, 1, false, ""},
		{"an unknown field", strings.Replace(event, `{`, `{"x":[],`, 1) + event, 2, 0, false, ""},
		{"a line without end", strings.Repeat("x", 1<<20+1), 0, 0, false, "line 2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := NewReader(strings.NewReader(good + tt.text))
			if err != nil {
				t.Fatal(err)
			}
			got, err := lines(t, r)
			unknown := 0
			for _, l := range got {
				if l == "unknown" {
					unknown++
				}
			}
			if len(got)-unknown != tt.events || unknown != tt.unknown || (r.End != nil) != tt.end {
				t.Errorf("%d events, %d unknown, end %v", len(got)-unknown, unknown, r.End)
			}
			if (err == nil) != (tt.damage == "") || err != nil && !strings.Contains(err.Error(), tt.damage) {
				t.Errorf("error %v, want %q", err, tt.damage)
			}
			var ev events.Event
			if again := r.Read(&ev); tt.damage != "" && !errors.Is(again, err) {
				t.Errorf("after %v comes %v", err, again)
			}
		})
	}
	for _, head := range []string{"", "{}\n", "x\n", `{"schema_version":99,"attach":"kprobe"}` + "\n", event, `{"schema_version":1}` + "\n", "(\xb5/\xfd", "(\xb5/\xfd\x00"} {
		path := filepath.Join(t.TempDir(), "x")
		if err := os.WriteFile(path, []byte(head), 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if _, err := Read(file, nil); err == nil {
			t.Errorf("header %q was accepted", head)
		}
	}
}

// Open and Create do not wait for the other end of a FIFO, and a new recording is for its owner only.
func TestOpenAndCreate(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, dir, "/dev/null"} {
		if _, err := Open(path); !hint.Is(err, hint.Usage) || !strings.HasSuffix(err.Error(), "not a regular file") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := Create(fifo, header, Options{}); !errors.Is(err, unix.ENXIO) {
		t.Errorf("a FIFO without a reader: %v", err)
	}
	path := filepath.Join(dir, "new")
	defer unix.Umask(unix.Umask(0))
	f, err := Create(path, header, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(&End{}); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
}

// A file that is cut anywhere gives some of its lines, and says that it is cut.
func TestCutAnywhere(t *testing.T) {
	for _, name := range []string{"v1.jsonl", "v1.jsonl.zst"} {
		whole, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		all := countLines(t, whole)
		for size := 0; size < len(whole); size += 13 {
			text, err := plain(bytes.NewReader(whole[:size]))
			if err != nil {
				continue
			}
			r, err := NewReader(text)
			if err != nil {
				continue // cut in its header
			}
			got, err := lines(t, r)
			if len(got) > all || err == nil && r.End != nil && size < len(whole)-1-checksum(name) {
				t.Fatalf("%s, %d bytes: %d lines, end %v, error %v", name, size, len(got), r.End, err)
			}
		}
	}
}

// checksum is how many bytes at the end of a file hold none of its lines.
func checksum(name string) int {
	if strings.HasSuffix(name, compressed) {
		return 3 + 4 // an empty block and the sum
	}
	return 0
}

func countLines(t *testing.T, whole []byte) int {
	t.Helper()
	text, err := plain(bytes.NewReader(whole))
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(text)
	if err != nil {
		t.Fatal(err)
	}
	got, err := lines(t, r)
	if err != nil || r.End == nil {
		t.Fatalf("error %v, end %v", err, r.End)
	}
	return len(got)
}

// Files of every version are read as what they were written to say: the promise
// of docs/record.md. A file, once here, is never changed.
func TestEveryVersion(t *testing.T) {
	for version := 1; version <= events.SchemaVersion; version++ {
		for _, name := range []string{"v%d.jsonl", "v%d.jsonl.zst"} {
			t.Run(fmt.Sprintf(name, version), func(t *testing.T) {
				file, err := Open(filepath.Join("testdata", fmt.Sprintf(name, version)))
				if err != nil {
					t.Fatal(err)
				}
				defer file.Close()
				r, err := Read(file, nil)
				if err != nil {
					t.Fatal(err)
				}
				got, err := lines(t, r)
				if err != nil || r.Header.Schema != version {
					t.Fatalf("version %d, error %v", r.Header.Schema, err)
				}
				checkVersion(t, r, got)
			})
		}
	}
}

// checkVersion: the same run was recorded by each version.
func checkVersion(t *testing.T, r *Reader, got []string) {
	t.Helper()
	if len(got) < 22 || r.Header.Attach != "tracepoint" || len(r.Header.Hooks) != 4 || r.Header.HZ != 250 ||
		r.Header.AuditNetns == 0 {
		t.Errorf("%d lines under %+v", len(got), r.Header)
	}
	text := strings.Join(got, "\n")
	for _, want := range []string{
		"idle ", "Kind:close ", "Kind:peer-fin ", "Kind:done ", "Kind:reply ", "Kind:shutdown ", "Flags:fin task-context ",
		`Comm:serv` + "\xff" + `r`, "Local:127.0.0.1:8080 Remote:127.0.0.1:40002", "Before:CLOSE_WAIT After:LAST_ACK",
		"KernelReason:NO_SOCKET", "UnreadBytes:148", "owner:{PID:", "Syscall:connect",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if e := r.End; e == nil || e.TookNS == 0 || e.LostRecords != 0 || e.Audit.Moved["TcpOutRsts"] != 3 {
		t.Errorf("end %+v", e)
	}
}

// An interrupted conversion of a recording that does not end stops.
func TestConvertStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	begin := strings.NewReader(`{"schema_version":1,"attach":"fentry"}` + "\n")
	in, err := NewReader(io.MultiReader(begin, &endless{text: []byte(`{"kind":"idle","mono_ns":1}` + "\n"), left: 1 << 40}))
	if err != nil {
		t.Fatal(err)
	}
	out := writerFunc(func(p []byte) (int, error) {
		cancel()
		return len(p), nil
	})
	if err := Convert(ctx, in, out); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (w writerFunc) Write(p []byte) (int, error) { return w(p) }
