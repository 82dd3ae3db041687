//go:build linux && (amd64 || arm64)

package probe

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"time"

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
		attached := symbols(newPlan(nil, mode, Options{}, nil).hooks)
		for _, fn := range []string{"tcp_close", "__tcp_close", "tcp_shutdown", "tcp_send_fin", "tcp_send_active_reset"} {
			if !slices.Contains(attached, fn) {
				t.Errorf("%s mode does not attach %s", mode, fn)
			}
		}
	}
}

func TestPlanWithoutOptionalHooks(t *testing.T) {
	full := newPlan(nil, Fentry, Options{}, nil)
	if full.has("fexit_tcp_close") || !full.has("fexit_tcp_close_locked") {
		t.Error("with __tcp_close, the return of tcp_close is not needed")
	}
	old := newPlan(nil, Fentry, Options{}, []string{"__tcp_close", "inet_shutdown"})
	for _, name := range []string{"fexit_tcp_close", "fexit_tcp_shutdown", "fentry_tcp_close"} {
		if !old.has(name) {
			t.Errorf("without __tcp_close and inet_shutdown, %s has to stand in", name)
		}
	}
	if got := symbols(old.missing); !slices.Equal(got, []string{"__tcp_close", "inet_shutdown"}) {
		t.Errorf("missing %v", got)
	}
	if p := newPlan(nil, Fentry, Options{}, []string{"tcp_send_fin"}); !p.has("fentry_tcp_send_fin") {
		t.Error("a hook that is not optional was left out")
	}
}

// The quiet tier leaves out what fires for every ordinary close, if what it infers that from is there.
func TestQuietPlanLeavesOut(t *testing.T) {
	both, all := Options{Quiet: Quiet{Active: true, Passive: true}}, []string{"tcp_close", "tcp_send_fin"}
	for name, tt := range map[string]struct {
		mode   Mode
		o      Options
		absent []string
		want   []string // are attached, of tcp_close and tcp_send_fin
	}{
		"fentry":                   {Fentry, both, nil, nil},
		"kprobe":                   {Kprobe, both, []string{"tcp_fin"}, nil},
		"one kind":                 {Fentry, Options{Quiet: Quiet{Active: true}}, nil, []string{"tcp_send_fin"}},
		"full":                     {Fentry, Options{}, nil, all},
		"without the locked close": {Fentry, both, []string{"__tcp_close"}, all},
		"without shutdowns":        {Fentry, both, []string{"inet_shutdown"}, []string{"tcp_send_fin"}},
		"without disconnects":      {Kprobe, both, []string{"tcp_disconnect"}, all},
		"tracepoint":               {Tracepoint, both, nil, nil},
	} {
		p := newPlan(nil, tt.mode, tt.o, tt.absent)
		attached := symbols(p.hooks)
		for _, fn := range all {
			if want := slices.Contains(tt.want, fn); slices.Contains(attached, fn) != want {
				t.Errorf("%s: %s attached %v", name, fn, !want)
			}
		}
		infers := tt.mode != Tracepoint && !slices.Contains(tt.want, "tcp_send_fin")
		if p.infersFINs() != infers || slices.Contains(symbols(p.missing), "tcp_send_fin") {
			t.Errorf("%s: infers FINs %v, missing %v", name, p.infersFINs(), symbols(p.missing))
		}
	}
}

// Without these functions, the kernel side cannot tell an ordinary close when it begins.
func TestQuietNeedsHooks(t *testing.T) {
	o := Options{Quiet: Quiet{Active: true, Passive: true}, CloseWait: time.Second}
	for _, mode := range []Mode{Fentry, Kprobe} {
		for absent, want := range map[string]Quiet{
			"__tcp_close": {}, "tcp_disconnect": {}, "tcp_fin": o.Quiet,
		} {
			p := newPlan(nil, mode, o, []string{absent})
			if got := o.quiet(&p); got != want {
				t.Errorf("%v without %s: counts %+v, not %+v", mode, absent, got, want)
			}
		}
	}
	p := newPlan(nil, Tracepoint, o, nil)
	if got := o.quiet(&p); got != o.Quiet {
		t.Errorf("tracepoint: counts %+v, not %+v", got, o.Quiet)
	}
}

// The place of a FIN follows from the ports as the kernel has them: the remote one in network order, then the local one
// in host order.
func TestFINPlace(t *testing.T) {
	const local, remote = 443, 51234
	var portpair [4]byte
	binary.BigEndian.PutUint16(portpair[:], remote)
	binary.NativeEndian.PutUint16(portpair[2:], local)
	hash := binary.NativeEndian.Uint32(portpair[:]) * finHash
	if got := finPlace(local, remote); got != hash>>(32-finBits) || got >= finPlaces {
		t.Errorf("place %d", got)
	}
	if finPlace(local, remote) == finPlace(remote, local) {
		t.Error("both ends of a connection on this host have one place")
	}
}

// A function of a module that is not loaded is missing, and no fault of the kernel.
func TestModuleNotLoaded(t *testing.T) {
	absent := hook{symbol: "no_such_function", module: "no_such_module"}
	for name, h := range map[string]*hook{"another module": &absent, "no module": {symbol: absent.symbol}} {
		if h.notLoaded() != (h == &absent) {
			t.Errorf("%s: not loaded %v", name, h.notLoaded())
		}
	}
	for _, mode := range []Mode{Fentry, Kprobe} {
		for _, symbol := range []string{"nf_send_reset", "nf_send_reset6"} {
			i := slices.IndexFunc(hooks[mode], func(h hook) bool { return h.symbol == symbol })
			if i < 0 || !hooks[mode][i].optional || hooks[mode][i].module == "" {
				t.Errorf("%s, %s: not optional, or of no module", mode, symbol)
			}
		}
	}
}

func TestHidesPeers(t *testing.T) {
	for hides, filters := range map[bool][]Filter{
		false: {{}, {Ports: []uint16{80}}, {IPv4: true}, {Netns: []uint32{7}}},
		true:  {{LocalPorts: []uint16{80}}, {RemotePorts: []uint16{80}}, {Cgroups: []uint64{1}}},
	} {
		for _, f := range filters {
			if f.HidesPeers() != hides {
				t.Errorf("%+v: %v", f, !hides)
			}
		}
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
