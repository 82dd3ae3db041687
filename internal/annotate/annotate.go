// Package annotate writes comments into a packet capture: on each FIN and RST, the ending that explains it.
//
// A segment and an ending belong together by the addresses, the sequence number and the time; if the addresses were
// translated between the host and the capture, by sequence numbers that fit nothing else. The clock of the capture may
// be another one than that of a recording: their offset is the median of the pairs that addresses and sequence numbers
// make.
package annotate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/closetrace/closetrace/internal/capture"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/pipeline"
	"github.com/closetrace/closetrace/internal/rawevent"
	"github.com/closetrace/closetrace/internal/record"
)

// prefix is how each comment begins.
const prefix = "closetrace: "

var errInterrupted = errors.New("interrupted, and nothing was written")

// Interruptible reads a file until a context ends.
type Interruptible struct {
	Context context.Context
	File    io.ReaderAt
}

// ReadAt reads like [io.ReaderAt].
func (r Interruptible) ReadAt(p []byte, off int64) (int, error) {
	if r.Context.Err() != nil {
		return 0, errInterrupted
	}
	return r.File.ReadAt(p, off)
}

// Options say what to annotate.
type Options struct {
	Recordings []*os.File // of any number of hosts
	Stream     pipeline.Options
	Version    string // of closetrace
	Verbose    bool   // list the segments that have no comment
}

// File writes a capture with comments to what out returns, which is called once all else is done. It reads the capture
// and the recordings several times, and prints a summary to o.Stream.Stderr. An error of kind [hint.Incomplete] is that
// of a damaged file, of which everything before the damage was used.
func File(ctx context.Context, in *capture.File, out func() (io.Writer, error), o *Options) error {
	m := &matcher{}
	contents, err := in.Scan(m.add)
	if err != nil {
		return err
	}
	m.index()
	hosts, err := group(o.Recordings, m)
	if err != nil {
		return err
	}
	damaged, err := replay(ctx, hosts, o)
	if err != nil {
		return err
	}
	m.finish()
	w, err := out()
	if err != nil {
		return err
	}
	result := &summary{contents: contents, hosts: hosts, tally: m.tally(hosts)}
	if err := in.Copy(w, contents, result.comments(m, o.Version)); err != nil {
		return err
	}
	result.print(o.Stream.Stderr)
	if o.Verbose {
		m.list(o.Stream.Stderr, hosts)
	}
	if contents.Damage != nil {
		return hint.New(hint.Incomplete, fmt.Sprintf("%s is damaged: %v", in.Name(), contents.Damage),
			"everything before that was annotated")
	}
	return damaged
}

// group returns the hosts of recordings, one for each boot, because each boot has its clock.
func group(files []*os.File, m *matcher) ([]*host, error) {
	var hosts []*host
	for _, file := range files {
		r, err := record.Read(file, rawevent.Recorded)
		if err != nil && len(hosts) == 0 {
			return nil, err
		}
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
		if err != nil { // [pipeline.ReplayAll] knows whether its header was cut when closetrace was killed
			last := hosts[len(hosts)-1]
			last.files = append(last.files, file)
			continue
		}
		h := &r.Header
		at := slices.IndexFunc(hosts, func(known *host) bool {
			return known.header.Host == h.Host && known.header.BootID == h.BootID
		})
		if at < 0 {
			at, hosts = len(hosts), append(hosts, &host{matcher: m, header: *h})
		}
		hosts[at].files = append(hosts[at].files, file)
	}
	for _, h := range hosts {
		h.named = len(hosts) > 1
	}
	return hosts, nil
}

// replay finds the endings of the segments. damaged is the error of a damaged recording.
func replay(ctx context.Context, hosts []*host, o *Options) (damaged, err error) {
	for _, estimating := range []bool{true, false} {
		for _, h := range hosts {
			h.estimating = estimating
			stream := o.Stream
			if estimating { // what is said about a recording is said once
				stream.Stderr, stream.ReportError = io.Discard, func(error) {}
			}
			for _, file := range h.files {
				if _, err := file.Seek(0, io.SeekStart); err != nil {
					return nil, err
				}
			}
			switch err := pipeline.ReplayAll(ctx, h.files, 1, h, stream); {
			case hint.Is(err, hint.Incomplete):
				damaged = err
			case err != nil:
				return nil, err
			case ctx.Err() != nil:
				return nil, errInterrupted
			}
			h.estimated()
		}
	}
	return damaged, nil
}
