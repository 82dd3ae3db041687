//go:build linux && (amd64 || arm64)

package probe

import (
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
)

// Every program of both objects is attached by some plan, and every plan finds
// its programs in them.
func TestHooksAndObjectAgree(t *testing.T) {
	for name, object := range map[string]func() (*ebpf.CollectionSpec, error){"probed": loadBpf, "plain": loadBpfPlain} {
		t.Run(name, func(t *testing.T) {
			spec, err := object()
			if err != nil {
				t.Fatal(err)
			}
			agree(t, spec)
		})
	}
}

func agree(t *testing.T, spec *ebpf.CollectionSpec) {
	t.Helper()
	used := map[string]bool{}
	collect := func(h hook) {
		if h.fires == "" {
			t.Errorf("%s does not say how often it fires", h.symbol)
		}
		for _, p := range h.programs {
			used[p.name] = true
			prog := spec.Programs[p.name]
			if prog == nil {
				t.Errorf("%s: the object has no program %s", h.symbol, p.name)
				continue
			}
			_, target, _ := strings.Cut(prog.SectionName, "/")
			_, want, ok := strings.Cut(h.symbol, ":")
			if !ok {
				want = h.symbol
			}
			if target != want {
				t.Errorf("%s sits on %s, its hook is %s", p.name, target, want)
			}
		}
	}
	for mode, list := range hooks {
		list = append(slices.Clone(list), sharedHooks[mode]...)
		for _, h := range list {
			collect(h)
			if h.instead != nil {
				collect(*h.instead)
			}
			if h.optional && h.unseen == "" {
				t.Errorf("%s is optional and does not say what is not seen without it", h.symbol)
			}
		}
	}
	for name, prog := range spec.Programs {
		if !used[name] && prog.AttachType != ebpf.AttachTraceIter && name != "trace_state_change" {
			t.Errorf("program %s is attached by no mode", name)
		}
	}
}

func TestMissionHooks(t *testing.T) {
	for _, mode := range []Mode{Fentry, Kprobe} {
		attached := symbols(newPlan(nil, mode, false, nil).hooks)
		for _, fn := range []string{"tcp_close", "__tcp_close", "tcp_shutdown", "tcp_send_fin", "tcp_send_active_reset"} {
			if !slices.Contains(attached, fn) {
				t.Errorf("%s mode does not attach %s", mode, fn)
			}
		}
	}
}

func TestPlanWithoutOptionalHooks(t *testing.T) {
	full := newPlan(nil, Fentry, false, nil)
	if full.has("fexit_tcp_close") || !full.has("fexit_tcp_close_locked") {
		t.Error("with __tcp_close, the return of tcp_close is not needed")
	}
	old := newPlan(nil, Fentry, false, []string{"__tcp_close", "inet_shutdown"})
	for _, name := range []string{"fexit_tcp_close", "fexit_tcp_shutdown", "fentry_tcp_close"} {
		if !old.has(name) {
			t.Errorf("without __tcp_close and inet_shutdown, %s has to stand in", name)
		}
	}
	if got := symbols(old.missing); !slices.Equal(got, []string{"__tcp_close", "inet_shutdown"}) {
		t.Errorf("missing %v", got)
	}
	if p := newPlan(nil, Fentry, false, []string{"tcp_send_fin"}); !p.has("fentry_tcp_send_fin") {
		t.Error("a hook that is not optional was left out")
	}
}

func TestLadder(t *testing.T) {
	if got := ladder(Auto); !slices.Equal(got, []Mode{Fentry, Kprobe, Tracepoint}) {
		t.Errorf("auto tries %v", got)
	}
	if got := ladder(Kprobe); !slices.Equal(got, []Mode{Kprobe}) {
		t.Errorf("kprobe tries %v", got)
	}
}
