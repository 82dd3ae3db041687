package fleet

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/template"
	"time"

	collector "go.opentelemetry.io/proto/slim/otlp/collector/logs/v1"
	common "go.opentelemetry.io/proto/slim/otlp/common/v1"
	"google.golang.org/protobuf/proto"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/otlp"
)

// clickHouseProgram answers the statements of its standard input, a JSON array, with the rows of each, every value as
// text. It is the engine of ClickHouse itself, with its tables in a directory, and without a server.
const clickHouseProgram = `
const { Session } = require(process.argv[2] + '/node_modules/chdb')
const session = new Session(process.argv[3])
const answers = JSON.parse(require('fs').readFileSync(0, 'utf8')).map(s => session.query(s, 'JSONStringsEachRow'))
console.log(JSON.stringify(answers))`

// clickHouse is a ClickHouse with the table of the Collector's exporter and deploy/clickhouse/views.sql.
type clickHouse struct{ modules, script, tables string }

func newClickHouse(t *testing.T) *clickHouse {
	t.Helper()
	dir := t.TempDir()
	c := &clickHouse{npmModules(t, chDB), filepath.Join(dir, "clickhouse.js"), filepath.Join(dir, "tables")}
	if err := os.WriteFile(c.script, []byte(clickHouseProgram), 0o644); err != nil {
		t.Fatal(err)
	}
	c.run(t, logsTable(t), shipped(t, "views.sql"))
	return c
}

// logsTable returns the statement with which the clickhouse exporter of the Collector makes its table: the template in
// its source, filled in as for its default settings.
func logsTable(t *testing.T) string {
	t.Helper()
	file := filepath.Join(goModule(t, clickHouseExporter), "internal", "sqltemplates", "logs_table.sql")
	statement := template.New(filepath.Base(file)).Funcs(template.FuncMap{"ident": func(s string) string {
		return "`" + s + "`"
	}})
	var text strings.Builder
	if _, err := statement.ParseFiles(file); err != nil {
		t.Fatal(err)
	}
	if err := statement.Execute(&text, map[string]any{
		"Database": "default", "TableName": "otel_logs", "ClusterString": "", "Engine": "MergeTree()", "TTL": "",
		"HasFullTextSearch": true, // from ClickHouse 26.2 on
	}); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// shipped returns a file of deploy/clickhouse.
func shipped(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../deploy/clickhouse", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// run runs statements and returns the rows of the last one.
func (c *clickHouse) run(t *testing.T, statements ...string) []map[string]string {
	t.Helper()
	text, err := json.Marshal(statements)
	if err != nil {
		t.Fatal(err)
	}
	var answers []string
	printed := output(t, string(text), "node", c.script, c.modules, c.tables)
	if err := json.Unmarshal([]byte(printed), &answers); err != nil {
		t.Fatal(err)
	}
	return rows(t, []byte(answers[len(answers)-1]))
}

// insert adds what a collector was sent, as the exporter of [clickHouseExporter] does in exporter_logs.go.
func (c *clickHouse) insert(t *testing.T, requests []*collector.ExportLogsServiceRequest) {
	t.Helper()
	statement := strings.Builder{}
	statement.WriteString("INSERT INTO otel_logs FORMAT JSONEachRow ")
	encoder := json.NewEncoder(&statement)
	for _, request := range requests {
		for _, of := range request.ResourceLogs {
			resource := attributesOf(of.Resource.Attributes)
			for _, scope := range of.ScopeLogs {
				for _, r := range scope.LogRecords {
					if err := encoder.Encode(map[string]any{
						"Timestamp":    fmt.Sprintf("%d.%09d", r.TimeUnixNano/1e9, r.TimeUnixNano%1e9),
						"SeverityText": r.SeverityText, "SeverityNumber": r.SeverityNumber, "Body": asText(r.Body),
						"ServiceName": resource["service.name"], "ResourceAttributes": resource,
						"ScopeName": scope.Scope.GetName(), "ScopeVersion": scope.Scope.GetVersion(),
						"LogAttributes": attributesOf(r.Attributes), "EventName": r.EventName,
					}); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
	c.run(t, statement.String())
}

func attributesOf(list []*common.KeyValue) map[string]string {
	all := map[string]string{}
	for _, a := range list {
		all[a.Key] = asText(a.Value)
	}
	return all
}

// asText returns a value as AsString of the Collector does.
func asText(value *common.AnyValue) string {
	switch v := value.GetValue().(type) {
	case *common.AnyValue_StringValue:
		return v.StringValue
	case *common.AnyValue_BoolValue:
		return strconv.FormatBool(v.BoolValue)
	case *common.AnyValue_IntValue:
		return strconv.FormatInt(v.IntValue, 10)
	case *common.AnyValue_ArrayValue:
		var list []string
		for _, element := range v.ArrayValue.Values {
			list = append(list, asText(element))
		}
		text, _ := json.Marshal(list) // texts can be encoded
		return string(text)
	}
	return ""
}

// collected keeps what is sent to a collector, once that has taken it.
type collected struct {
	sync.Mutex
	requests []*collector.ExportLogsServiceRequest
}

// before returns the URL of a collector that passes all on to next.
func (c *collected) before(t *testing.T, next http.Handler) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		answer := httptest.NewRecorder()
		next.ServeHTTP(answer, r)
		if answer.Code < 300 {
			if err := c.keep(body); err != nil {
				t.Error(err)
			}
		}
		w.WriteHeader(answer.Code)
		w.Write(answer.Body.Bytes())
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// keep decodes a request.
func (c *collected) keep(body []byte) error {
	zip, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return err
	}
	plain, err := io.ReadAll(zip)
	if err != nil {
		return err
	}
	request := new(collector.ExportLogsServiceRequest)
	if err := proto.Unmarshal(plain, request); err != nil {
		return err
	}
	c.Lock()
	defer c.Unlock()
	c.requests = append(c.requests, request)
	return nil
}

// relay returns a collector that passes all on to a store, at a URL.
func relay(t *testing.T, store string) http.Handler {
	to, err := url.Parse(store)
	if err != nil {
		t.Fatal(err)
	}
	return httputil.NewSingleHostReverseProxy(to)
}

// clickHouse compares what ClickHouse has of the endings with what the store has, and its answers with what the clients
// did.
func (f *fleet) clickHouse(t *testing.T) {
	c := newClickHouse(t)
	f.sent.Lock()
	c.insert(t, f.sent.requests)
	f.sent.Unlock()

	var want []map[string]string
	for _, row := range f.ask(t, `event_name:="closetrace.tcp.ending"`) {
		want = append(want, map[string]string{
			"host": row["host.name"], "connection_id": row["closetrace.connection_id"], "path": row["closetrace.path"],
			"state_before": row["closetrace.state.before"], "fin": row["closetrace.fin"], "rst": row["closetrace.rst"],
			"workload": row["closetrace.workload"], "cause": row["_msg"], "time": nanoseconds(t, row["_time"]),
			"collapsed": number(row["closetrace.collapsed"]),
		})
	}
	sameRows(t, c.run(t, allEndings), want)

	joined := map[string]int{}
	for _, row := range c.run(t, shipped(t, "both_ends.sql")) {
		joined[row["first"]+" "+row["path"]+" "+row["other"]+" "+row["other_path"]]++
	}
	if want := f.joined(); !reflect.DeepEqual(joined, want) {
		t.Errorf("joined\n%v\nwant\n%v", joined, want)
	}
	client, server := workloadOf(clientName), workloadOf(serverName)
	unread, aborted := fmt.Sprint(f.total(serverLeavesUnread)), fmt.Sprint(f.total(clientAborts))
	sameRows(t, c.run(t, shipped(t, "top_causes.sql")), []map[string]string{
		{"workload": server, "path": "close.rst.unread", "endings": unread},
		{"workload": client, "path": "recv.rst", "endings": unread},
		{"workload": client, "path": "close.rst.linger0", "endings": aborted},
		{"workload": server, "path": "recv.rst", "endings": aborted},
	})
}

// allEndings asks for the table of views.sql, with its times as VictoriaLogs and closetrace have them, in nanoseconds.
const allEndings = `SELECT toString(toUnixTimestamp64Nano(time)) AS time, host, connection_id, path, state_before,
  toString(fin) AS fin, toString(rst) AS rst, workload, cause, collapsed FROM closetrace_endings`

// number returns a number of the store, in which those that are 0 are missing.
func number(text string) string {
	if text == "" {
		return "0"
	}
	return text
}

func nanoseconds(t *testing.T, text string) string {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		t.Fatal(err)
	}
	return strconv.FormatInt(at.UnixNano(), 10)
}

// sameRows compares rows in any order.
func sameRows(t *testing.T, got, want []map[string]string) {
	t.Helper()
	lines := func(rows []map[string]string) []string {
		var all []string
		for _, row := range rows {
			text, _ := json.Marshal(row) // texts can be encoded
			all = append(all, string(text))
		}
		slices.Sort(all)
		return all
	}
	if got, want := lines(got), lines(want); !slices.Equal(got, want) {
		t.Errorf("rows\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// madeEnd is an ending of one end of a connection.
type madeEnd struct {
	host   string
	path   events.Path
	before events.State
	fin    bool
	rst    bool
}

// madeUp are connections that a workload of the tests does not make, or not always: each filter of both_ends.sql alone
// leaves out one of them. The first end of a connection that is joined closed first.
var madeUp = []struct {
	name    string
	joined  bool
	unknown bool // there is no connection_id
	ends    [2]madeEnd
}{
	{name: "reset", joined: true, ends: [2]madeEnd{
		{"web", events.CloseRSTUnread, events.Established, false, true},
		{"db", events.RecvRST, events.Established, false, false},
	}},
	{name: "closed", joined: true, ends: [2]madeEnd{
		{"db", events.CloseFINActive, events.Established, true, false},
		{"web", events.CloseFINPassive, events.CloseWait, true, false},
	}},
	{name: "unanswered", joined: true, ends: [2]madeEnd{
		{"web", events.CloseFINActive, events.Established, true, false},
		{"db", events.RecvFIN, events.Established, false, false},
	}},
	{name: "reset as the answer to a FIN", joined: true, ends: [2]madeEnd{
		{"db", events.CloseFINActive, events.Established, true, false},
		{"web", events.CloseRSTUnread, events.CloseWait, false, true},
	}},
	{name: "on one host", ends: [2]madeEnd{
		{"web", events.CloseRSTUnread, events.Established, false, true},
		{"web", events.RecvRST, events.Established, false, false},
	}},
	{name: "without an id", unknown: true, ends: [2]madeEnd{
		{"web", events.CloseRSTUnread, events.Established, false, true},
		{"db", events.RecvRST, events.Established, false, false},
	}},
	{name: "reset after a FIN", ends: [2]madeEnd{
		{"web", events.CloseRSTUnread, events.FinWait2, false, true},
		{"db", events.RecvRST, events.Established, false, false},
	}},
	{name: "nothing sent", ends: [2]madeEnd{
		{"web", events.AbortKeepalive, events.Established, false, false},
		{"db", events.RecvRST, events.Established, false, false},
	}},
	{name: "both at once", ends: [2]madeEnd{
		{"web", events.CloseFINActive, events.Established, true, false},
		{"db", events.CloseFINActive, events.Established, true, false},
	}},
}

// Every statement of deploy/clickhouse runs in ClickHouse, on what closetrace exports of endings that are known. Each
// column, condition, order and limit in it makes a difference to one of them.
func TestClickHouse(t *testing.T) {
	c, at := newClickHouse(t), time.Now().Add(-time.Hour)
	sent, byHost := new(collected), map[string][]*events.Ending{}
	var wantEndings, wantJoined []map[string]string
	add := func(host string, e events.Ending) map[string]string {
		byHost[host] = append(byHost[host], &e)
		id := ""
		if e.ConnectionID != 0 {
			id = fmt.Sprintf("%016x", e.ConnectionID)
		}
		row := map[string]string{
			"time": strconv.FormatInt(e.Time.UnixNano(), 10), "host": host, "connection_id": id, "path": string(e.Path),
			"state_before": e.Before.String(), "fin": strconv.FormatBool(e.FIN), "rst": strconv.FormatBool(e.RST),
			"workload": e.Actor.Comm, "cause": e.Cause, "collapsed": "0",
		}
		wantEndings = append(wantEndings, row)
		return row
	}
	for i, m := range madeUp {
		var ends []map[string]string
		for n, end := range m.ends {
			e := events.Ending{
				Path: end.path, Before: end.before, FIN: end.fin, RST: end.rst, ConnectionID: uint64(i + 1),
				Cause: fmt.Sprintf("it's %s, end %d", m.name, n), Actor: &events.Task{Comm: "made-up-" + end.host},
				// The later a connection is in the list, the earlier it ended, and its other end the later.
				Time: at.Add(time.Duration(-i+1000*i*n) * time.Nanosecond),
			}
			if m.unknown {
				e.ConnectionID = 0
			}
			ends = append(ends, add(end.host, e))
		}
		if m.joined {
			wantJoined = slices.Insert(wantJoined, 0, map[string]string{
				"connection_id": ends[0]["connection_id"], "first": ends[0]["host"], "path": ends[0]["path"],
				"cause": ends[0]["cause"], "other": ends[1]["host"], "other_path": ends[1]["path"],
				"other_cause": ends[1]["cause"],
			})
		}
	}
	// Eleven workloads with two paths each are more than the query returns. Some have as many resets as others, on two
	// hosts, two of a connection, and do not join. One resets nothing.
	for w := range 11 {
		for n := range 2 * (3 + w/2) {
			add(fmt.Sprintf("many-%d", n/2%2), events.Ending{
				Path: []events.Path{events.CloseRSTUnread, events.RecvRST}[n%2], RST: n%2 == 0, Before: events.FinWait1,
				Time: at, ConnectionID: uint64(1000*w + 100 + n/3), Actor: &events.Task{Comm: fmt.Sprintf("many-%02d", w)},
			})
		}
	}
	for n := range 50 {
		add("ordinary", events.Ending{
			Path: events.CloseFINActive, FIN: true, Before: events.Established, Time: at, ConnectionID: uint64(20000 + n),
			Actor: &events.Task{Comm: "ordinary"},
		})
	}
	// Over the rate, one record stands for the others.
	const busy = 60
	for range 2 {
		add("busy", events.Ending{
			Path: events.CloseRSTLinger0, RST: true, Before: events.Established, Time: at, Actor: &events.Task{Comm: "busy"},
		})
	}
	wantEndings[len(wantEndings)-1]["collapsed"] = strconv.Itoa(busy - 2)
	wantTop := topOf(wantEndings)
	kept, over := add("old", oldEnding(13*24*time.Hour)), add("old", oldEnding(15*24*time.Hour))
	for host, endings := range byHost {
		rate := len(endings)
		if host == "busy" {
			rate, endings = 1, slices.Repeat(endings[:1], busy)
		}
		export(t, sent, host, rate, endings)
	}
	other := proto.Clone(sent.requests[0]).(*collector.ExportLogsServiceRequest) // of another service
	for _, r := range other.ResourceLogs[0].ScopeLogs[0].LogRecords {
		r.EventName = "other"
	}
	c.insert(t, append(sent.requests, other))

	// An order is compared, too.
	if got := c.run(t, shipped(t, "both_ends.sql")); !reflect.DeepEqual(got, wantJoined) {
		t.Errorf("joined\n%v\nwant\n%v", got, wantJoined)
	}
	if got := c.run(t, shipped(t, "top_causes.sql")); !reflect.DeepEqual(got, wantTop) {
		t.Errorf("top causes\n%v\nwant\n%v", got, wantTop)
	}
	// What is old goes when parts are merged.
	wantEndings = slices.DeleteFunc(wantEndings, func(row map[string]string) bool { return reflect.DeepEqual(row, over) })
	sameRows(t, c.run(t, "OPTIMIZE TABLE closetrace_endings FINAL", allEndings), wantEndings)
	if !slices.ContainsFunc(wantEndings, func(row map[string]string) bool { return reflect.DeepEqual(row, kept) }) {
		t.Error("an ending of 13 days ago is not expected")
	}
	sameRows(t, c.run(t, `SELECT name, type FROM system.columns WHERE table = 'closetrace_endings'`), []map[string]string{
		{"name": "time", "type": "DateTime64(9)"}, {"name": "host", "type": "LowCardinality(String)"},
		{"name": "connection_id", "type": "String"}, {"name": "path", "type": "LowCardinality(String)"},
		{"name": "state_before", "type": "LowCardinality(String)"}, {"name": "fin", "type": "Bool"},
		{"name": "rst", "type": "Bool"}, {"name": "workload", "type": "LowCardinality(String)"},
		{"name": "cause", "type": "String"}, {"name": "collapsed", "type": "UInt64"},
	})
	sameRows(t, c.run(t, `SELECT engine, sorting_key FROM system.tables WHERE name = 'closetrace_endings'`),
		[]map[string]string{{"engine": "MergeTree", "sorting_key": "connection_id, time"}})
}

// oldEnding is an abnormal one that sends nothing.
func oldEnding(age time.Duration) events.Ending {
	return events.Ending{
		Path: events.AbortKeepalive, Before: events.Established, Time: time.Now().Add(-age), ConnectionID: 1 << 60,
		Actor: &events.Task{Comm: "old"},
	}
}

// topOf counts resets as top_causes.sql is to count them.
func topOf(endings []map[string]string) (top []map[string]string) {
	counts := map[[2]string]int{}
	for _, e := range endings {
		if e["rst"] == "true" || e["path"] == "recv.rst" {
			others, _ := strconv.Atoi(e["collapsed"])
			counts[[2]string{e["workload"], e["path"]}] += 1 + others
		}
	}
	for key, n := range counts {
		top = append(top, map[string]string{"workload": key[0], "path": key[1], "endings": strconv.Itoa(n)})
	}
	slices.SortFunc(top, func(a, b map[string]string) int {
		if d := counts[[2]string{b["workload"], b["path"]}] - counts[[2]string{a["workload"], a["path"]}]; d != 0 {
			return d
		}
		return strings.Compare(a["workload"]+" "+a["path"], b["workload"]+" "+b["path"])
	})
	return top[:20]
}

// export sends the endings of a host with closetrace's own exporter, at most rate of them one by one.
func export(t *testing.T, to *collected, host string, rate int, endings []*events.Ending) {
	t.Helper()
	at := to.before(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	x, err := otlp.New(otlp.Options{
		URL: at, Sample: 1, Rate: rate, Workload: func(e *events.Ending) string { return e.Actor.Comm },
	})
	if err != nil {
		t.Fatal(err)
	}
	x.Begin(events.Header{Host: host})
	for _, e := range endings {
		x.Observe(e, true)
	}
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	if err := x.Shutdown(ctx); err != nil || x.Stats().Exported+x.Stats().Collapsed != uint64(len(endings)) {
		t.Fatalf("%v, %+v of %d", err, x.Stats(), len(endings))
	}
}
