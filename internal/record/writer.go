package record

import (
	"encoding/json"
	"fmt"
	"hash/maphash"
	"io"
	"unicode/utf8"

	"github.com/closetrace/closetrace/internal/events"
)

// Writer writes a record. Not for concurrent use.
type Writer struct {
	enc  *json.Encoder
	seed maphash.Seed
}

// line is an event as it is written. A comm may be any bytes, JSON is text: what
// is not UTF-8 is written a second time, as bytes.
type line struct {
	*events.Event
	CommBytes      []byte `json:"comm_bytes,omitempty"`
	OwnerCommBytes []byte `json:"owner_comm_bytes,omitempty"`
}

// NewWriter begins a record with its header.
func NewWriter(w io.Writer, h events.Header) (*Writer, error) {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(h); err != nil {
		return nil, fmt.Errorf("writing the header: %w", err)
	}
	return &Writer{enc, maphash.MakeSeed()}, nil
}

// Write appends an event.
func (w *Writer) Write(ev *events.Event) error {
	written := *ev
	written.Sock, written.Listener = w.alias(ev.Sock), w.alias(ev.Listener)
	l := line{Event: &written, CommBytes: notText(ev.Task.Comm)}
	if ev.Owner != nil {
		l.OwnerCommBytes = notText(ev.Owner.Comm)
	}
	if err := w.enc.Encode(&l); err != nil {
		return fmt.Errorf("writing an event: %w", err)
	}
	return nil
}

// alias stands for the address of a socket, which tells one from another. The
// addresses themselves would tell whoever gets the file where this kernel has
// its memory.
func (w *Writer) alias(address uint64) uint64 {
	if address == 0 {
		return 0
	}
	return maphash.Comparable(w.seed, address) | 1 // never 0
}

func notText(s string) []byte {
	if utf8.ValidString(s) {
		return nil
	}
	return []byte(s)
}

// Idle appends that all was read and what was held back until monoNS was told.
func (w *Writer) Idle(monoNS uint64) error {
	return w.last(struct {
		Kind   string `json:"kind"`
		MonoNS uint64 `json:"mono_ns"`
	}{kindIdle, monoNS})
}

// End appends the end. Nothing may follow.
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
