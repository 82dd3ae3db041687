package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// voice makes log records speak as report does: one line each that begins with
// "closetrace:", what is known besides after it.
type voice struct {
	w     io.Writer
	level slog.Level
	known string // of With
}

// logger writes warnings to standard error, and with verbose everything.
func logger(e *env, verbose bool) *slog.Logger {
	level := slog.LevelWarn
	if verbose {
		level = slog.LevelDebug
	}
	return slog.New(&voice{w: e.stderr, level: level})
}

// Enabled is by level alone.
func (v *voice) Enabled(_ context.Context, level slog.Level) bool { return level >= v.level }

// Handle writes one line at once.
func (v *voice) Handle(_ context.Context, r slog.Record) error {
	line := "closetrace: " + r.Message + v.known
	r.Attrs(func(a slog.Attr) bool {
		line += attribute(a)
		return true
	})
	_, err := io.WriteString(v.w, oneLine(line)+"\n")
	return err
}

// WithAttrs adds to what is known.
func (v *voice) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *v
	for _, a := range attrs {
		with.known += attribute(a)
	}
	return &with
}

// WithGroup changes nothing: names need not be told apart.
func (v *voice) WithGroup(string) slog.Handler { return v }

func attribute(a slog.Attr) string {
	if words, ok := a.Value.Any().([]string); ok {
		return fmt.Sprintf("; %s: %s", a.Key, strings.Join(words, ", "))
	}
	return fmt.Sprintf("; %s: %v", a.Key, a.Value)
}
