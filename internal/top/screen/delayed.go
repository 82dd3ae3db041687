package screen

import (
	"bytes"
	"io"
	"sync"
)

// DelayedWriter is standard error of a program that shows a screen: what is written meanwhile comes after it.
type DelayedWriter struct {
	to      io.Writer
	mu      sync.Mutex
	holding bool
	text    bytes.Buffer
}

// NewDelayedWriter returns a writer that passes everything on to w until the screen is shown.
func NewDelayedWriter(w io.Writer) *DelayedWriter { return &DelayedWriter{to: w} }

// Write passes p on, or keeps it while the screen is shown.
func (d *DelayedWriter) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.holding {
		return d.to.Write(p)
	}
	return d.text.Write(p)
}

// hold starts to keep what is written.
func (d *DelayedWriter) hold() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.holding = true
}

// release writes all that was kept, and keeps no more.
func (d *DelayedWriter) release() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.holding = false
	_, err := d.text.WriteTo(d.to)
	return err
}
