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

// maxLine bounds what one line may take of memory; an event has about 1 KB.
const maxLine = 1 << 20

// Reader reads a record.
type Reader struct {
	Header events.Header
	IdleNS uint64 // of the last [ErrIdle], CLOCK_MONOTONIC
	End    *End   // after [io.EOF]; nil if the record has none

	lines  *bufio.Scanner
	line   int
	damage error // after which there is nothing more
}

// NewReader reads the header. A newer schema than this version knows is an
// error, because a field may have changed its meaning.
func NewReader(r io.Reader) (*Reader, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	rd := &Reader{lines: lines}
	text, err := rd.next()
	if err == nil && (json.Unmarshal(text, &rd.Header) != nil || rd.Header.Attach == "") {
		err = errors.New("its first line is not the header of a record")
	}
	switch h := rd.Header; {
	case errors.Is(err, io.EOF):
		return nil, errors.New("there is nothing in it")
	case err != nil:
		return nil, err
	case h.Schema < 1 || h.Schema > events.SchemaVersion:
		return nil, fmt.Errorf("it has version %d, this closetrace reads 1 to %d", h.Schema, events.SchemaVersion)
	}
	return rd, nil
}

// Read takes the next event, overwriting all of ev. [io.EOF] is the end,
// [ErrIdle] a pause; after a [*Damage] there is nothing more. Any other error
// concerns one line, and reading goes on behind it.
func (r *Reader) Read(ev *events.Event) error {
	text, err := r.next()
	if err != nil {
		return err
	}
	var head struct {
		Kind   string `json:"kind"`
		MonoNS uint64 `json:"mono_ns"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return r.misread(text, err)
	}
	switch head.Kind {
	case kindIdle:
		r.IdleNS = head.MonoNS
		return ErrIdle
	case kindEnd:
		return r.end(text)
	}
	*ev = events.Event{}
	l := line{Event: ev}
	if err := json.Unmarshal(text, &l); err != nil {
		return r.misread(text, err)
	}
	if !ev.Kind.Valid() {
		return r.misread(text, errors.New("no kind of event"))
	}
	if l.CommBytes != nil {
		ev.Task.Comm = string(l.CommBytes)
	}
	if l.OwnerCommBytes != nil && ev.Owner != nil {
		ev.Owner.Comm = string(l.OwnerCommBytes)
	}
	return nil
}

// end takes the last line, behind which there has to be nothing.
func (r *Reader) end(text []byte) error {
	end := new(End)
	if err := json.Unmarshal(text, end); err != nil {
		return r.misread(text, err)
	}
	_, err := r.next()
	if err == nil {
		r.damage = &Damage{r.line, fmt.Errorf("line %d: it follows the end of the record", r.line)}
		return r.damage
	}
	if errors.Is(err, io.EOF) {
		r.End = end
	}
	return err
}

// next is the text of the next line, valid until the line after.
func (r *Reader) next() ([]byte, error) {
	if r.damage != nil {
		return nil, r.damage
	}
	if r.lines.Scan() {
		r.line++
		return r.lines.Bytes(), nil
	}
	if err := r.lines.Err(); err != nil {
		r.damage = &Damage{r.line + 1, fmt.Errorf("line %d: %w", r.line+1, err)}
		return nil, r.damage
	}
	return nil, io.EOF
}

// misread: a line that is JSON may be one that this version does not know yet;
// what is not is damage.
func (r *Reader) misread(text []byte, err error) error {
	err = fmt.Errorf("line %d: %w", r.line, err)
	if json.Valid(text) {
		return &unknown{err}
	}
	r.damage = &Damage{r.line, err}
	return r.damage
}

// Events yields the events in order. After an error there is nothing more.
func (r *Reader) Events() iter.Seq2[*events.Event, error] {
	return func(yield func(*events.Event, error) bool) {
		for {
			ev := new(events.Event)
			switch err := r.Read(ev); {
			case errors.Is(err, ErrIdle):
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
