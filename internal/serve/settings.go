package serve

import (
	"fmt"
	"net"

	"github.com/closetrace/closetrace/internal/hint"
)

// The largest settings. More series than these take a scrape longer than a scraper waits.
const (
	mostSeries = 100_000
	mostLast   = 10_000
)

// Check returns an error for settings or an address that cannot be.
func Check(listen string, s Settings) error {
	_, port, err := net.SplitHostPort(listen)
	if err != nil || port == "" {
		return hint.New(hint.Usage, fmt.Sprintf("listen: %q is not HOST:PORT", listen), "for example "+DefaultListen)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return hint.New(hint.Usage, fmt.Sprintf("listen: %q is not a port", port), "for example "+DefaultListen)
	}
	for _, of := range []struct {
		name    string
		n, most int
	}{
		{"workloads", s.Bounds.Workloads, mostSeries}, {"series", s.Bounds.Series, mostSeries}, {"last", s.Last, mostLast},
	} {
		if of.n < 0 || of.n > of.most {
			return hint.New(hint.Usage, fmt.Sprintf("%s: %d is not from 0 to %d", of.name, of.n, of.most),
				"choose another number")
		}
	}
	return nil
}
