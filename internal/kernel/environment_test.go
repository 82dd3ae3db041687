package kernel

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/hint"
)

// What refuses bpf(2) to a process with all capabilities is named, and never "missing privileges" where a limit is.
func TestRefusal(t *testing.T) {
	tests := []struct {
		err  error
		s    surroundings
		kind hint.Kind
		want string // "": no error
		next string
	}{
		{nil, surroundings{seccomp: true}, 0, "", ""},
		{unix.EPERM, surroundings{seccomp: true}, hint.Privilege, "a seccomp filter denies it", "seccomp=FILE"},
		{unix.EACCES, surroundings{seccomp: true}, hint.Privilege, "a seccomp filter denies it", "seccomp=FILE"},
		{unix.ENOSYS, surroundings{seccomp: true}, hint.Privilege, "a seccomp filter denies it", "seccomp=FILE"},
		{unix.ENOSYS, surroundings{}, hint.Unsupported, "built without bpf(2)", "CONFIG_BPF_SYSCALL=y"},
		{unix.EPERM, surroundings{seccomp: true, reachable: true}, hint.Privilege, "a security module denies it", "audit log"},
		{unix.EPERM, surroundings{reachable: true}, hint.Privilege, "a security module denies it", "audit log"},
		{unix.EPERM, surroundings{seccomp: true, userNamespace: true}, hint.Privilege, "in a user namespace only", "rootless"},
		{unix.EPERM, surroundings{reachable: true, userNamespace: true}, hint.Privilege, "in a user namespace only", "rootless"},
		{unix.EPERM, surroundings{reachable: true, charged: true}, 0, "", ""},
		{unix.EMFILE, surroundings{reachable: true}, hint.Failed, "too many open files", "prlimit --nofile"},
		{unix.ENFILE, surroundings{reachable: true}, hint.Failed, "too many open files", "prlimit --nofile"},
		{unix.ENOMEM, surroundings{reachable: true}, hint.Failed, "not enough memory", "memory.max"},
		{unix.EINVAL, surroundings{reachable: true}, hint.Failed, "bpf(2): invalid argument", ""},
	}
	for _, tt := range tests {
		got := refusalOf(tt.err, &tt.s)
		if tt.want == "" {
			if got != nil {
				t.Errorf("%v, %+v: %v", tt.err, tt.s, got)
			}
			continue
		}
		if !strings.Contains(got.Error(), tt.want) || !hint.Is(got, tt.kind) || !strings.Contains(hint.Of(got), tt.next) {
			t.Errorf("%v, %+v: %v, exit code %d, hint %q", tt.err, tt.s, got, hint.ExitCode(got), hint.Of(got))
		}
	}
}

// Only a limit of the process is scarcity, however the error is wrapped.
func TestScarce(t *testing.T) {
	for _, err := range []error{nil, unix.EPERM, errors.New("too many open files")} {
		if got := Scarce(err); got != nil {
			t.Errorf("%v: %v", err, got)
		}
	}
	if got := Scarce(errors.Join(errors.New("loading"), unix.EMFILE)); got == nil {
		t.Error("EMFILE is not seen")
	}
}

// This process has the limits of a usual one.
func TestLimitsOfThisProcess(t *testing.T) {
	if err := errors.Join(checkFiles(minFiles), CheckRuntime(), CheckProc()); err != nil {
		t.Error(err)
	}
	if err := checkFiles(1 << 40); err == nil || hint.ExitCode(err) != 1 {
		t.Errorf("a limit above all: %v", err)
	}
}
