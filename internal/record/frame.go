package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
)

// magic begins a recording of format 2. Its last byte is the version of the frames.
var magic = []byte("closetr\x02")

// frameType is the type of a frame. A reader skips types that it does not know.
type frameType uint32

// The types of frames. They are part of the format: never renumber them.
const (
	frameHeader frameType = 1 // JSON: fileHeader
	frameRecord frameType = 2 // a record of the kernel side, then what was looked up as JSON, or nothing
	frameEvent  frameType = 3 // JSON: an event that has no record, as format 1 has it
	frameName   frameType = 4 // JSON: name
	frameIdle   frameType = 5 // 8 bytes: CLOCK_MONOTONIC
	frameEnd    frameType = 6 // JSON: End
	frameOwner  frameType = 7 // JSON: ownerLine
)

// maxFrame is the maximum length of a payload in bytes. A record has about 500.
const maxFrame = 1 << 20

const (
	frameHead = 8 // length of the payload and type, 4 bytes each, little endian
	frameTail = 4 // CRC-32C of head and payload
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// beginFrame appends the head of a frame, whose payload follows. [sealFrame] completes it.
func beginFrame(b []byte, t frameType) []byte {
	return binary.LittleEndian.AppendUint32(append(b, 0, 0, 0, 0), uint32(t))
}

// sealFrame completes a buffer that has one frame: it sets the length and appends the checksum.
func sealFrame(b []byte) ([]byte, error) {
	size := len(b) - frameHead
	if size > maxFrame {
		return nil, fmt.Errorf("a frame of %d bytes is too long", size)
	}
	binary.LittleEndian.PutUint32(b, uint32(size))
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)), nil
}

var (
	errCut    = errors.New("is cut off")
	errJoined = errors.New("another recording begins here (files joined together)")
	errPlain  = errors.New("what follows is not compressed (files joined together?)")
)

// compressedMagic begins what is compressed by Zstandard.
var compressedMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}

// lineMagic begins the header of format 1. It is not longer than the head of a frame.
var lineMagic = []byte(`{"schema`)

// beginsRecording reports whether a text begins like a recording of any format.
func beginsRecording(text []byte) bool {
	return bytes.HasPrefix(text, magic) || bytes.HasPrefix(text, compressedMagic) || bytes.HasPrefix(text, lineMagic)
}

// frameReader reads frames.
type frameReader struct {
	r      io.Reader
	number int    // of the frame read last, from 1
	buf    []byte // reused
}

// next returns the next frame. Its payload is valid until the next call. The error is [io.EOF] after the last whole
// frame, or says what is wrong with the frame.
func (f *frameReader) next() (frameType, []byte, error) {
	f.number++
	f.buf = slices.Grow(f.buf[:0], frameHead)[:frameHead]
	n, err := io.ReadFull(f.r, f.buf)
	if err != nil {
		if n == 0 && errors.Is(err, io.EOF) {
			return 0, nil, io.EOF
		}
		return 0, nil, f.cut(n, frameHead, err)
	}
	size := binary.LittleEndian.Uint32(f.buf)
	if size > maxFrame {
		if beginsRecording(f.buf) {
			return 0, nil, fmt.Errorf("frame %d: %w", f.number, errJoined)
		}
		return 0, nil, fmt.Errorf("frame %d: invalid length of %d bytes", f.number, size)
	}
	whole := frameHead + int(size) + frameTail
	f.buf = slices.Grow(f.buf, whole-frameHead)[:whole]
	if n, err = io.ReadFull(f.r, f.buf[frameHead:]); err != nil {
		return 0, nil, f.cut(frameHead+n, whole, err)
	}
	sealed := f.buf[:whole-frameTail]
	if binary.LittleEndian.Uint32(f.buf[whole-frameTail:]) != crc32.Checksum(sealed, castagnoli) {
		return 0, nil, fmt.Errorf("frame %d: wrong checksum", f.number)
	}
	return frameType(binary.LittleEndian.Uint32(f.buf[4:])), sealed[frameHead:], nil
}

// cut returns the error for a frame of which only some bytes could be read.
func (f *frameReader) cut(have, want int, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("frame %d %w after %d of at least %d bytes", f.number, errCut, have, want)
	}
	return fmt.Errorf("frame %d: %w", f.number, err)
}
