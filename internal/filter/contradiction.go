package filter

import (
	"net/netip"
	"slices"

	"github.com/closetrace/closetrace/internal/events"
)

// Contradiction returns why no ending can match both filters, "" if one can.
func Contradiction(ev *Events, f *Endings) string {
	in := func(list []uint16) func(uint16) bool { return func(p uint16) bool { return slices.Contains(list, p) } }
	excluded := func(ports []uint16) bool {
		isShown := func(p uint16) bool { return !slices.Contains(f.NotPorts, p) }
		return len(ports) > 0 && !slices.ContainsFunc(ports, isShown)
	}
	switch {
	case len(f.Only) > 0 && !slices.ContainsFunc(f.Only, f.allows):
		return "--not hides all that --only shows"
	case f.Errors && len(f.Only) > 0 && !slices.ContainsFunc(f.Only, mayBeAbnormal):
		return "no ending that --only shows is one of --errors"
	case f.Errors && slices.Contains(f.Not, "errors"):
		return "--not hides all that --errors shows"
	case excluded(ev.Ports) || excluded(ev.LocalPorts) || excluded(ev.RemotePorts):
		return "--exclude-port hides all that the filter by port shows"
	case len(ev.Ports) > 0 && len(ev.LocalPorts) > 0 && len(ev.RemotePorts) > 0 &&
		!slices.ContainsFunc(ev.Ports, in(append(slices.Clone(ev.LocalPorts), ev.RemotePorts...))):
		return "no port of --port is one of --lport or --rport"
	case ev.IPv4 != ev.IPv6 && len(f.Nets) > 0 && !slices.ContainsFunc(f.Nets, func(net netip.Prefix) bool {
		return net.Addr().Is4() == ev.IPv4
	}):
		return "no network of --cidr is of the address family"
	case !f.Since.IsZero() && !f.Until.IsZero() && f.Until.Before(f.Since):
		return "--until is before --since"
	}
	return ""
}

// mayBeAbnormal reports whether an ending that the pattern matches can be abnormal.
func mayBeAbnormal(p Pattern) bool {
	if _, isWord := words[p]; isWord {
		return true
	}
	return slices.ContainsFunc(events.Paths(), func(i events.PathInfo) bool {
		return p.Covers(i.Path) && i.Abnormal != events.Never
	})
}

// allows reports whether --not leaves anything of a pattern.
func (f *Endings) allows(p Pattern) bool {
	if slices.Contains(f.Not, p) {
		return false
	}
	if _, isWord := words[p]; isWord {
		return true
	}
	return slices.ContainsFunc(events.Paths(), func(i events.PathInfo) bool {
		return p.Covers(i.Path) && !slices.ContainsFunc(f.Not, func(not Pattern) bool {
			_, isWord := words[not]
			return !isWord && not.Covers(i.Path)
		})
	})
}
