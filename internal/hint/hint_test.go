package hint

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
)

func TestExitCode(t *testing.T) {
	usage := New(Usage, "no", "yes")
	for _, tc := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("broken"), 1},
		{ErrReported, 1},
		{New(Failed, "", ""), 1},
		{usage, 2},
		{New(Privilege, "", ""), 3},
		{New(Unsupported, "", ""), 4},
		{New(Incomplete, "", ""), 5},
		{New(FailOn, "", ""), 124},
		{New(Untraced, "", ""), 125},
		{New(CannotRun, "", ""), 126},
		{New(NoCommand, "", ""), 127},
		{Status(7, 0), 7},
		{Status(-1, 9), 137},
		{fmt.Errorf("reading: %w", usage), 2},
		{errors.Join(errors.New("first"), usage), 2},
		{As(Untraced, usage), 125},
		{As(Untraced, New(Privilege, "", "")), 125},
	} {
		if got := ExitCode(tc.err); got != tc.want {
			t.Errorf("%v: exit code %d, want %d", tc.err, got, tc.want)
		}
	}
}

func TestStatusOfSuccess(t *testing.T) {
	if err := Status(0, 0); err != nil {
		t.Errorf("got %v", err)
	}
	if err := Status(1, 0); !errors.Is(err, ErrReported) {
		t.Errorf("%v would be reported", err)
	}
}

func TestSplit(t *testing.T) {
	first, second := New(Usage, "no", "yes"), errors.New("broken")
	if got := Split(As(Usage, errors.Join(first, second))); !slices.Equal(got, []error{first, second}) {
		t.Errorf("got %v", got)
	}
	if got := Split(first); !slices.Equal(got, []error{first}) {
		t.Errorf("got %v", got)
	}
}

func TestText(t *testing.T) {
	usage := New(Usage, "no", "yes")
	for _, tc := range []struct {
		err        error
		text, hint string
	}{
		{usage, "no", "yes"},
		{&Error{What: "opening", Err: fs.ErrNotExist}, "opening: file does not exist", ""},
		{As(Untraced, usage), "no", "yes"},
		{&Error{What: "in it", Hint: "first", Err: usage}, "in it: no", "first"},
		{fmt.Errorf("outside: %w", As(Untraced, usage)), "outside: no", "yes"},
		{errors.New("broken"), "broken", ""},
	} {
		if tc.err.Error() != tc.text || Of(tc.err) != tc.hint {
			t.Errorf("got %q with hint %q, want %q with %q", tc.err, Of(tc.err), tc.text, tc.hint)
		}
	}
	if Of(nil) != "" || As(Usage, nil) != nil {
		t.Error("something is made of no error")
	}
}

func TestKind(t *testing.T) {
	err := fmt.Errorf("loading: %w", &Error{Kind: Privilege, Err: fs.ErrPermission})
	if !Is(err, Privilege) || Is(err, Usage) || Is(err, Failed) {
		t.Error("the kind is lost in wrapping")
	}
	if !errors.Is(err, fs.ErrPermission) {
		t.Error("the cause is lost")
	}
	if !Is(As(Untraced, err), Untraced) || Is(As(Untraced, err), Privilege) {
		t.Error("the outer kind does not count")
	}
	if !Is(errors.New("broken"), Failed) || Is(nil, Failed) {
		t.Error("an error without a kind has failed, and no error has not")
	}
}

// The help is printed from the table that determines the codes.
func TestHelp(t *testing.T) {
	replay, live, run := ExitCodes("reading failed", Incomplete, Usage), LiveExitCodes("tracing failed"), RunExitCodes()
	const success = "Exit codes:\n  0  success (also when the output pipe is closed)\n"
	if want := success + "  1  reading failed\n  2  usage error\n" +
		"  5  the recording is damaged or truncated; everything before that was shown\n"; replay != want {
		t.Errorf("got %q", replay)
	}
	if want := success + "  1  tracing failed\n  2  usage error\n  3  missing privileges\n" +
		"  4  not supported by this kernel\n"; live != want {
		t.Errorf("got %q", live)
	}
	for _, line := range []string{
		"  the command's own; 128 plus the signal number if a signal killed the command",
		"  124  an ending matched --fail-on, whatever the command's own status",
		"  125  closetrace could not trace the command",
		"  126  the command cannot be executed",
		"  127  command not found",
	} {
		if !strings.Contains(run, line) {
			t.Errorf("not in the help of run: %s", line)
		}
	}
	if got := strings.Count(run, "\n"); got != 8 {
		t.Errorf("%d lines of help of run:\n%s", got, run)
	}
}
