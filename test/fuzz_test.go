package test

import (
	"bytes"
	"encoding/json"
	"io"
	"sync"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/closetrace/closetrace/internal/classify"
	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/explain"
	"github.com/closetrace/closetrace/internal/lab"
	"github.com/closetrace/closetrace/internal/logline"
	"github.com/closetrace/closetrace/internal/record"
	"github.com/closetrace/closetrace/internal/sink"
	"github.com/closetrace/closetrace/internal/why"
)

// Whatever a record holds, it can be classified and shown, and nothing of it
// is a command to the terminal.
func FuzzReplay(f *testing.F) {
	for _, name := range []string{
		"close.rst.unread", "close.linger-wait.timeout", "abort.retrans-timeout", "reply.embryonic",
	} {
		sc, err := lab.Find(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, mode := range lab.Modes {
			if events, ok := sc.Section("events." + mode + ".jsonl"); ok {
				f.Add(events)
			}
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := record.NewReader(bytes.NewReader(text))
		if err != nil {
			return
		}
		o := newOutputs(t)
		c := classify.New(r.Header)
		for ev, err := range r.Events() {
			if err != nil {
				break
			}
			c.Push(ev, o.take)
		}
		c.Flush(o.take)
		o.check()
	})
}

// outputs are all forms in which endings are shown.
type outputs struct {
	*testing.T
	table, wide, jsonl, summary bytes.Buffer
	sinks                       []interface {
		Write(*events.Ending) error
		Close() error
	}
	total sink.Summary
	why   *why.Collector // of the connections that the first one's address has
}

func newOutputs(t *testing.T) *outputs {
	o := &outputs{T: t}
	o.total.Audit = &sink.Audit{}
	o.sinks = append(o.sinks,
		sink.NewTable(&o.table, sink.TableOptions{Width: 80}),
		sink.NewTable(&o.wide, sink.TableOptions{Wide: true}),
		sink.NewJSONL(&o.jsonl))
	return o
}

func (o *outputs) take(e *events.Ending) {
	if o.why == nil {
		o.why = why.New(why.Query{Line: logline.Line{Endpoints: []logline.Endpoint{{Addr: e.Local.Addr()}}}})
		o.sinks = append(o.sinks, o.why)
	}
	o.total.Add(e)
	o.total.Audit.Add(e)
	for _, s := range o.sinks {
		if err := s.Write(e); err != nil {
			o.Fatal(err)
		}
	}
}

func (o *outputs) check() {
	o.Helper()
	for _, s := range o.sinks {
		if err := s.Close(); err != nil {
			o.Fatal(err)
		}
	}
	if err := o.total.Print(&o.summary); err != nil {
		o.Fatal(err)
	}
	if o.why != nil {
		library, err := library()
		if err != nil {
			o.Fatal(err)
		}
		tame(o.T, []byte(o.why.Print(library, why.Layout{Width: 80})))
	}
	for _, out := range [][]byte{o.table.Bytes(), o.wide.Bytes(), o.jsonl.Bytes(), o.summary.Bytes()} {
		tame(o.T, out)
	}
	for dec := json.NewDecoder(&o.jsonl); ; {
		var fields map[string]any
		err := dec.Decode(&fields)
		if err == io.EOF {
			return
		}
		if err != nil {
			o.Fatal(err)
		}
	}
}

// library is what the advice of closetrace why comes from.
var library = sync.OnceValues(explain.Open)

// tame: what a terminal shows and does not obey.
func tame(t *testing.T, out []byte) {
	t.Helper()
	if !utf8.Valid(out) {
		t.Errorf("not UTF-8: %q", out)
	}
	for _, r := range string(out) {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Fatalf("%U reaches the terminal in %q", r, out)
		}
	}
}
