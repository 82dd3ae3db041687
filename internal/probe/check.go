//go:build linux && (amd64 || arm64)

package probe

import (
	"context"
	"errors"
	"log/slog"
	"regexp"
	"slices"

	"github.com/closetrace/closetrace/internal/kernel"
)

// Report says what can be traced on this machine: each hook of each mode was loaded, attached and detached.
type Report struct {
	Modes []ModeReport `json:"modes"`
	// Takes is the mode that closetrace chooses without --attach; "" if none works.
	Takes Mode `json:"takes,omitempty"`
	// Err is the error of [Open] if no mode works.
	Err error `json:"-"`
}

// ModeReport is the result for one mode.
type ModeReport struct {
	Mode   Mode         `json:"mode"`
	Works  bool         `json:"works"`
	Reason string       `json:"reason,omitempty"` // why it does not work
	Hooks  []HookReport `json:"hooks"`
	Unseen []string     `json:"unseen"` // what it does not see on this machine
}

// HookReport is the result for one hook of a mode.
type HookReport struct {
	Hook     string `json:"hook"`
	Fires    string `json:"fires"`    // how often its programs run
	Required bool   `json:"required"` // the mode does not work without it
	Works    bool   `json:"works"`
	// Needless: not attached on this kernel, because it cannot answer, which Reason says, or because another hook shows
	// the same.
	Needless bool   `json:"needless,omitempty"`
	Reason   string `json:"reason,omitempty"` // why it does not work
	Unseen   string `json:"unseen,omitempty"` // what is not seen without it
	Shared   bool   `json:"shared,omitempty"` // only for [Options.SharedCloses]
}

// Check tries every hook of every mode that o.Attach allows. If ctx ends, it returns its cause.
func Check(ctx context.Context, o Options) (*Report, error) {
	o.Log = slog.New(slog.DiscardHandler)
	o.share()
	k, err := ready(o)
	r := &Report{Err: err}
	var refusals []error
	for _, mode := range ladder(o.Attach) {
		m := ModeReport{Mode: mode, Unseen: []string{}}
		if err == nil {
			var refusal error
			if m, refusal = checkMode(ctx, k, mode, o); refusal != nil {
				refusals = append(refusals, refusal)
			}
		} else {
			m.refuse(err)
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if m.Works && r.Takes == "" {
			r.Takes = mode
		}
		r.Modes = append(r.Modes, m)
	}
	if r.Takes == "" && r.Err == nil {
		r.Err = refused(k, o.Attach, refusals)
	}
	return r, nil
}

// refuse fills the report of a mode that could not be tried.
func (m *ModeReport) refuse(err error) {
	m.Reason = err.Error()
	for _, h := range hooks[m.Mode] {
		m.Hooks = append(m.Hooks, HookReport{
			Hook: h.symbol, Fires: h.fires, Required: !h.optional, Reason: m.Reason, Unseen: h.unseen,
		})
	}
}

func checkMode(ctx context.Context, k *kernel.Kernel, mode Mode, o Options) (ModeReport, error) {
	m := ModeReport{Mode: mode, Unseen: []string{}}
	if err := possible(mode); err != nil {
		m.refuse(err)
		return m, err
	}
	var attached []string
	p, err := openMode(ctx, k, mode, o)
	if err != nil {
		m.Reason = reason(err)
	} else {
		m.Works = true
		attached = p.header.Hooks
		m.unsee(k, p.header.Missing)
		err = p.Close()
	}
	for _, h := range hooks[mode] {
		if ctx.Err() == nil {
			m.Hooks = append(m.Hooks, checkHook(k, mode, h, attached, o))
		}
	}
	for _, h := range sharedHooks[mode] {
		if ctx.Err() == nil {
			r := checkHook(k, mode, h, nil, o)
			r.Shared = true
			m.Hooks = append(m.Hooks, r)
		}
	}
	return m, err
}

// unsee lists what the mode does not see, each once.
func (m *ModeReport) unsee(k *kernel.Kernel, missing []string) {
	add := func(unseen string) {
		if !slices.Contains(m.Unseen, unseen) {
			m.Unseen = append(m.Unseen, unseen)
		}
	}
	for _, g := range gaps[m.Mode] {
		if g.until == nil || !g.until(k) {
			add(g.unseen)
		}
	}
	for _, h := range hooks[m.Mode] {
		if slices.Contains(missing, h.symbol) {
			add(h.unseen)
		}
	}
}

// checkHook attaches one hook, configured as with all others, unless it was already attached together with them.
func checkHook(k *kernel.Kernel, mode Mode, h hook, attached []string, o Options) HookReport {
	r := HookReport{Hook: h.symbol, Fires: h.fires, Required: !h.optional}
	if h.until != nil && h.until(k) {
		r.Needless = true
		if h.useless != "" {
			r.Reason, r.Unseen = h.useless, h.unseen
		}
		return r
	}
	if !slices.Contains(attached, h.symbol) {
		if err := try(k, mode, h, o); err != nil {
			r.Reason, r.Unseen = reason(err), h.unseen
			return r
		}
	}
	r.Works = true
	return r
}

// programName matches the parts of an error that name a program, and the length of the verifier's log: the report
// already names the hook, and the same reason for all hooks is shown once.
var programName = regexp.MustCompile(`(program|attaching) \w+: | \(\d+ line\(s\) omitted\)`)

func reason(err error) string { return programName.ReplaceAllString(oneLine(err), "") }

func try(k *kernel.Kernel, mode Mode, h hook, o Options) error {
	if err := exists(k, &h, o.Fault); err != nil {
		return err
	}
	var p Probe
	err := p.load(k, newPlan(k, mode, Options{SharedCloses: true}, nil), []hook{h}, o)
	if err == nil {
		err = p.attach(&h, o.Fault)
	}
	return errors.Join(err, p.Close())
}
