package record

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/outfile"
)

// compressed is the extension of files that are compressed by Zstandard.
const compressed = ".zst"

// maxWindow is the maximum memory for decompression, whatever a file asks for.
// The encoder's own window is 8 MiB.
const maxWindow = 64 << 20

// jsonLines are the extensions of files in format 1.
var jsonLines = []string{".jsonl", ".jsonl" + compressed}

// HoldsRecords reports whether a recording of this name has [events.Event.Record] of an event, as format 2 does, and
// not what was decoded of it.
func HoldsRecords(path string) bool {
	return !slices.ContainsFunc(jsonLines, func(end string) bool { return strings.HasSuffix(path, end) })
}

// File is a recording that is being written.
type File struct {
	encoder
	file  *os.File
	count *counter
	zstd  *zstd.Encoder // nil if not compressed
	pend  *counter      // what zstd has got; nil if not compressed
	sent  int64         // of pend, when zstd was flushed
	buf   *bufio.Writer
	dirty bool // has something to flush
}

// counter counts bytes on their way.
type counter struct {
	io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	c.n += int64(n)
	return n, err
}

// Options say how to create a file.
type Options struct {
	Force bool // replace a file that exists
	// Through, if it is not nil, returns the writer through which the file is written.
	Through func(io.Writer) io.Writer
	// As calls a function with the rights that files are created and deleted with; nil: with those of the caller.
	As       func(func() error) error
	Rotation Rotation
}

// Create creates a file and writes the header of a recording: of format 2 or, if the name ends in .jsonl or .jsonl.zst,
// of format 1. Only its owner may read a new file: it has addresses and names of processes. A regular file that exists
// is an error of kind [hint.Usage] without Force, and a symbolic link with it as well. Create does not wait for the
// reader of a FIFO: without one it returns an error.
func Create(path string, h events.Header, o Options) (*File, error) {
	return create(path, h, maphash.MakeSeed(), o)
}

// create is [Create] with the seed of the aliases.
func create(path string, h events.Header, seed maphash.Seed, o Options) (*File, error) {
	file, err := openToWrite(path, o)
	if err != nil {
		return nil, hint.Creating(err)
	}
	f := &File{file: file}
	var w io.Writer = file
	if o.Through != nil {
		w = o.Through(file)
	}
	f.count = &counter{Writer: w}
	w = f.count
	if strings.HasSuffix(path, compressed) {
		f.zstd, err = newCompressor(w, HoldsRecords(path))
		if err != nil {
			file.Close()
			return nil, err
		}
		f.pend = &counter{Writer: f.zstd}
		w = f.pend
	}
	f.buf = bufio.NewWriterSize(w, 64<<10)
	if HoldsRecords(path) {
		f.encoder, err = newBinaryWriter(f.buf, h, seed)
	} else {
		f.encoder, err = newWriter(f.buf, h, seed)
	}
	if err == nil {
		err = f.flush()
	}
	if err != nil {
		file.Close()
		if o.Rotation.Active() { // it is a new file, and each start on a full disk would leave one
			_ = os.Remove(path)
		}
		return nil, err
	}
	return f, nil
}

// newCompressor compresses to w. Frames have checksums of their own. What repeats nothing in records is mostly aliases,
// sequence numbers and checksums, which an entropy coder does not make shorter.
func newCompressor(w io.Writer, frames bool) (*zstd.Encoder, error) {
	return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderCRC(!frames), zstd.WithNoEntropyCompression(frames))
}

// openToWrite opens a file for writing: a new one or, without rotation, one that is replaced or not a regular file. It
// follows no symbolic link: see [outfile.Open].
func openToWrite(path string, o Options) (*os.File, error) {
	const flags = os.O_WRONLY | unix.O_NONBLOCK | unix.O_NOCTTY
	if o.Force && !o.Rotation.Active() {
		return outfile.Open(path, flags|os.O_CREATE|os.O_TRUNC, 0o600)
	}
	file, err := os.OpenFile(path, flags|os.O_CREATE|os.O_EXCL, 0o600)
	if !errors.Is(err, fs.ErrExist) {
		return file, err
	}
	if err := outfile.CheckLink(path); err != nil {
		return nil, err
	}
	info, statErr := os.Stat(path)
	if statErr != nil {
		return nil, err
	}
	switch {
	case o.Rotation.Active():
		return nil, takenBefore(path)
	case info.Mode().IsRegular():
		return nil, hint.New(hint.Usage, path+" exists", "use another name, or --force to replace the file")
	}
	return outfile.Open(path, flags, 0)
}

// Write appends an event.
func (f *File) Write(ev *events.Event) error {
	f.dirty = true
	return f.encoder.Write(ev)
}

// Owner appends the owner of an event that was written before.
func (f *File) Owner(ev *events.Event) error {
	f.dirty = true
	return f.encoder.Owner(ev)
}

// Idle appends the end of what was read and reported: see [Writer.Idle].
func (f *File) Idle(monoNS uint64) error {
	f.dirty = true
	return f.encoder.Idle(monoNS)
}

// Flush writes what is buffered to the file, so that they survive even if this
// process is killed.
func (f *File) Flush() error {
	if !f.dirty {
		return nil
	}
	f.dirty = false
	return f.flush()
}

func (f *File) flush() error {
	err := f.buf.Flush()
	if err == nil && f.zstd != nil {
		err = f.zstd.Flush()
		f.sent = f.pend.n
	}
	return err
}

// full reports whether the file has at least size bytes. What is not compressed yet counts as it is, unless that would
// make the file full: then it is compressed.
func (f *File) full(size int64) bool {
	n := f.count.n + int64(f.buf.Buffered())
	if f.zstd == nil || n+f.pend.n-f.sent < size {
		return n >= size
	}
	// An error is that of the next write.
	_ = f.flush()
	return f.count.n >= size
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

// Open opens a file to [Read] a recording from. It does not block: a FIFO, a device or a directory is an error, as is a
// file that cannot be opened, of kind [hint.Usage].
func Open(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, &hint.Error{Kind: hint.Usage, Err: err, Hint: openHint(path, err)}
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "read", Path: path, Err: errors.New("not a regular file")}
	}
	if err != nil {
		file.Close()
		return nil, hint.New(hint.Usage, err.Error(), makeOne)
	}
	return file, nil
}

// openHint returns what to do if a file cannot be opened. What root recorded, only root may read.
func openHint(path string, err error) string {
	if errors.Is(err, fs.ErrPermission) {
		return "use sudo, or make the file yours: sudo chown $USER " + path
	}
	return makeOne
}

const makeOne = "closetrace -w FILE makes a recording"

// otherVersion returns the error for a version of the format that is not read.
func otherVersion(version, newest int) error {
	err := &hint.Error{What: fmt.Sprintf("it has version %d; this closetrace reads versions 1 to %d", version, newest)}
	if version > newest {
		err.Hint = "use a newer closetrace"
	}
	return err
}

// Read returns the recording in an open file, of either format, whose records newDecode decodes. It decompresses the
// file if it begins like a compressed one, whatever its name.
func Read(file *os.File, newDecode NewDecode) (*Reader, error) {
	r, err := readAny(file, newDecode)
	if err != nil {
		return nil, unreadable(file.Name(), err)
	}
	r.Name = file.Name()
	return r, nil
}

func readAny(file io.Reader, newDecode NewDecode) (*Reader, error) {
	content, err := plain(file)
	if err != nil {
		return nil, err
	}
	buffered := bufio.NewReaderSize(content, 64<<10)
	begin, err := buffered.Peek(len(magic))
	cut := len(begin) > 0 || errors.Is(err, io.ErrUnexpectedEOF) // also of what is compressed
	switch {
	case cut && len(begin) < len(magic) && bytes.HasPrefix(magic, begin):
		return nil, noHeader("its header " + errCut.Error())
	case !bytes.Equal(begin, magic):
		return NewReader(buffered)
	}
	if _, err := buffered.Discard(len(magic)); err != nil {
		return nil, err
	}
	return newBinaryReader(buffered, newDecode)
}

func unreadable(path string, err error) error {
	if errors.As(err, new(*fs.PathError)) {
		return hint.New(hint.Usage, err.Error(), makeOne)
	}
	return &hint.Error{What: path + " is not a recording", Err: err, Hint: cmp.Or(hint.Of(err), makeOne)}
}

// plain returns r, decompressed if it is compressed.
func plain(r io.Reader) (io.Reader, error) {
	buffered := bufio.NewReader(r)
	// A file that is too short fails when its header is read.
	magic, _ := buffered.Peek(len(compressedMagic))
	if !bytes.Equal(magic, compressedMagic) {
		return buffered, nil
	}
	// With one thread there is nothing to close but the file.
	d, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
	return decompressor{d}, err
}

// decompressor says of what follows the compressed part of a file that it is not compressed.
type decompressor struct{ *zstd.Decoder }

// Read decompresses.
func (d decompressor) Read(p []byte) (int, error) {
	n, err := d.Decoder.Read(p)
	if errors.Is(err, zstd.ErrMagicMismatch) {
		err = errPlain
	}
	return n, err
}
