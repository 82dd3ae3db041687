package metrics

import (
	"fmt"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/closetrace/closetrace/internal/events"
)

// exemplar returns the labels that lead from a counter to the connection: its id, and its ends if there is room.
func exemplar(e *events.Ending) prometheus.Labels {
	of := prometheus.Labels{}
	if e.ConnectionID != 0 {
		of["connection_id"] = fmt.Sprintf("%016x", e.ConnectionID)
	}
	ends := prometheus.Labels{"local": e.Local.String(), "remote": e.Remote.String()}
	if e.Local.IsValid() && e.Remote.IsValid() && runes(of)+runes(ends) <= prometheus.ExemplarMaxRunes {
		of["local"], of["remote"] = ends["local"], ends["remote"]
	}
	if len(of) == 0 {
		return nil
	}
	return of
}

// runes returns the length of an exemplar as OpenMetrics limits it.
func runes(labels prometheus.Labels) (n int) {
	for name, value := range labels {
		n += utf8.RuneCountInString(name) + utf8.RuneCountInString(value)
	}
	return n
}

// add adds one to a counter, with an exemplar if there is one.
func add(c prometheus.Counter, of prometheus.Labels) {
	if of == nil {
		c.Inc()
		return
	}
	c.(prometheus.ExemplarAdder).AddWithExemplar(1, of)
}

// observe adds a value to the histogram of a path, with an exemplar if there is one.
func observe(to *prometheus.HistogramVec, path events.Path, value float64, of prometheus.Labels) {
	h := to.WithLabelValues(string(path))
	if of == nil {
		h.Observe(value)
		return
	}
	h.(prometheus.ExemplarObserver).ObserveWithExemplar(value, of)
}
