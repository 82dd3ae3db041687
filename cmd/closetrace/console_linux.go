package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/closetrace/closetrace/internal/live"
	"github.com/closetrace/closetrace/internal/message"
	"github.com/closetrace/closetrace/internal/runtimes"
)

// logger returns a logger of warnings to standard error, with verbose of everything.
func (c *console) logger(verbose bool) *slog.Logger { return message.NewLogger(c.stderr, verbose) }

// resolverOptions returns o with what the flags ask for. It warns if names were asked for and no runtime has any.
func (c *console) resolverOptions(o live.ResolverOptions, stacks, names bool) live.ResolverOptions {
	if names {
		if err := runtimes.Absent(o.Runtimes); err != nil {
			c.logger(false).Warn("containers have no names: no runtime answers: " + err.Error())
		}
	}
	o.Stacks, o.Containers = stacks, names
	return o
}

// interrupted returns err, or nil if err only says that the user interrupted.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		return nil
	}
	return err
}
