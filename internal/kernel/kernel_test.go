package kernel

import (
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/hint"
)

func TestRunningKernel(t *testing.T) {
	k, err := Running(nil, "")
	if err != nil {
		if _, statErr := os.Stat("/sys/kernel/btf/vmlinux"); statErr != nil && hint.Is(err, hint.Unsupported) {
			t.Skipf("this kernel has no BTF: %v", err)
		}
		t.Fatal(err)
	}
	if !k.HasFunc("tcp_close") || k.HasFunc("tcp_close_of_no_kernel") {
		t.Error("tcp_close exists on every kernel, the other on none")
	}
	if !k.HasTracepoint("inet_sock_set_state") || k.HasTracepoint("tcp_close") {
		t.Error("inet_sock_set_state is a tracepoint, tcp_close is not")
	}
	reasons := k.EnumNames("sk_rst_reason", "SK_RST_REASON_")
	if arg := k.FuncParam("tcp_send_active_reset", "sk_rst_reason"); (arg != 0) != (reasons != nil) {
		t.Errorf("reason is argument %d, the enum has %d names: both or neither", arg, len(reasons))
	}
	if arg := k.TracepointParam("tcp_send_reset", "sk_rst_reason"); (arg == 3) != (reasons != nil) {
		t.Errorf("reason is argument %d of the tracepoint, the enum has %d names: 3 or no enum", arg, len(reasons))
	}
	if reasons != nil && reasons[0] != "NOT_SPECIFIED" {
		t.Errorf("reason 0 is %q", reasons[0])
	}
}

func TestHZ(t *testing.T) {
	hz, err := HZ()
	if err != nil {
		t.Fatal(err)
	}
	switch hz {
	case 100, 250, 300, 1000:
	default:
		t.Errorf("HZ is %d, kernel/Kconfig.hz offers 100, 250, 300, 1000", hz)
	}
}

func TestClocks(t *testing.T) {
	wall := time.Unix(0, int64(MonoNow())+WallOffset())
	if d := time.Since(wall).Abs(); d > time.Second {
		t.Errorf("the event clock is %v off the wall clock", d)
	}
}

func TestSyscallName(t *testing.T) {
	native := map[string]int32{"amd64": 3, "arm64": 57}[runtime.GOARCH]
	if got := SyscallName(native, false); got != "close" {
		t.Errorf("%d is %q, want close", native, got)
	}
	if got := SyscallName(6, true); got != "close" {
		t.Errorf("32-bit 6 is %q, want close", got)
	}
	if got := SyscallName(-1, false); got != "" {
		t.Errorf("no system call is %q", got)
	}
	if got := SyscallName(9999, false); !strings.Contains(got, "9999") {
		t.Errorf("an unknown one is %q", got)
	}
}
