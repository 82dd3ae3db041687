package record

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/closetrace/closetrace/internal/events"
)

// endless is a reader that repeats a text for some bytes.
type endless struct {
	text     []byte
	at, left int
}

func (e *endless) Read(p []byte) (n int, err error) {
	for n < len(p) && e.left > 0 {
		i := copy(p[n:], e.text[e.at:min(len(e.text), e.at+e.left)])
		n, e.left, e.at = n+i, e.left-i, (e.at+i)%len(e.text)
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// compress returns what begins with some bytes and goes on with size bytes of repeated text.
func compress(t *testing.T, begin, repeated []byte, size int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(begin); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(w, &endless{text: repeated, left: size}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A small file that decompresses to very much is an error or read, in bounded memory.
func TestBombs(t *testing.T) {
	const much, limit = 256 << 20, 64 << 20
	head := frames(t, nil)
	long := frameOf(t, frameName, `{"cgroup":1,"name":"`+strings.Repeat("a", 900<<10)+`"}`)
	names := bytes.Clone(head)
	for n := range 300 {
		text := strings.Repeat("b", 100<<10)
		names = append(names, frameOf(t, frameName, fmt.Sprintf(`{"cgroup":%d,"name":"%s"}`, n, text))...)
	}
	for _, tt := range []struct {
		name            string
		begin, repeated []byte
		size            int
		want            string // the error
	}{
		{"zeros", nil, make([]byte, 4096), much, "line 1: longer than"},
		{"zeros after a header", head, make([]byte, 4096), much, "frame 2: wrong checksum"},
		{"a line without an end", []byte(`{"attach":"`), []byte("aaaaaaaa"), much, "line 1: longer than"},
		{"frames of 4 GiB", head, bytes.Repeat([]byte{255}, 4096), much, "frame 2: invalid length of 4294967295"},
		{"frames of a later version", head, frameOf(t, 99, strings.Repeat("x", 1000)), 1012 << 10, ""},
		{"a long name", head, long, much, "frame 2: a name of 921600 bytes"},
		{"many long names", names, nil, 0, "frame 2: a name of 102400 bytes"},
	} {
		content := compress(t, tt.begin, tt.repeated, tt.size)
		if len(content) > 4<<20 {
			t.Fatalf("%s: no bomb, %d bytes", tt.name, len(content))
		}
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, r, err := readBinary(t, content)
		runtime.ReadMemStats(&after)
		if (err == nil) != (tt.want == "") || err != nil && !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > limit {
			t.Errorf("%s: %d bytes allocated", tt.name, n)
		}
		runtime.KeepAlive(r)
	}
}

// However many owners a recording has, a reader remembers only some. One with a very long name is not understood.
func TestOwnersAreBounded(t *testing.T) {
	var b bytes.Buffer
	b.WriteString(`{"schema_version":1,"attach":"fentry"}` + "\n")
	for n := range 3*maxOwners + 10 {
		fmt.Fprintf(&b, `{"kind":"owner","of":"reset","mono_ns":%d,"sock":7,"owner":{"pid":1,"comm":"a"}}`+"\n", n)
	}
	fmt.Fprintf(&b, `{"kind":"owner","of":"reset","sock":7,"owner":{"comm":"%s"}}`+"\n", strings.Repeat("a", maxComm+1))
	b.WriteString(`{"kind":"owner","of":"reset","sock":7}` + "\n")
	got, r, err := readBinary(t, b.Bytes())
	if err != nil || !slices.Equal(got, []string{"unknown", "unknown"}) {
		t.Errorf("read %v, %v", got, err)
	}
	if n := len(r.owners.newer) + len(r.owners.older); n > 2*maxOwners {
		t.Errorf("%d owners", n)
	}
	ev := events.Event{Kind: events.KindReset, MonoNS: 3*maxOwners + 9, Sock: 7}
	if r.SetOwner(&ev); ev.Owner == nil || ev.Owner.PID != 1 {
		t.Errorf("the last owner is %v", ev.Owner)
	}
}

// Recordings of any formats that cat(1) joined are read up to the end of the first one, and named as that.
func TestJoined(t *testing.T) {
	names := []string{"v1.jsonl", "v1.jsonl.zst", "v2.rec", "v2.rec.zst"}
	for _, first := range names {
		alone, err := os.ReadFile("testdata/" + first)
		if err != nil {
			t.Fatal(err)
		}
		want, _, err := readBinary(t, alone)
		if err != nil {
			t.Fatal(err)
		}
		for _, second := range names {
			more, err := os.ReadFile("testdata/" + second)
			if err != nil {
				t.Fatal(err)
			}
			got, _, err := readBinary(t, slices.Concat(alone, more))
			var damage *Damage
			if !errors.As(err, &damage) || !strings.Contains(err.Error(), "(files joined together") ||
				!strings.HasPrefix(damage.Hint("shown"), "name the files") || len(got) != len(want) {
				t.Errorf("%s and %s: %v after %d of %d events", first, second, err, len(got), len(want))
			}
		}
	}
}

// A compressed file that is cut after any byte says that it is cut off, and gives what could be decompressed.
func TestCompressedCutAtEveryByte(t *testing.T) {
	t.Parallel()
	_, all := recordedV2(t)
	all = withoutPointers(all)
	content, err := os.ReadFile("testdata/v2.rec.zst")
	if err != nil {
		t.Fatal(err)
	}
	for size := range content {
		got, r, err := readBinary(t, content[:size])
		got = withoutPointers(got)
		if len(got) > len(all) || r != nil && r.End != nil && err == nil && len(got) != len(all) {
			t.Fatalf("%d bytes: %d events, %v", size, len(got), err)
		}
		for i := range got {
			if got[i] != all[i] {
				t.Fatalf("%d bytes: event %d is %s", size, i, got[i])
			}
		}
		if err != nil && size >= 4 && !strings.Contains(err.Error(), errCut.Error()) { // before, it is not compressed
			t.Fatalf("%d bytes: %v", size, err)
		}
	}
}
