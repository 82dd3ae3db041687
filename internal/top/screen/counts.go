package screen

import (
	"sync"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/top"
)

// Counts is a sink that counts endings, while the screen reads the counts.
type Counts struct {
	clock func() uint64
	mu    sync.Mutex
	board *top.Board
}

// NewCounts returns counts of zero. clock returns CLOCK_MONOTONIC in nanoseconds.
func NewCounts(clock func() uint64) *Counts { return &Counts{clock: clock, board: top.New(clock())} }

// Write counts e.
func (c *Counts) Write(e *events.Ending) error {
	now := c.clock()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.board.Add(e, now)
	return nil
}

// Flush does nothing.
func (c *Counts) Flush() error { return nil }

// Close does nothing.
func (c *Counts) Close() error { return nil }

// snapshot returns a copy of the counts, and its time.
func (c *Counts) snapshot() (*top.Board, uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.board.Clone(), c.clock()
}

// reset starts again from zero.
func (c *Counts) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.board = top.New(c.clock())
}
