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

// scenariosOf lists for each optional hook scenarios that depend on it.
var scenariosOf = map[string][]string{
	"__tcp_close":   {"close.fin.active", "close.fin.passive", "close.rst.unread", "close.rst.linger0", "close.after-shutdown", "close.rst.unread_from-mptcp-listener"},
	"inet_shutdown": {"shutdown.listen", "shutdown.synsent", "shutdown.rd", "shutdown.wr", "shutdown.rdwr", "shutdown.notconn", "shutdown.listen_wr"},
	"tcp_disconnect": {"disconnect.rst", "disconnect.rst.unsent", "disconnect.listen", "disconnect.silent", "close.listen.migrated",
		"close.rst.accept-queue-child", "close.rst.linger0", "close.silent.linger0", "close.silent.closed.disconnected"},
	"tcp_abort": {"abort.diag", "abort.diag.listen", "abort.diag_synsent", "close.silent.closed.aborted"},
	"tcp_done": {"recv.rst", "recv.icmp", "abort.keepalive", "shutdown.rdwr.data", "reply.data-after-close", "app.write.after-reset",
		"close.silent.closed.reset", "close.silent.closed.timewait", "close.silent.closed.connect-failed"},
	"nf_send_reset":         {"reply.netfilter", "reply.netfilter_output"},
	"nf_send_reset6":        {"reply.netfilter_ipv6"},
	"tcp_reset":             {"recv.rst_forged", "recv.rst_forged-ipv6"},
	"tcp_fin":               {"recv.fin", "recv.fin_finwait2"},
	"sk_stream_error":       {"app.write.after-shutdown", "app.write.not-connected"},
	"__scm_destroy":         {"close.fin.active_scm-rights"},
	"tcp_v4_send_reset":     {"reply.nosocket", "reply.tw-data"},
	"tcp_v6_send_reset":     {"reply.nosocket_ipv6", "reply.tw-data_ipv6"},
	"tcp:tcp_send_reset":    {"reply.data-after-close", "reply.fin1-ooo", "shutdown.rdwr.data", "close.rst.linger2-late"},
	"signal:signal_deliver": {"close.linger-wait.signal"},
	"task:task_rename":      {"close.fin.active_exec"},
}

// A kernel lacks or refuses one of the optional hooks: closetrace traces the
// rest, logs once what is hidden, and reports nothing wrong without a doubt.
// Hooks are tried in parallel, as attaching and detaching take seconds on some
// kernels.
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
			if missing := runAll(t, tr, scenariosOf[hook]); missing == 0 {
				t.Error("no ending is missing without it")
			}
		})
	}
}

// runAll runs scenarios in parallel and returns how many endings were missing or
// reported differently.
func runAll(t *testing.T, tr *tracer, names []string) int {
	t.Helper()
	var absent atomic.Int64
	t.Run("scenarios", func(t *testing.T) {
		for _, name := range names {
			t.Run(name, func(t *testing.T) {
				sc, err := lab.Find(name)
				must(t, err)
				if sc.Alone() {
					runAloneLock.Lock()
					defer runAloneLock.Unlock()
				} else {
					t.Parallel()
					runAloneLock.RLock()
					defer runAloneLock.RUnlock()
				}
				missing := 0
				attempts(t, func(t testing.TB) {
					defer tr.countMissed(t)()
					missing = runRefused(t, tr, sc)
				})
				absent.Add(int64(missing))
			})
		}
	})
	return int(absent.Load())
}

// runAloneLock keeps others away from scenarios that run alone, as tests of other
// hooks run in parallel.
var runAloneLock sync.RWMutex

// refused traces without a hook, and checks that exactly this hook is missing.
func refused(t testing.TB, whole events.Header, fault probe.Fault) *tracer {
	t.Helper()
	var stderr bytes.Buffer
	tr := traceWith(t, probe.Options{Fault: fault, SharedCloses: true, Log: slog.New(slog.NewTextHandler(&stderr, nil))})
	tr.mayMiss = true // others are traced at the same time
	want := append(slices.Clone(whole.Missing), fault.Hook)
	slices.Sort(want)
	got := slices.Sorted(slices.Values(tr.header.Missing))
	if tr.header.Attach != whole.Attach || !slices.Equal(got, want) {
		t.Fatalf("%+v: by %s without %v, want %v", fault, tr.header.Attach, got, want)
	}
	if strings.Count(stderr.String(), "missing="+fault.Hook) != 1 || !strings.Contains(stderr.String(), "unseen=") {
		t.Errorf("%+v: want one line with the hook and what is hidden:\n%s", fault, &stderr)
	}
	return tr
}

// runRefused runs a scenario and returns how many of its endings were missing or
// reported differently.
func runRefused(t testing.TB, tr *tracer, sc *lab.Scenario) (missing int) {
	t.Helper()
	var sure []lab.Seen
	settle := func(res *lab.Result) {
		tr.catchUp(t)
		for _, e := range tr.endingsIn(res.Netns) {
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
