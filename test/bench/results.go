//go:build linux

package main

import (
	"fmt"
	"slices"
)

// results is everything that a run of bench measures.
type results struct {
	Kernel       string        `json:"kernel"`
	Conns        int           `json:"connections"` // in each measurement
	Times        int           `json:"times"`
	PeerVersions []string      `json:"peers"`
	Starts       []startUp     `json:"starts"` // native; none where bench did not run as root
	Native       []cpuShare    `json:"native"` // none where bench did not run as root
	Measurements []measurement `json:"measurements"`
}

// measurement is one tracer under one mix. Values are per connection unless stated differently.
type measurement struct {
	Tracer    string   `json:"tracer"`
	Kind      kind     `json:"kind"`
	Mechanism string   `json:"mechanism,omitempty"`
	Mix       string   `json:"mix"`
	Closes    int      `json:"closes"`
	Absent    string   `json:"absent,omitempty"` // the package that would have it
	Failed    string   `json:"failed,omitempty"` // why a peer could not be measured
	Runs      []repeat `json:"runs,omitempty"`
	// The kernel side, by its own count.
	ProgramRuns float64 `json:"program_runs"`
	ProgramNS   float64 `json:"program_ns"` // of guest time, the counting included
	Records     float64 `json:"records"`    // in the ring buffer, if it uses one
	RecordBytes float64 `json:"record_bytes"`
	OutputBytes float64 `json:"output_bytes"`
	WakeUps     float64 `json:"wake_ups"`    // of the tracer's threads, at full speed
	ResidentKB  int     `json:"resident_kb"` // at most, of the whole process
	Lost        int     `json:"lost"`        // by its own count, in the whole session
}

// repeat is the number of instructions per connection: those outside of the tracer, and the tracer's own.
type repeat struct {
	Inline float64 `json:"inline"`
	Tracer float64 `json:"tracer"`
}

// startUp is the time from closetrace's start to its first line on this machine.
type startUp struct {
	Mechanism string    `json:"mechanism"`
	MS        []float64 `json:"ms"`
}

// cpuShare is the CPU time of a tracer under the FIN mix on the machine that runs bench, where copies and caches cost
// what they do, to that of the load.
type cpuShare struct {
	Tracer string    `json:"tracer"`
	Shares []float64 `json:"shares"`
	Lost   int       `json:"lost"`
}

func (m measurement) inline() float64 { return m.median(func(r repeat) float64 { return r.Inline }) }
func (m measurement) tracer() float64 { return m.median(func(r repeat) float64 { return r.Tracer }) }

func (m measurement) median(of func(repeat) float64) float64 {
	var values []float64
	for _, r := range m.Runs {
		values = append(values, of(r))
	}
	return median(values)
}

// spread is how far apart the runs are.
func (m measurement) spread() float64 {
	var sums []float64
	for _, r := range m.Runs {
		sums = append(sums, r.Inline+r.Tracer)
	}
	if len(sums) == 0 {
		return 0
	}
	return slices.Max(sums) - slices.Min(sums)
}

// String returns the progress line of the guest.
func (m measurement) String() string {
	if len(m.Runs) == 0 {
		return "not measured: " + m.Absent + m.Failed
	}
	return fmt.Sprintf(
		"%.0f inline, %.0f tracer, spread %.0f, %.1f runs, %.0f ns, %.2f records, %.0f B, output %.0f B, %.4f wake-ups, %d KB, %d lost",
		m.inline(),
		m.tracer(),
		m.spread(),
		m.ProgramRuns,
		m.ProgramNS,
		m.Records,
		m.RecordBytes,
		m.OutputBytes,
		m.WakeUps,
		m.ResidentKB,
		m.Lost,
	)
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// find returns the measurement of a tracer under a mix; it has no runs if there is none.
func (r *results) find(tracer, mix string) measurement {
	for _, m := range r.Measurements {
		if m.Tracer == tracer && m.Mix == mix {
			return m
		}
	}
	return measurement{}
}

// cost is what a tracer adds to the untraced run of the same mix, and the ratio of the two.
type cost struct {
	inline, tracer          float64
	inlineRatio, wholeRatio float64
	measured                bool
}

func (r *results) cost(m measurement) cost {
	base := r.find(untraced, m.Mix).inline()
	if base == 0 || len(m.Runs) == 0 {
		return cost{}
	}
	return cost{
		inline: m.inline() - base, tracer: m.tracer(), measured: true,
		inlineRatio: m.inline() / base, wholeRatio: (m.inline() + m.tracer()) / base,
	}
}

func (c cost) sum() float64 { return c.inline + c.tracer }

// mixes are those that were measured, in order.
func (r *results) mixes() []string {
	var mixes []string
	for _, m := range r.Measurements {
		if !slices.Contains(mixes, m.Mix) {
			mixes = append(mixes, m.Mix)
		}
	}
	return mixes
}
