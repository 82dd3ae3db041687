package pipeline

import (
	"fmt"
	"time"
)

const (
	// clockEvery is how often the clock is read at most.
	clockEvery = time.Second
	// clockStep is how far the clock has to be from the one in use to be followed. Readings of a clock that was not set
	// differ by microseconds, because the kernel slews both clocks at once.
	clockStep = 100 * time.Millisecond
)

// wallClock is the clock by which endings have their times. The one of the start is wrong once the machine was
// suspended, which CLOCK_MONOTONIC does not count, or its clock was set.
type wallClock struct {
	offset int64  // in use, see [Source]
	next   uint64 // not read before, CLOCK_MONOTONIC
}

// followClock lets later endings have the times of the clock as it is now. A recording keeps the clock of its start.
func (s *Stream) followClock() {
	now := s.source.IdleNS()
	if s.options.RecordOnly || now < s.clock.next {
		return
	}
	s.clock.next = now + uint64(clockEvery)
	offset := s.source.WallOffset()
	by := time.Duration(offset - s.clock.offset)
	if by.Abs() <= clockStep {
		return
	}
	s.clock.offset = offset
	s.classifier.SetWallOffset(offset)
	sign := ""
	if by > 0 {
		sign = "+"
	}
	fmt.Fprintf(s.options.Stderr, "closetrace: the clock moved by %s%s, because it was set or the machine was suspended; "+
		"times from here on follow it\n", sign, by.Round(time.Millisecond))
}

// WallOffset is that of the start of the recording.
func (r *recorded) WallOffset() int64 { return r.Reader.Header.WallOffsetNS }
