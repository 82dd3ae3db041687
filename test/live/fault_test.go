//go:build linux

package live

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/lab"
	"github.com/closetrace/closetrace/internal/probe"
)

// touched names for each optional hook scenarios that it has a part in.
var touched = map[string][]string{
	"__tcp_close":   {"close.fin.active", "close.fin.passive", "close.rst.unread", "close.rst.linger0", "close.after-shutdown", "close.rst.unread_from-mptcp-listener"},
	"inet_shutdown": {"shutdown.listen", "shutdown.synsent", "shutdown.rd", "shutdown.wr", "shutdown.rdwr", "shutdown.notconn", "shutdown.listen_wr"},
	"tcp_disconnect": {"disconnect.rst", "disconnect.rst.unsent", "disconnect.listen", "disconnect.silent", "close.listen.migrated",
		"close.rst.accept-queue-child", "close.rst.linger0", "close.silent.linger0", "close.silent.closed.disconnected"},
	"tcp_abort": {"abort.diag", "abort.diag.listen", "abort.diag_synsent", "close.silent.closed.aborted"},
	"tcp_done": {"recv.rst", "recv.icmp", "abort.keepalive", "shutdown.rdwr.data", "reply.data-after-close", "app.write.after-reset",
		"close.silent.closed.reset", "close.silent.closed.timewait", "close.silent.closed.connect-failed"},
	"tcp_fin":               {"recv.fin", "recv.fin_finwait2"},
	"sk_stream_error":       {"app.write.after-shutdown", "app.write.not-connected"},
	"__scm_destroy":         {"close.fin.active_scm-rights"},
	"tcp_v4_send_reset":     {"reply.nosocket", "reply.tw-data"},
	"tcp_v6_send_reset":     {"reply.nosocket_ipv6", "reply.tw-data_ipv6"},
	"tcp:tcp_send_reset":    {"reply.data-after-close", "reply.fin1-ooo", "shutdown.rdwr.data", "close.rst.linger2-late"},
	"signal:signal_deliver": {"close.linger-wait.signal"},
}

// A kernel that does not have, or refuses, one of the optional hooks: the rest is traced, it is said once what is not seen, and nothing
// is told for sure that is not so. Hooks are tried side by side, as attaching and
// detaching takes seconds of waiting on some kernels.
func TestHookRefused(t *testing.T) {
	whole := trace(t, probe.Filter{})
	header := whole.header
	whole.finish(t)
	hooks := slices.DeleteFunc(probe.Optional(probe.Mode(header.Attach)), func(hook string) bool {
		return !slices.Contains(header.Hooks, hook) // not needed, or not there, on this kernel
	})
	for i, hook := range hooks {
		t.Run(hook, func(t *testing.T) {
			t.Parallel()
			if i == 0 { // each way once
				refused(t, header, probe.Fault{Hook: hook, At: probe.AtLoad}).finish(t)
				refused(t, header, probe.Fault{Hook: hook, At: probe.AtAttach}).finish(t)
			}
			tr := refused(t, header, probe.Fault{Hook: hook, At: probe.AtLookup})
			if less := runAll(t, tr, touched[hook]); less == 0 {
				t.Error("nothing is missing without it")
			}
		})
	}
}

// runAll runs scenarios side by side and returns how many endings were missing or
// told otherwise.
func runAll(t *testing.T, tr *tracer, names []string) int {
	t.Helper()
	var less atomic.Int64
	t.Run("scenarios", func(t *testing.T) {
		for _, name := range names {
			t.Run(name, func(t *testing.T) {
				sc, err := lab.Find(name)
				must(t, err)
				if sc.Alone() {
					besides.Lock()
					defer besides.Unlock()
				} else {
					t.Parallel()
					besides.RLock()
					defer besides.RUnlock()
				}
				missing := 0
				attempts(t, func(t testing.TB) {
					defer tr.countMissed(t)()
					missing = runRefused(t, tr, sc)
				})
				less.Add(int64(missing))
			})
		}
	})
	return int(less.Load())
}

// besides keeps others away from scenarios that run alone, as other hooks are
// refused at the same time.
var besides sync.RWMutex

// refused traces without a hook, and finds that just this one is missing.
func refused(t testing.TB, whole events.Header, fault probe.Fault) *tracer {
	t.Helper()
	var said bytes.Buffer
	tr := traceWith(t, probe.Options{Fault: fault, SharedCloses: true, Log: slog.New(slog.NewTextHandler(&said, nil))})
	tr.mayMiss = true // others are traced at the same time
	want := append(slices.Clone(whole.Missing), fault.Hook)
	slices.Sort(want)
	got := slices.Sorted(slices.Values(tr.header.Missing))
	if tr.header.Attach != whole.Attach || !slices.Equal(got, want) {
		t.Fatalf("%+v: by %s without %v, want %v", fault, tr.header.Attach, got, want)
	}
	if strings.Count(said.String(), "missing="+fault.Hook) != 1 || !strings.Contains(said.String(), "unseen=") {
		t.Errorf("%+v: want it said once, with what is not seen:\n%s", fault, &said)
	}
	return tr
}

// runRefused runs a scenario and returns how many of its endings were missing or
// told otherwise.
func runRefused(t testing.TB, tr *tracer, sc *lab.Scenario) (less int) {
	t.Helper()
	var sure []lab.Seen
	settle := func(res *lab.Result) {
		tr.toldBy(t)
		for _, e := range tr.of(res.Netns) {
			one, err := lab.ReadSeen(e.AppendJSON(nil))
			must(t, err)
			if e.Doubt == "" {
				sure = append(sure, one)
			}
		}
	}
	res, err := sc.Run(t.Context(), settle)
	must(t, err)
	if res.NotPossible != "" {
		t.Skip("not possible here: " + res.NotPossible)
	}
	for _, m := range lab.Contradictions(sc, tr.header.Attach, res, sure) {
		t.Error(m)
	}
	return len(lab.Compare(sc, tr.header.Attach, res, sure))
}
