//go:build linux

package live

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/rawevent"
	"github.com/closetrace/closetrace/internal/record"
)

// Without --netns the audit compares each network namespace that has endings: one that was there before, and one that
// appears during the run. It names one that ended, with the reason.
func TestAuditOfOtherNamespaces(t *testing.T) { attempts(t, auditOfOtherNamespaces) }

func auditOfOtherNamespaces(t testing.TB) {
	file := filepath.Join(t.TempDir(), "audit.rec")
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	must(t, err)
	defer null.Close()
	var r *session
	var before, during, ended uint32
	inNetns(t, func(netns uint32) {
		before = netns
		startChild(t, "idle")
		r = launchTo(t, null, "-w", file)
		resets(t, 5)
	})
	inNetns(t, func(netns uint32) {
		during = netns
		startChild(t, "idle")
		resets(t, 3)
	})
	inNetns(t, func(netns uint32) {
		ended = netns
		resets(t, 2)
	})
	code, stderr := r.interrupt(t)
	if code != 0 || lost(stderr) != 0 {
		t.Fatalf("exit code %d, said:\n%s", code, stderr)
	}
	recorded, err := record.Open(file)
	must(t, err)
	defer recorded.Close()
	in, err := record.Read(recorded, rawevent.Recorded)
	must(t, err)
	for _, err := range in.Events() {
		must(t, err)
	}
	for netns, want := range map[uint32]record.NetnsAudit{
		before: {Moved: map[string]uint64{"TcpOutRsts": 5}},
		during: {Moved: map[string]uint64{"TcpOutRsts": 3}, New: true},
		ended:  {Impossible: "it ended, or has no process or name here"},
	} {
		i := slices.IndexFunc(in.End.Audit.Others, func(o record.NetnsAudit) bool { return o.Netns == netns })
		if i < 0 {
			t.Errorf("no audit of namespace %d, said:\n%s", netns, stderr)
			continue
		}
		got := in.End.Audit.Others[i]
		if got.Impossible != want.Impossible || got.New != want.New || got.Moved["TcpOutRsts"] != want.Moved["TcpOutRsts"] {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if strings.Contains(stderr, fmt.Sprintf("audit of network namespace %d:", netns)) {
			t.Errorf("a difference in namespace %d:\n%s", netns, stderr)
		}
	}
	_, skipped, _ := strings.Cut(stderr, "\naudit skipped for ")
	if !strings.Contains(skipped, itoa(int(ended))) {
		t.Errorf("the namespace that ended is not named:\n%s", stderr)
	}
}
