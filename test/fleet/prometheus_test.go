package fleet

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// startPrometheus starts Prometheus with the configuration and the rules of deploy/, for the agents, and scrapes each
// second.
func (f *fleet) startPrometheus(t *testing.T, dir string) {
	var targets []string
	for listen := range f.agents {
		targets = append(targets, "'"+listen+"'")
	}
	text, err := os.ReadFile("../../deploy/prometheus/prometheus.yml")
	if err != nil {
		t.Fatal(err)
	}
	rules, err := filepath.Abs(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	config := strings.NewReplacer("'127.0.0.1:9740'", strings.Join(targets, ", "), "15s", "1s", "rules.yml", rules).
		Replace(string(text))
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	at := freeAddress(t)
	start(t, debianBinary(t, "prometheus"), "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "tsdb"),
		"--web.listen-address="+at, "--enable-feature=native-histograms,exemplar-storage", "--log.level=warn")
	f.prometheus = "http://" + at
	answers(t, f.prometheus+"/-/ready")
}

// sample is a series and its last value.
type sample struct {
	Metric map[string]string
	Value  [2]any // time and value
}

// api asks Prometheus.
func (f *fleet) api(t *testing.T, path string, into any) {
	t.Helper()
	text, err := get(t, f.prometheus+"/api/v1/"+path)
	if err == nil {
		err = json.Unmarshal(text, &struct{ Data any }{into})
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func (f *fleet) promQL(t *testing.T, query string) []sample {
	t.Helper()
	var data struct{ Result []sample }
	f.api(t, "query?query="+url.QueryEscape(query), &data)
	return data.Result
}

// metrics compares what Prometheus scraped with the workload.
func (f *fleet) metrics(t *testing.T) {
	client, server := workloadOf(clientName), workloadOf(serverName)
	unread, aborted := f.total(serverLeavesUnread), f.total(clientAborts)
	for query, want := range map[string]int{
		fmt.Sprintf(`sum(closetrace_tcp_endings_total{path="close.rst.unread", workload=%q})`, server):  unread,
		fmt.Sprintf(`sum(closetrace_tcp_endings_total{path="close.rst.linger0", workload=%q})`, client): aborted,
		`sum(closetrace_tcp_endings_total{path="recv.rst"})`:                                            unread + aborted,
		`sum(closetrace_tcp_resets_total{direction="sent"})`:                                            unread + aborted,
		`sum(histogram_count(closetrace_tcp_unread_bytes{path="close.rst.unread"}))`:                    unread,
		`sum(histogram_sum(closetrace_tcp_unread_bytes{path="close.rst.unread"}))`:                      unread * unreadBytes,
		`sum(closetrace_sockets_stuck{state="CLOSE_WAIT"})`:                                             f.total(serverNeverCloses),
		`sum(closetrace_export_dropped_total)`:                                                          0,
		`sum(closetrace_records_lost_total)`:                                                            0,
		`count(closetrace_build_info)`:                                                                  len(hosts),
	} {
		eventually(t, query, func() error {
			got := f.promQL(t, query)
			if len(got) != 1 || got[0].Value[1] != strconv.Itoa(want) {
				return fmt.Errorf("%v, want %d", got, want)
			}
			return nil
		})
	}
}

// exemplar follows an exemplar of the metrics to the connection in the store.
func (f *fleet) exemplar(t *testing.T) {
	now := time.Now()
	var data []struct {
		Exemplars []struct{ Labels map[string]string }
	}
	query := url.QueryEscape(`closetrace_tcp_endings_total{path="close.rst.unread"}`)
	f.api(t, fmt.Sprintf("query_exemplars?query=%s&start=%d&end=%d", query, now.Unix()-3600, now.Unix()+1), &data)
	id := ""
	for _, series := range data {
		for _, e := range series.Exemplars {
			id = e.Labels["connection_id"]
		}
	}
	if id == "" {
		t.Fatalf("no exemplar has a connection_id: %v", data)
	}
	text, err := os.ReadFile("../../deploy/victorialogs/one_connection.logsql")
	if err != nil {
		t.Fatal(err)
	}
	of := map[string]string{}
	for _, row := range f.ask(t, strings.Replace(string(text), "0123456789abcdef", id, 1)) {
		of[row["closetrace.path"]] = row["host.name"]
	}
	if of["close.rst.unread"] != serverHost || of["recv.rst"] == "" || of["recv.rst"] == serverHost {
		t.Errorf("connection %s: %v", id, of)
	}
}

// rules checks that Prometheus evaluates each rule.
func (f *fleet) rules(t *testing.T) {
	eventually(t, "the rules are evaluated", func() error {
		var data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError string }
			}
		}
		f.api(t, "rules", &data)
		n := 0
		for _, g := range data.Groups {
			for _, r := range g.Rules {
				if n++; r.Health != "ok" {
					return fmt.Errorf("%s: %s %s", r.Name, r.Health, r.LastError)
				}
			}
		}
		if n < 9 {
			return fmt.Errorf("%d rules", n)
		}
		return nil
	})
}

// blind ends one agent: the alert on it is pending then.
func (f *fleet) blind(t *testing.T) {
	var dead string
	for listen, agent := range f.agents {
		dead = listen
		agent.end()
		if text := agent.stderr.String(); !strings.Contains(text, "export: 0 endings dropped") {
			t.Errorf("at its end it says\n%s", text)
		}
		break
	}
	eventually(t, "an alert is pending", func() error {
		got := f.promQL(t, `ALERTS{alertname="ClosetraceDown"}`)
		if len(got) != 1 || got[0].Metric["instance"] != dead || got[0].Metric["alertstate"] != "pending" {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
}

// dashboard runs each expression of the dashboard. Those of what the workload did have a result.
func (f *fleet) dashboard(t *testing.T) {
	text, err := os.ReadFile("../../deploy/grafana/closetrace.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	quiet := []string{
		"Time that SO_LINGER blocked close(2), 99 %", "Kernel counters not explained by endings", "Recording failed",
	}
	n := 0
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			n++
			expr := strings.NewReplacer("$__rate_interval", "1m", "$instance", ".*", "$workload", ".*").Replace(target.Expr)
			if got := f.promQL(t, expr); len(got) > 0 || slices.Contains(quiet, p.Title) {
				continue
			}
			eventually(t, p.Title, func() error { // a rate needs two scrapes
				if len(f.promQL(t, expr)) == 0 {
					return fmt.Errorf("no result of %s", expr)
				}
				return nil
			})
		}
	}
	if n < 10 {
		t.Errorf("%d expressions", n)
	}
}

// The dashboard has each metric of the documents, and its panels show which line is what.
func TestDashboardIsComplete(t *testing.T) {
	text, err := os.ReadFile("../../deploy/grafana/closetrace.json")
	if err != nil {
		t.Fatal(err)
	}
	documents, err := os.ReadFile("../../docs/serve.md")
	if err != nil {
		t.Fatal(err)
	}
	metrics := regexp.MustCompile("(?m)^\\| `(closetrace_\\w+)`").FindAllSubmatch(documents, -1)
	for _, m := range metrics {
		if !bytes.Contains(text, m[1]) {
			t.Errorf("no panel has %s", m[1])
		}
	}
	if len(metrics) < 10 {
		t.Errorf("docs/serve.md has %d metrics", len(metrics))
	}
	if bytes.Contains(text, []byte(`"showLegend": false`)) {
		t.Error("a panel has no legend")
	}
}

// Each panel of a native histogram also asks for the classic buckets: by default, Prometheus does not scrape native
// ones.
func TestDashboardNeedsNoNativeHistograms(t *testing.T) {
	text, err := os.ReadFile("../../deploy/grafana/closetrace.json")
	if err != nil {
		t.Fatal(err)
	}
	classic := strings.NewReplacer("by (path)", "by (path, le)", "{job=", "_bucket{job=")
	panels := regexp.MustCompile(`"expr": "(histogram_quantile.*)"`).FindAllStringSubmatch(string(text), -1)
	for _, p := range panels {
		native, or, _ := strings.Cut(p[1], " or ")
		if want := classic.Replace(native); or != want {
			t.Errorf("%s\nor %s\nwant %s", native, or, want)
		}
	}
	if len(panels) != 2 {
		t.Errorf("%d panels of histograms", len(panels))
	}
}

// The dashboard is what its program prints.
func TestDashboardIsGenerated(t *testing.T) {
	needsEngines(t)
	text, err := os.ReadFile("../../deploy/grafana/closetrace.json")
	if err != nil {
		t.Fatal(err)
	}
	if got := output(t, "", "go", "-C", "../../deploy/grafana", "run", "."); got != string(text) {
		t.Error("deploy/grafana/closetrace.json is not what its program prints\n" +
			"hint: cd deploy/grafana && go run . > closetrace.json")
	}
}

// Alertmanager and Prometheus accept the configurations, and alerts go where the documents say.
func TestConfigurations(t *testing.T) {
	amtool, promtool := debianBinary(t, "amtool"), debianBinary(t, "promtool")
	const file = "../../deploy/prometheus/alertmanager.yml"
	output(t, "", amtool, "check-config", file)
	for severity, want := range map[string]string{"critical": "pager", "warning": "channel"} {
		got := output(t, "", amtool, "config", "routes", "test", "--config.file="+file, "severity="+severity)
		if strings.TrimSpace(got) != want {
			t.Errorf("%s goes to %s, want %s", severity, got, want)
		}
	}
	output(t, "", promtool, "check", "config", "../../deploy/prometheus/prometheus.yml")
}
