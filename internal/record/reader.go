package record

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"

	"github.com/closetrace/closetrace/internal/events"
)

// maxLine is the maximum length of a line in bytes. An event has about 1 KB.
const maxLine = 1 << 20

// Reader reads a record.
type Reader struct {
	Header events.Header
	IdleNS uint64 // of the last [events.ErrIdle], on CLOCK_MONOTONIC
	End    *End   // after [io.EOF]; nil if the record has none
	Name   string // of the file that is being read

	lines      *bufio.Scanner // format 1
	line       int
	frames     *frameReader // format 2; nil in format 1
	decode     Decode
	recordSize int // of what decode needs
	names      map[nameKey]string
	owners     owners
	onOwner    func(*events.Event) // nil: nothing else is done with owners
	damage     error               // ends the record

	// For a recording in several files.
	rest      []*os.File // the next ones
	newDecode NewDecode
	sum       FileEnd // of the files that were read
}

// NewReader reads the header. It returns an error if the schema is newer than
// this version, because a field may have changed its meaning.
func NewReader(r io.Reader) (*Reader, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	rd := &Reader{lines: lines}
	text, err := rd.next()
	if err == nil && (json.Unmarshal(text, &rd.Header) != nil || rd.Header.Attach == "") {
		err = errors.New("its first line is not a header")
	}
	switch h := rd.Header; {
	case errors.Is(err, io.EOF):
		return nil, noHeader("the file is empty")
	case err != nil:
		return nil, err
	case h.Schema < 1 || h.Schema > events.SchemaVersion:
		return nil, otherVersion(h.Schema, events.SchemaVersion)
	}
	return rd, nil
}

// Read reads the next event and overwrites all of ev. It returns [io.EOF] at the
// end, [events.ErrIdle] where the recording run was idle, and a [*Damage] after which
// nothing can be read. Any other error concerns one line only: the next call
// reads the next line.
func (r *Reader) Read(ev *events.Event) error {
	for {
		err := r.read(ev)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errOwner):
			continue
		case !errors.Is(err, io.EOF):
			return err
		}
		if err := r.more(); err != nil {
			return err
		}
	}
}

// read is [Reader.Read] within one file.
func (r *Reader) read(ev *events.Event) error {
	if r.frames != nil {
		return r.readFrame(ev)
	}
	text, err := r.next()
	if err != nil {
		return err
	}
	return r.readLine(text, ev)
}

// readLine decodes a line of format 1.
func (r *Reader) readLine(text []byte, ev *events.Event) error {
	var head struct {
		Kind   string `json:"kind"`
		MonoNS uint64 `json:"mono_ns"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		if r.frames == nil && beginsRecording(text) {
			err = errJoined
		}
		return r.misread(text, err)
	}
	switch head.Kind {
	case kindIdle:
		r.IdleNS = head.MonoNS
		return events.ErrIdle
	case kindEnd:
		return r.end(text)
	case kindOwner:
		if err := r.addOwner(text); !errors.Is(err, errOwner) {
			return r.misread(text, err)
		}
		return errOwner
	}
	*ev = events.Event{}
	l := line{Event: ev}
	if err := json.Unmarshal(text, &l); err != nil {
		return r.misread(text, err)
	}
	if head.Kind == "" && isHeader(text) {
		r.damage = &Damage{r.line, fmt.Errorf("line %d: %w", r.line, errJoined)}
		return r.damage
	}
	if !ev.Kind.Valid() {
		return r.misread(text, errors.New("unknown kind of event"))
	}
	if l.CommBytes != nil {
		ev.Task.Comm = string(l.CommBytes)
	}
	if l.ProcessBytes != nil {
		ev.Task.Process = string(l.ProcessBytes)
	}
	if l.OwnerCommBytes != nil && ev.Owner != nil {
		ev.Owner.Comm = string(l.OwnerCommBytes)
	}
	if l.OtherEndBytes != nil && ev.OtherEnd != nil && ev.OtherEnd.Owner != nil {
		ev.OtherEnd.Owner.Comm = string(l.OtherEndBytes)
	}
	return nil
}

// isHeader reports whether a line of format 1 is the header of a recording.
func isHeader(text []byte) bool {
	var h events.Header
	return json.Unmarshal(text, &h) == nil && h.Attach != ""
}

// end reads the last line. Nothing may follow it.
func (r *Reader) end(text []byte) error {
	end := new(End)
	if err := json.Unmarshal(text, end); err != nil {
		return r.misread(text, err)
	}
	text, err := r.next()
	if err == nil {
		err = errors.New("text after the end of the record")
		if isHeader(text) || beginsRecording(text) {
			err = errJoined
		}
		r.damage = &Damage{r.line, fmt.Errorf("line %d: %w", r.line, err)}
		return r.damage
	}
	if errors.Is(err, io.EOF) {
		r.End = end
	}
	return err
}

// next returns the text of the next line, valid until the next call.
func (r *Reader) next() ([]byte, error) {
	if r.damage != nil {
		return nil, r.damage
	}
	if r.lines.Scan() {
		r.line++
		return r.lines.Bytes(), nil
	}
	if err := r.lines.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			err = fmt.Errorf("longer than %d bytes", maxLine)
		}
		r.damage = &Damage{r.line + 1, fmt.Errorf("line %d: %w", r.line+1, err)}
		return nil, r.damage
	}
	return nil, io.EOF
}

// misread returns the error for a line that cannot be decoded. A line that is
// JSON may be of a newer version; any other is damage.
func (r *Reader) misread(text []byte, err error) error {
	err = fmt.Errorf("line %d: %w", r.line, err)
	if json.Valid(text) {
		return unknown(err)
	}
	r.damage = &Damage{r.line, err}
	return r.damage
}

// Events yields the events in order. An error is the last element.
func (r *Reader) Events() iter.Seq2[*events.Event, error] {
	return func(yield func(*events.Event, error) bool) {
		for {
			ev := new(events.Event)
			switch err := r.Read(ev); {
			case errors.Is(err, events.ErrIdle):
			case errors.Is(err, io.EOF):
				return
			case err != nil:
				yield(nil, err)
				return
			case !yield(ev, nil):
				return
			}
		}
	}
}
