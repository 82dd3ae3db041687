package main

import (
	"cmp"
	"context"
	"errors"
	"syscall"
	"testing"

	"github.com/closetrace/closetrace/internal/check"
	"github.com/closetrace/closetrace/internal/hint"
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

// closedPipe is an output that nothing reads.
type closedPipe struct{}

func (closedPipe) Write([]byte) (int, error) { return 0, syscall.EPIPE }

// closetrace check | true has exit code 0 only if tracing works.
func TestCheckIntoClosedPipe(t *testing.T) {
	for _, form := range []format{formatTable, formatJSON} {
		for _, fails := range []error{nil, hint.New(hint.Privilege, "no privileges", "sudo")} {
			examine := func(context.Context, string) (*check.Machine, error) {
				m := fakeMachine()
				m.Err = fails
				return m, nil
			}
			c := &console{stdout: output{Writer: closedPipe{}}}
			err := runCheck(t.Context(), c, examine, "", form)
			if want := cmp.Or(fails, error(syscall.EPIPE)); !errors.Is(err, want) {
				t.Errorf("-o %s: got %v, want %v", form, err, want)
			}
		}
	}
}
