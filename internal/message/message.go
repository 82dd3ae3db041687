// Package message prints errors and log records: lines that begin with "closetrace:" or "hint:".
package message

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/sink"
)

// Report prints err as one line that begins with "closetrace:", and its hint, if
// it has one, as a second line that begins with "hint:".
func Report(w io.Writer, err error) {
	fmt.Fprintln(w, "closetrace: "+sink.OneLine(err.Error()))
	if next := hint.Of(err); next != "" {
		fmt.Fprintln(w, "hint: "+sink.OneLine(next))
	}
}

// logHandler writes each log record like [Report]: one line "closetrace: MESSAGE;
// KEY: VALUE...".
type logHandler struct {
	w     io.Writer
	level slog.Level
	attrs string // of With
}

// NewLogger returns a logger of warnings, with verbose of everything.
func NewLogger(w io.Writer, verbose bool) *slog.Logger {
	level := slog.LevelWarn
	if verbose {
		level = slog.LevelDebug
	}
	return slog.New(&logHandler{w: w, level: level})
}

// Enabled compares the level.
func (h *logHandler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level }

// Handle writes one line with one call.
func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	line := "closetrace: " + r.Message + h.attrs
	r.Attrs(func(a slog.Attr) bool {
		line += attribute(a)
		return true
	})
	_, err := io.WriteString(h.w, sink.OneLine(line)+"\n")
	return err
}

// WithAttrs returns a handler that adds attrs to each line.
func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *h
	for _, a := range attrs {
		with.attrs += attribute(a)
	}
	return &with
}

// WithGroup returns the handler itself: lines have no groups.
func (h *logHandler) WithGroup(string) slog.Handler { return h }

func attribute(a slog.Attr) string {
	if words, ok := a.Value.Any().([]string); ok {
		return fmt.Sprintf("; %s: %s", a.Key, strings.Join(words, ", "))
	}
	return fmt.Sprintf("; %s: %v", a.Key, a.Value)
}
