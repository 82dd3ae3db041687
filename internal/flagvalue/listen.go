package flagvalue

import (
	"fmt"
	"net"

	"github.com/closetrace/closetrace/internal/hint"
)

// Listen is an address to listen at, HOST:PORT.
type Listen struct{ Address *string }

// String returns the default.
func (l Listen) String() string {
	if l.Address == nil {
		return ""
	}
	return *l.Address
}

// Type returns the placeholder of the value in the help.
func (l Listen) Type() string { return "HOST:PORT" }

// Set accepts an address with a port, which may be a name. The host is not looked up.
func (l Listen) Set(text string) error {
	const next = "for example 127.0.0.1:9740"
	_, port, err := net.SplitHostPort(text)
	if err != nil || port == "" {
		return hint.New(hint.Usage, fmt.Sprintf("%q is not HOST:PORT", text), next)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return hint.New(hint.Usage, fmt.Sprintf("%q is not a port", port), next)
	}
	*l.Address = text
	return nil
}
