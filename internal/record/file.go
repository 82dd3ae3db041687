package record

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/closetrace/closetrace/internal/events"
)

// compressed is what the name of a file ends in that is to be compressed by
// Zstandard.
const compressed = ".zst"

// What decompressing may take of memory, whatever a file says of itself. The
// encoder's own window is 8 MiB.
const maxWindow = 64 << 20

// File is a record in the making.
type File struct {
	*Writer
	file    *os.File
	zstd    *zstd.Encoder // nil if it is not compressed
	buf     *bufio.Writer
	waiting bool // for a flush
}

// Create makes or empties a file and begins a record in it. It is written by way
// of what through makes of the file, if that is not nil.
func Create(path string, h events.Header, through func(io.Writer) io.Writer) (*File, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	f := &File{file: file}
	var w io.Writer = file
	if through != nil {
		w = through(file)
	}
	if strings.HasSuffix(path, compressed) {
		f.zstd, err = zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
		if err != nil {
			file.Close()
			return nil, err
		}
		w = f.zstd
	}
	f.buf = bufio.NewWriterSize(w, 64<<10)
	if f.Writer, err = NewWriter(f.buf, h); err == nil {
		err = f.flush()
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return f, nil
}

// Write appends an event.
func (f *File) Write(ev *events.Event) error {
	f.waiting = true
	return f.Writer.Write(ev)
}

// Idle appends that moment.
func (f *File) Idle(monoNS uint64) error {
	f.waiting = true
	return f.Writer.Idle(monoNS)
}

// Flush gives to the system what is written so far, so that it is safe even if
// this process is killed.
func (f *File) Flush() error {
	if !f.waiting {
		return nil
	}
	f.waiting = false
	return f.flush()
}

func (f *File) flush() error {
	err := f.buf.Flush()
	if err == nil && f.zstd != nil {
		err = f.zstd.Flush()
	}
	return err
}

// Close ends the record and the file.
func (f *File) Close(e *End) error {
	err := f.End(e)
	if err == nil {
		err = f.buf.Flush()
	}
	if f.zstd != nil {
		if closeErr := f.zstd.Close(); err == nil {
			err = closeErr
		}
	}
	if closeErr := f.file.Close(); err == nil {
		err = closeErr
	}
	return err
}

// Open reads the record in a file, which is decompressed if it looks so,
// whatever its name. The closer is of the file.
func Open(path string) (*Reader, io.Closer, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	text, err := plain(file)
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	r, err := NewReader(text)
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return r, file, nil
}

// plain decompresses what is compressed.
func plain(r io.Reader) (io.Reader, error) {
	buffered := bufio.NewReader(r)
	// Too short a file fails where its header is read.
	magic, _ := buffered.Peek(4)
	if !bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}) {
		return buffered, nil
	}
	// With one thread there is nothing to close but the file.
	return zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
}
