// Command grafana prints the dashboard of closetrace serve for Grafana: go run . > closetrace.json
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
	"github.com/grafana/grafana-foundation-sdk/go/units"
)

// panel is a graph. Its legend names the series by labels.
type panel struct {
	title, about, unit string
	expr, legend       string
}

// selected are the hosts that are shown, workloads those and the workloads.
const (
	selected  = `job="closetrace", instance=~"$instance"`
	workloads = selected + `, workload=~"$workload"`
)

// histogram says where the precision of a quantile comes from.
const histogram = "Native histogram, or the few buckets of a classic one where Prometheus does not scrape native ones."

// quantile returns the expression of a quantile by path. A Prometheus that does not scrape native histograms, which is
// the default, has the classic buckets, and the other way around.
func quantile(q, metric string) string {
	of := func(metric, labels string) string {
		return `histogram_quantile(` + q + `, sum by (` + labels + `) (rate(` + metric + `{` + selected +
			`}[$__rate_interval])))`
	}
	return of(metric, "path") + " or " + of(metric+"_bucket", "path, le")
}

// rows are the panels, two a line.
var rows = []struct {
	title  string
	panels []panel
}{
	{"Endings", []panel{
		{
			"Endings by path", "Ordinary closes are counted for all processes: workload any.", units.EventsPerSecond,
			`sum by (path) (rate(closetrace_tcp_endings_total{` + workloads + `}[$__rate_interval]))`, "{{path}}",
		},
		{
			"Resets by workload and reason", "The kernel gives a reason from Linux 6.10 on.", units.EventsPerSecond,
			`sum by (direction, workload, reason) (rate(closetrace_tcp_resets_total{` + workloads + `}[$__rate_interval]))`,
			"{{workload}} {{direction}} {{reason}}",
		},
		{
			"Unread bytes, median", "What a close threw away. " + histogram, units.BytesIEC,
			quantile("0.5", "closetrace_tcp_unread_bytes"), "{{path}}",
		},
		{
			"Time that SO_LINGER blocked close(2), 99 %", histogram, units.Seconds,
			quantile("0.99", "closetrace_tcp_linger_wait_seconds"), "{{path}}",
		},
	}},
	{"Sockets that do not close", []panel{
		{
			"Stuck sockets by diagnosis", "closetrace stuck lists them.", units.Short,
			`sum by (workload, state, diagnosis) (closetrace_sockets_stuck{` + workloads + `})`,
			"{{workload}} {{state}} {{diagnosis}}",
		},
		{
			"Oldest", "For how long at least the oldest one has been in its state.", units.Seconds,
			`max by (workload, state, diagnosis) (closetrace_sockets_stuck_oldest_seconds{` + workloads + `})`,
			"{{workload}} {{state}} {{diagnosis}}",
		},
	}},
	{"closetrace", []panel{
		{
			"Records lost, probes missed", "Above 0, some endings were not seen.", units.EventsPerSecond,
			`sum by (instance) (rate(closetrace_records_lost_total{` + selected + `}[$__rate_interval])) + ` +
				`sum by (instance) (rate(closetrace_probes_missed_total{` + selected + `}[$__rate_interval]))`,
			"{{instance}}",
		},
		{
			"Kernel counters not explained by endings", "Growing: closetrace misses endings.", units.Short,
			`max by (instance, counter) (closetrace_audit_unexplained{` + selected + `})`, "{{instance}} {{counter}}",
		},
		{
			"Exports dropped", "The collector is away, slow or refuses records.", units.EventsPerSecond,
			`sum by (instance) (rate(closetrace_export_dropped_total{` + selected + `}[$__rate_interval]))`, "{{instance}}",
		},
		{
			"Recording failed", "1: endings are traced and not recorded, until a restart.", units.Short,
			`max by (instance) (closetrace_recording_failed{` + selected + `})`, "{{instance}}",
		},
		{
			"Counted as workload other", "Above 0: more workloads than --workloads.", units.EventsPerSecond,
			`sum by (instance) (rate(closetrace_series_overflow_total{` + selected + `}[$__rate_interval]))`, "{{instance}}",
		},
		{
			"Memory", "", units.BytesIEC,
			`max by (instance) (process_resident_memory_bytes{` + selected + `})`, "{{instance}}",
		},
		{
			"Replies left out by the rate limit", "RSTs in reply that the kernel side only counted.", units.EventsPerSecond,
			`sum by (instance) (rate(closetrace_replies_suppressed_total{` + selected + `}[$__rate_interval]))`, "{{instance}}",
		},
	}},
}

func main() {
	built, err := build().Build()
	if err != nil {
		fail(err)
	}
	text, err := json.MarshalIndent(built, "", "  ")
	if err != nil {
		fail(err)
	}
	fmt.Println(string(text))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "grafana:", err)
	os.Exit(1)
}

func build() *dashboard.DashboardBuilder {
	source := common.DataSourceRef{Type: new("prometheus"), Uid: new("$datasource")}
	board := dashboard.NewDashboardBuilder("closetrace: how TCP connections end").Uid("closetrace").
		Tags([]string{"closetrace", "tcp"}).Time("now-6h", "now").Refresh("1m").
		Tooltip(dashboard.DashboardCursorSyncCrosshair).
		WithVariable(dashboard.NewDatasourceVariableBuilder("datasource").Label("Prometheus").Type("prometheus")).
		WithVariable(values("instance", "Host", source, `label_values(closetrace_build_info{job="closetrace"}, instance)`)).
		WithVariable(values("workload", "Workload", source,
			`label_values(closetrace_tcp_endings_total{`+selected+`}, workload)`))
	legend := common.NewVizLegendOptionsBuilder().ShowLegend(true).DisplayMode(common.LegendDisplayModeList).
		Placement(common.LegendPlacementBottom)
	tooltip := common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeMulti).
		Sort(common.SortOrderDescending)
	for _, row := range rows {
		board.WithRow(dashboard.NewRowBuilder(row.title))
		for _, p := range row.panels {
			board.WithPanel(timeseries.NewPanelBuilder().Title(p.title).Description(p.about).Unit(p.unit).Min(0).
				Datasource(source).Height(8).Span(12).Legend(legend).Tooltip(tooltip).
				WithTarget(prometheus.NewDataqueryBuilder().Expr(p.expr).LegendFormat(p.legend).Range().Exemplar(true)))
		}
	}
	return board
}

// values is a variable with the values of a label.
func values(name, label string, source common.DataSourceRef, query string) *dashboard.QueryVariableBuilder {
	return dashboard.NewQueryVariableBuilder(name).Label(label).Datasource(source).
		Query(dashboard.StringOrMap{String: &query}).Refresh(dashboard.VariableRefreshOnTimeRangeChanged).
		Multi(true).IncludeAll(true).AllValue(".*")
}
