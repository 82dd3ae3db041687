package record

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"io"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/hint"
)

// Convert writes a recording as format 1: a line of JSON per event. Events that cannot be decoded are left out; the
// first of their errors is returned once everything else is written. If ctx ends, Convert returns its error.
func Convert(ctx context.Context, in *Reader, out io.Writer) error {
	buffered := bufio.NewWriter(out)
	err := convert(ctx, in, buffered)
	return cmp.Or(buffered.Flush(), err)
}

func convert(ctx context.Context, in *Reader, out io.Writer) error {
	w, err := NewWriter(out, in.Header)
	if err != nil {
		return err
	}
	var left error
	in.onOwner = func(ev *events.Event) { left = cmp.Or(left, w.Owner(ev)) }
	for ctx.Err() == nil {
		var ev events.Event
		var damage *Damage
		err := in.Read(&ev)
		switch {
		case err == nil:
			err = w.Write(&ev)
		case errors.Is(err, events.ErrIdle):
			err = w.Idle(in.IdleNS)
		case errors.Is(err, io.EOF):
			if in.End != nil {
				err = w.End(in.End)
			} else {
				err = hint.New(hint.Incomplete, "the recording is truncated: cut off, or closetrace was killed while recording",
					"everything before that was converted")
			}
			return cmp.Or(err, left)
		case errors.As(err, &damage):
			return hint.New(hint.Incomplete, "the recording is damaged: "+err.Error(), damage.Hint("converted"))
		default:
			left, err = cmp.Or(left, err), nil
		}
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}
