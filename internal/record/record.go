// Package record reads and writes a stream of events as text: one JSON object
// a line, the [events.Header] first. What is recorded are facts, not verdicts,
// so that a later closetrace may conclude better from the same file.
package record

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/closetrace/closetrace/internal/events"
)

// Writer writes a record. Not for concurrent use.
type Writer struct {
	enc *json.Encoder
}

// NewWriter begins a record with its header.
func NewWriter(w io.Writer, h events.Header) (*Writer, error) {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(h); err != nil {
		return nil, fmt.Errorf("writing the header: %w", err)
	}
	return &Writer{enc}, nil
}

// Write appends an event.
func (w *Writer) Write(ev *events.Event) error {
	if err := w.enc.Encode(ev); err != nil {
		return fmt.Errorf("writing an event: %w", err)
	}
	return nil
}

// maxLine bounds what one line may take of memory; an event has about 1 KB.
const maxLine = 1 << 20

// Reader reads a record.
type Reader struct {
	Header events.Header
	lines  *bufio.Scanner
	line   int
}

// NewReader reads the header. A newer schema than this version knows is an
// error, because a field may have changed its meaning.
func NewReader(r io.Reader) (*Reader, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	rd := &Reader{lines: lines}
	if err := rd.next(&rd.Header); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("reading the header: %w", err)
	}
	if rd.Header.Schema < 1 || rd.Header.Schema > events.SchemaVersion {
		return nil, fmt.Errorf("record has schema version %d, this closetrace reads 1 to %d", rd.Header.Schema, events.SchemaVersion)
	}
	return rd, nil
}

// Events yields the events in order. After an error there is nothing more.
func (r *Reader) Events() iter.Seq2[*events.Event, error] {
	return func(yield func(*events.Event, error) bool) {
		for {
			ev := new(events.Event)
			err := r.next(ev)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(ev, nil) {
				return
			}
		}
	}
}

func (r *Reader) next(v any) error {
	if !r.lines.Scan() {
		if err := r.lines.Err(); err != nil {
			return fmt.Errorf("line %d: %w", r.line+1, err)
		}
		return io.EOF
	}
	r.line++
	if err := json.Unmarshal(r.lines.Bytes(), v); err != nil {
		return fmt.Errorf("line %d: %w", r.line, err)
	}
	return nil
}
