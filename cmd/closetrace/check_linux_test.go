package main

import (
	"context"
	"testing"

	"github.com/closetrace/closetrace/internal/check"
)

// Exit code 0 means that tracing works, so an interrupted check has another one.
func TestCheckInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	examine := func(ctx context.Context, _ string) (*check.Machine, error) {
		cancel()
		return nil, context.Cause(ctx)
	}
	if err := runCheck(ctx, &console{}, examine, "", formatTable); err == nil || err.Error() != "interrupted" {
		t.Errorf("%v", err)
	}
}
