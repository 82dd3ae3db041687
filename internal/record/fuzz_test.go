package record

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
)

// Any bytes are an error or events; what was read can be written and is read
// again as the same.
func FuzzReader(f *testing.F) {
	const head = `{"schema_version":1,"kernel":"x","attach":"fentry","hooks":null,"hz":250,"wall_offset_ns":0}` + "\n"
	const event = `{"kind":"close","mono_ns":1,"flags":"fin","local":"10.0.0.5:443","remote":"[::1]:80","task":{"pid":1,"comm":"\u001b[31m\udc00"},` +
		`"before":"ESTABLISHED","after":"FIN_WAIT1","stack":["tcp_done",""],"owner":{"pid":2}}` + "\n"
	f.Add([]byte(head + event + event))
	f.Add([]byte(head + event + event[:30]))
	f.Add([]byte(`{"schema_version":99}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		header, read, ok := readAll(t, b)
		if !ok {
			return
		}
		var copied bytes.Buffer
		w, err := NewWriter(&copied, header)
		if err != nil {
			t.Fatal(err)
		}
		for i := range read {
			if err := w.Write(&read[i]); err != nil {
				t.Fatal(err)
			}
		}
		if copied.Len() > 1<<20 {
			return // escapes may make a line longer than what is read
		}
		_, again, _ := readAll(t, copied.Bytes())
		if len(again) != len(read) {
			t.Fatalf("%d events became %d", len(read), len(again))
		}
		for i := range read {
			read[i].Sock, read[i].Listener = alias(w.seed, read[i].Sock), alias(w.seed, read[i].Listener)
			if !reflect.DeepEqual(again[i], read[i]) {
				t.Errorf("read %+v\nthen %+v", read[i], again[i])
			}
		}
	})
}

// readAll reads to the end or to the first error, which says where it is.
func readAll(t *testing.T, b []byte) (header events.Header, read []events.Event, ok bool) {
	r, err := NewReader(bytes.NewReader(b))
	if err != nil {
		return header, nil, false
	}
	for ev, err := range r.Events() {
		if err != nil {
			if !strings.Contains(err.Error(), "line ") {
				t.Errorf("an error that does not say where: %v", err)
			}
			break
		}
		read = append(read, *ev)
	}
	return r.Header, read, true
}

// What looks compressed may be anything, too, and say anything of its size. It
// is read twice as the same.
func FuzzCompressed(f *testing.F) {
	file, err := os.ReadFile("testdata/v1.jsonl.zst")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(file)
	f.Add(file[:len(file)/2])
	f.Add([]byte("(\xb5/\xfd\x04\xa8"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if first, again := ending(b), ending(b); first != again {
			t.Errorf("ends with %s, and then with %s", first, again)
		}
	})
}

// ending is how a file ends, within what a few bytes may blow up to.
func ending(b []byte) string {
	text, err := plain(bytes.NewReader(b))
	if err != nil {
		return err.Error()
	}
	r, err := NewReader(text)
	if err != nil {
		return err.Error()
	}
	var ev events.Event
	for range 1000 {
		err = r.Read(&ev)
		if errors.Is(err, io.EOF) || errors.As(err, new(*Damage)) {
			break
		}
	}
	return fmt.Sprint(r.line, err)
}
