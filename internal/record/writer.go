package record

import (
	"encoding/json"
	"fmt"
	"hash/maphash"
	"io"
	"unicode/utf8"

	"github.com/closetrace/closetrace/internal/events"
)

// encoder writes the parts of a recording in a format.
type encoder interface {
	Write(*events.Event) error
	Owner(*events.Event) error
	Idle(monoNS uint64) error
	End(*End) error
}

// Writer writes a recording of format 1: a line of JSON per event. Not for concurrent use.
type Writer struct {
	enc  *json.Encoder
	seed maphash.Seed
}

// line is the written form of an event. A comm may be arbitrary bytes, but JSON
// is text: names that are not UTF-8 are written a second time, as bytes.
type line struct {
	*events.Event
	CommBytes      []byte `json:"comm_bytes,omitempty"`
	OwnerCommBytes []byte `json:"owner_comm_bytes,omitempty"`
	ProcessBytes   []byte `json:"process_bytes,omitempty"`
	OtherEndBytes  []byte `json:"other_end_comm_bytes,omitempty"`
}

// NewWriter returns a writer of a record, and writes its header.
func NewWriter(w io.Writer, h events.Header) (*Writer, error) {
	return newWriter(w, h, maphash.MakeSeed())
}

func newWriter(w io.Writer, h events.Header, seed maphash.Seed) (*Writer, error) {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	h.Record = nil // lines have none
	if err := enc.Encode(h); err != nil {
		return nil, fmt.Errorf("writing the header: %w", err)
	}
	return &Writer{enc, seed}, nil
}

// Write appends an event.
func (w *Writer) Write(ev *events.Event) error {
	if err := w.enc.Encode(lineOf(ev, w.seed)); err != nil {
		return fmt.Errorf("writing an event: %w", err)
	}
	return nil
}

// Owner appends the owner of an event that was written before.
func (w *Writer) Owner(ev *events.Event) error { return w.last(ownerOf(ev, w.seed)) }

// lineOf returns the written form of an event.
func lineOf(ev *events.Event, seed maphash.Seed) *line {
	written := *ev
	written.Sock, written.Listener = alias(seed, ev.Sock), alias(seed, ev.Listener)
	l := &line{Event: &written, CommBytes: notText(ev.Task.Comm), ProcessBytes: notText(ev.Task.Process)}
	if ev.Owner != nil {
		l.OwnerCommBytes = notText(ev.Owner.Comm)
	}
	if ev.OtherEnd != nil && ev.OtherEnd.Owner != nil {
		l.OtherEndBytes = notText(ev.OtherEnd.Owner.Comm)
	}
	return l
}

// alias returns a number that stands for the address of a socket. The addresses
// would reveal the layout of the kernel's memory to every reader of the file.
func alias(seed maphash.Seed, address uint64) uint64 {
	if address == 0 {
		return 0
	}
	return maphash.Comparable(seed, address) | 1 // never 0
}

func notText(s string) []byte {
	if utf8.ValidString(s) {
		return nil
	}
	return []byte(s)
}

// Idle appends that everything was read and all pending endings until monoNS were reported.
func (w *Writer) Idle(monoNS uint64) error {
	return w.last(struct {
		Kind   string `json:"kind"`
		MonoNS uint64 `json:"mono_ns"`
	}{kindIdle, monoNS})
}

// End appends the last line.
func (w *Writer) End(e *End) error {
	return w.last(struct {
		Kind string `json:"kind"`
		*End
	}{kindEnd, e})
}

func (w *Writer) last(v any) error {
	if err := w.enc.Encode(v); err != nil {
		return fmt.Errorf("writing the record: %w", err)
	}
	return nil
}
