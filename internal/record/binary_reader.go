package record

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/closetrace/closetrace/internal/events"
)

// Decode decodes a record of the kernel side, and overwrites all of ev. It accepts any bytes.
type Decode = func(record []byte, ev *events.Event) error

// NewDecode returns the [Decode] of records of a layout. It names the numbers in them by the functions, which return ""
// for those that have no name.
type NewDecode func(layout []events.Field, syscall func(number int32, compat bool) string,
	resetReason func(uint32) string) (Decode, error)

// newBinaryReader reads the header of format 2, after its magic.
func newBinaryReader(r io.Reader, newDecode NewDecode) (*Reader, error) {
	rd := &Reader{frames: &frameReader{r: r}, names: map[nameKey]string{}}
	t, payload, err := rd.frames.next()
	var head fileHeader
	switch {
	case errors.Is(err, io.EOF):
		return nil, noHeader("it has no header")
	case errors.Is(err, errCut):
		return nil, noHeader("its header " + errCut.Error())
	case err != nil:
		return nil, err
	case t != frameHeader || json.Unmarshal(payload, &head) != nil || head.Attach == "":
		return nil, errors.New("its first frame is not a header")
	case head.Version != Version:
		return nil, otherVersion(head.Version, Version)
	}
	rd.Header = head.Header
	if len(head.Record) > 0 {
		at, err := find(head.Record)
		if err != nil {
			return nil, err
		}
		rd.recordSize = at.size
		if rd.decode, err = newDecode(head.Record, rd.syscall, rd.resetReason); err != nil {
			return nil, err
		}
	}
	return rd, nil
}

func (r *Reader) syscall(number int32, compat bool) string {
	kind := byte('s')
	if compat {
		kind = 't'
	}
	return r.names[nameKey{kind, uint64(uint32(number))}]
}

func (r *Reader) resetReason(number uint32) string { return r.names[nameKey{'r', uint64(number)}] }

// readFrame is [Reader.Read] in format 2.
func (r *Reader) readFrame(ev *events.Event) error {
	for {
		t, payload, err := r.nextFrame()
		if err != nil {
			return err
		}
		switch t {
		case frameRecord:
			return r.readRecord(payload, ev)
		case frameEvent:
			return r.readLine(payload, ev)
		case frameName:
			if err := r.addName(payload); err != nil {
				return err
			}
		case frameOwner:
			if err := r.addOwner(payload); !errors.Is(err, errOwner) {
				return r.misreadFrame(err)
			}
		case frameIdle:
			if len(payload) < 8 {
				return r.misreadFrame(fmt.Errorf("an idle frame of %d bytes", len(payload)))
			}
			r.IdleNS = binary.LittleEndian.Uint64(payload)
			return events.ErrIdle
		case frameEnd:
			return r.endFrame(payload)
		case frameHeader:
			return r.damaged(fmt.Errorf("frame %d: a second header", r.line))
		}
	}
}

// nextFrame returns the next frame. An error other than [io.EOF] is a [*Damage].
func (r *Reader) nextFrame() (frameType, []byte, error) {
	if r.damage != nil {
		return 0, nil, r.damage
	}
	t, payload, err := r.frames.next()
	r.line = r.frames.number
	if err != nil && !errors.Is(err, io.EOF) {
		err = r.damaged(err)
	}
	return t, payload, err
}

func (r *Reader) damaged(err error) error {
	r.damage = &Damage{r.line, err}
	return r.damage
}

// misreadFrame returns the error for a frame that is whole and cannot be decoded.
func (r *Reader) misreadFrame(err error) error {
	return unknown(fmt.Errorf("frame %d: %w", r.line, err))
}

// readRecord decodes a record, and adds what was looked up.
func (r *Reader) readRecord(payload []byte, ev *events.Event) error {
	if r.decode == nil || len(payload) < r.recordSize {
		return r.misreadFrame(errors.New("a record without layout, or shorter than it"))
	}
	if err := r.decode(payload[:r.recordSize], ev); err != nil {
		return r.misreadFrame(err)
	}
	ev.Cgroup = r.names[nameKey{'c', ev.CgroupID}]
	if ev.SocketCgroupID != ev.CgroupID {
		ev.SocketCgroup = r.names[nameKey{'c', ev.SocketCgroupID}]
	}
	if text := payload[r.recordSize:]; len(text) > 0 {
		var l lookups
		if err := json.Unmarshal(text, &l); err != nil {
			return r.misreadFrame(err)
		}
		l.put(ev)
	}
	return nil
}

// addName remembers a name.
func (r *Reader) addName(payload []byte) error {
	var n name
	if err := json.Unmarshal(payload, &n); err != nil {
		return r.misreadFrame(err)
	}
	if len(n.Name) > 3*maxName { // in JSON, a byte that is not UTF-8 takes three
		return r.damaged(fmt.Errorf("frame %d: a name of %d bytes", r.line, len(n.Name)))
	}
	if len(r.names) > maxNames {
		return r.damaged(fmt.Errorf("frame %d: more than %d names", r.line, maxNames))
	}
	switch {
	case n.Cgroup != nil:
		r.names[nameKey{'c', *n.Cgroup}] = n.Name
	case n.Syscall != nil && n.Compat:
		r.names[nameKey{'t', uint64(uint32(*n.Syscall))}] = n.Name
	case n.Syscall != nil:
		r.names[nameKey{'s', uint64(uint32(*n.Syscall))}] = n.Name
	case n.ResetReason != nil:
		r.names[nameKey{'r', uint64(*n.ResetReason)}] = n.Name
	default:
		clear(r.names)
	}
	return nil
}

// endFrame reads the last frame. Nothing may follow it.
func (r *Reader) endFrame(payload []byte) error {
	end := new(End)
	if err := json.Unmarshal(bytes.Clone(payload), end); err != nil {
		return r.misreadFrame(err)
	}
	_, _, err := r.nextFrame()
	if err == nil {
		return r.damaged(fmt.Errorf("frame %d: more after the end of the recording", r.line))
	}
	if errors.Is(err, io.EOF) {
		r.End = end
	}
	return err
}
