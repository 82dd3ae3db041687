package flagvalue

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/closetrace/closetrace/internal/hint"
)

// Connection is one connection, by the addresses and ports of its ends. The flag can be repeated.
type Connection struct{ List *[][2]netip.AddrPort }

// String returns "": there is no default.
func (c Connection) String() string { return "" }

// Type returns the placeholder of the value in the help.
func (c Connection) Type() string { return "ENDS" }

// Set adds a connection. Its ends may be separated as in a log line.
func (c Connection) Set(text string) error {
	var ends []netip.AddrPort
	for _, word := range strings.Fields(strings.NewReplacer(",", " ", "->", " ", "→", " ").Replace(text)) {
		end, err := netip.ParseAddrPort(word)
		if err != nil || end.Port() == 0 {
			ends = nil
			break
		}
		ends = append(ends, netip.AddrPortFrom(end.Addr().Unmap().WithZone(""), end.Port()))
	}
	if len(ends) != 2 {
		return hint.New(hint.Usage, fmt.Sprintf("%q is not a connection", text),
			"use both ends, in any order: 10.0.0.5:33042,10.0.0.9:443 or [2001:db8::1]:33042,[2001:db8::2]:443")
	}
	*c.List = append(*c.List, [2]netip.AddrPort(ends))
	return nil
}
