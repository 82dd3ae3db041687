package flagvalue

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/explain"
	"github.com/closetrace/closetrace/internal/filter"
	"github.com/closetrace/closetrace/internal/hint"
)

// List is a flag that adds to a list, each once, what the words between commas stand for. It can be repeated.
type List[T comparable] struct {
	to    *[]T
	parse func(word string) ([]T, error)
	sort  func([]T) // nil keeps the order of the words
}

// String returns "": there is no default.
func (l List[T]) String() string { return "" }

// Type returns the placeholder of the value in the help.
func (l List[T]) Type() string { return "LIST" }

// Set adds what the words of text stand for. After an error, those before it are in the list.
func (l List[T]) Set(text string) error {
	has := map[T]bool{}
	for _, value := range *l.to {
		has[value] = true
	}
	for word := range strings.SplitSeq(text, ",") {
		values, err := l.parse(strings.TrimSpace(word))
		if err != nil {
			return err
		}
		for _, value := range values {
			if !has[value] {
				has[value] = true
				*l.to = append(*l.to, value)
			}
		}
	}
	if l.sort != nil {
		l.sort(*l.to)
	}
	return nil
}

// Words is a list of words.
func Words(to *[]string) List[string] {
	return List[string]{to: to, parse: func(word string) ([]string, error) {
		if word == "" {
			return nil, hint.New(hint.Usage, "empty name", "separate names by commas: nginx,php-fpm*")
		}
		return []string{word}, nil
	}}
}

// maxPID is the highest process id that Linux gives (PID_MAX_LIMIT).
const maxPID = 1 << 22

// PIDs is a list of process ids.
func PIDs(to *[]uint32) List[uint32] {
	return List[uint32]{to: to, parse: func(word string) ([]uint32, error) {
		id, err := strconv.ParseUint(word, 10, 32)
		if err != nil || id < 1 || id > maxPID {
			return nil, hint.New(hint.Usage, fmt.Sprintf("%q is not a process id", word),
				fmt.Sprintf("use numbers from 1 to %d, separated by commas", maxPID))
		}
		return []uint32{uint32(id)}, nil
	}}
}

// Ports is a list of ports, each a number, a range or the name of a service. The list is sorted.
func Ports(to *[]uint16) List[uint16] {
	return List[uint16]{to: to, sort: slices.Sort[[]uint16], parse: func(word string) (ports []uint16, err error) {
		first, last, ok := parsePorts(word)
		if !ok {
			return nil, hint.New(hint.Usage, fmt.Sprintf("%q is not a port", word),
				"use numbers from 1 to 65535, ranges such as 8000-8100 or names such as https, separated by commas")
		}
		for port := int(first); port <= int(last); port++ {
			ports = append(ports, uint16(port))
		}
		return ports, nil
	}}
}

// parsePorts returns the ends of a range, which may be a single port.
func parsePorts(word string) (first, last uint16, ok bool) {
	if first, ok = parsePort(word); ok {
		return first, first, true
	}
	from, to, isRange := strings.Cut(word, "-")
	if first, ok = parsePort(from); isRange && ok {
		last, ok = parsePort(to)
		return first, last, ok && first <= last
	}
	if word == "" || word[0] < 'a' || word[0] > 'z' {
		return 0, 0, false
	}
	n, err := (&net.Resolver{PreferGo: true}).LookupPort(context.Background(), "tcp", word) // reads /etc/services
	return uint16(n), uint16(n), err == nil && n > 0
}

func parsePort(word string) (uint16, bool) {
	n, err := strconv.ParseUint(word, 10, 16)
	return uint16(n), err == nil && n > 0
}

// Users is a list of users, each an id or the name of a user of this machine.
func Users(to *[]uint32) List[uint32] {
	return List[uint32]{to: to, parse: func(word string) ([]uint32, error) {
		id, err := strconv.ParseUint(word, 10, 32)
		if known, lookupErr := user.Lookup(word); err != nil && lookupErr == nil {
			id, err = strconv.ParseUint(known.Uid, 10, 32)
		}
		if err != nil {
			return nil, hint.New(hint.Usage, fmt.Sprintf("no user %q", word), "use ids or names, such as 33 or www-data")
		}
		return []uint32{uint32(id)}, nil
	}}
}

// Networks is a list of networks or single addresses. IPv4-mapped IPv6 addresses become IPv4.
func Networks(to *[]netip.Prefix) List[netip.Prefix] {
	return List[netip.Prefix]{to: to, parse: func(word string) ([]netip.Prefix, error) {
		prefix, err := netip.ParsePrefix(word)
		if ip, ipErr := netip.ParseAddr(word); ipErr == nil {
			ip = ip.Unmap().WithZone("")
			prefix, err = netip.PrefixFrom(ip, ip.BitLen()), nil
		}
		if ip := prefix.Addr(); ip.Is4In6() && prefix.Bits() >= 96 {
			prefix = netip.PrefixFrom(ip.Unmap(), prefix.Bits()-96)
		}
		if err != nil {
			return nil, hint.New(hint.Usage, fmt.Sprintf("%q is not a network", word),
				"use for example 10.0.0.0/8, 2001:db8::/32 or a single address")
		}
		return []netip.Prefix{prefix}, nil
	}}
}

// Patterns is a list of patterns of endings, each of which must match a path.
func Patterns(to *[]filter.Pattern) List[filter.Pattern] {
	return List[filter.Pattern]{to: to, parse: func(word string) ([]filter.Pattern, error) {
		pattern := filter.Pattern(word)
		if !namesAny(pattern) {
			return nil, hint.New(hint.Usage, fmt.Sprintf("no path matches %q", word),
				Suggest(word, PatternWords(),
					"closetrace explain lists the paths; * matches anything; rst, fin and errors also work"))
		}
		return []filter.Pattern{pattern}, nil
	}}
}

func namesAny(p filter.Pattern) bool {
	return slices.Contains(filter.Words(), string(p)) ||
		slices.ContainsFunc(events.Paths(), func(i events.PathInfo) bool { return p.Covers(i.Path) })
}

// PatternWords returns the patterns without a *: words, families, paths.
func PatternWords() []string {
	all := filter.Words()
	for _, p := range events.Paths() {
		if family := p.Path.Family(); !slices.Contains(all, family) {
			all = append(all, family)
		}
		all = append(all, string(p.Path))
	}
	return all
}

// States is a list of TCP states, in the spelling of the kernel or of ss(8).
func States(to *[]events.State) List[events.State] {
	return List[events.State]{to: to, parse: func(word string) ([]events.State, error) {
		state, ok := events.ParseState(word)
		if !ok {
			return nil, hint.New(hint.Usage, fmt.Sprintf("%q is not a TCP state", word),
				Suggest(word, StateNames(), "use one of "+strings.Join(StateNames(), ", ")))
		}
		return []events.State{state}, nil
	}}
}

// StateNames returns the names of the TCP states.
func StateNames() []string {
	var names []string
	for s := events.Established; s <= events.BoundInactive; s++ {
		names = append(names, s.String())
	}
	return names
}

// Suggest returns a hint with the words that are similar to word, or otherwise if there are none.
func Suggest(word string, of []string, otherwise string) string {
	if near := explain.Suggest(word, of); len(near) > 0 {
		return DidYouMean(near)
	}
	return otherwise
}

// DidYouMean returns a hint with words, of which there is at least one.
func DidYouMean(words []string) string {
	last := len(words) - 1
	text := words[last]
	if last > 0 {
		text = strings.Join(words[:last], ", ") + " or " + text
	}
	return "did you mean " + text + "?"
}
