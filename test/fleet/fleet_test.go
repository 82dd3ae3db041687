package fleet

import (
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/closetrace/closetrace/internal/enrich"
	"github.com/closetrace/closetrace/internal/metrics"
)

// fleet is three hosts with their own closetrace serve, a store and a Prometheus.
type fleet struct {
	store, prometheus string // their URLs
	agents            map[string]*process
	made              map[string][]madeConnection // by the host of the client
	sent              collected                   // what the store has taken
}

// What serve counts and exports on three hosts, behind address translation, is what the workload did: in the store,
// where both ends of each connection join, and in Prometheus.
func TestFleet(t *testing.T) {
	needsEngines(t)
	f := &fleet{agents: map[string]*process{}, made: map[string][]madeConnection{}}
	dir := t.TempDir()
	network(t)
	f.startStore(t, dir)
	f.startAgents(t)
	f.startPrometheus(t, dir)
	f.work(t, dir)
	eventually(t, "the store has all endings", func() error { return f.complete(t) })
	t.Run("both ends", f.bothEnds)
	t.Run("closed first", f.closedFirst)
	t.Run("top causes", f.topCauses)
	t.Run("CLOSE_WAIT", f.closeWait)
	t.Run("SQL", f.sql)
	t.Run("ClickHouse", f.clickHouse)
	t.Run("metrics", f.metrics)
	t.Run("exemplar", f.exemplar)
	t.Run("rules", f.rules)
	t.Run("dashboard", f.dashboard)
	t.Run("blind", f.blind)
}

func (f *fleet) startStore(t *testing.T, dir string) {
	at := freeAddress(t)
	start(t, goBinary(t, victoriaLogs), "-storageDataPath="+filepath.Join(dir, "store"), "-httpListenAddr="+at,
		"-loggerLevel=WARN")
	f.store = "http://" + at
	answers(t, f.store+"/health")
}

// startAgents starts closetrace serve for each host. They send all ordinary endings, too, for the test to compare.
func (f *fleet) startAgents(t *testing.T) {
	store := f.sent.before(t, relay(t, f.store))
	for _, h := range hosts {
		listen := freeAddress(t)
		f.agents[listen] = start(t, "unshare", "--uts", "sh", "-c", `hostname "$0" && exec "$@"`, h.name,
			closetrace(t), "serve", "--netns", h.name, "--listen", listen, "--close-wait", "5s", "--stuck-every", "1s",
			"--otlp", store+"/insert/opentelemetry/v1/logs?_stream_fields=service.name,host.name",
			"--otlp-sample", "100%")
		answers(t, "http://"+listen+"/readyz")
	}
}

// closetrace returns the program that make built.
func closetrace(t *testing.T) string {
	path, err := filepath.Abs("../../closetrace")
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Fatalf("%v\nhint: make test-fleet builds it", err)
	}
	return path
}

// freeAddress returns a loopback address at which nothing listens.
func freeAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// work runs the workload from both clients.
func (f *fleet) work(t *testing.T, dir string) {
	server := start(t, "ip", onHost(serverHost, program(t, dir, serverName), serverAt)...)
	if line, err := server.stdout.ReadString('\n'); err != nil {
		t.Fatalf("the server does not listen: %q, %v\n%s", line, err, &server.stderr)
	}
	client := program(t, dir, clientName)
	for _, h := range hosts {
		if h.name == serverHost {
			continue
		}
		var made []madeConnection
		out := output(t, "", "ip", onHost(h.name, client, h.router+":443", h.address)...)
		if err := json.Unmarshal([]byte(out), &made); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		f.made[h.name] = made
	}
}

// query asks the store. file is one of deploy/victorialogs.
func (f *fleet) query(t *testing.T, file string) []map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../deploy/victorialogs", file))
	if err != nil {
		t.Fatal(err)
	}
	return f.ask(t, string(text))
}

func (f *fleet) ask(t *testing.T, query string) []map[string]string {
	t.Helper()
	text, err := get(t, f.store+"/select/logsql/query?query="+url.QueryEscape(query))
	if err != nil {
		t.Fatal(err)
	}
	return rows(t, text)
}

// total returns how many connections of a kind both clients made.
func (f *fleet) total(kinds ...byte) (n int) {
	for _, made := range f.made {
		for _, c := range made {
			if slices.Contains(kinds, c.Kind) {
				n++
			}
		}
	}
	return n
}

// first has, by the kind of a connection, the host that closes it first and how, and what the other end has of it.
var first = map[byte]struct {
	atServer    bool
	path, other string
}{
	serverLeavesUnread: {true, "close.rst.unread", "recv.rst"},
	clientAborts:       {false, "close.rst.linger0", "recv.rst"},
	serverClosesFirst:  {true, "close.fin.active", "close.fin.passive"},
	clientClosesFirst:  {false, "close.fin.active", "close.fin.passive"},
	serverNeverCloses:  {false, "close.fin.active", "recv.fin"},
}

// complete returns an error until both ends of each connection have arrived.
func (f *fleet) complete(t *testing.T) error {
	got, want := 0, 0
	for _, row := range f.ask(t, `event_name:="closetrace.tcp.ending" closetrace.path:in("close.rst.unread", `+
		`"close.rst.linger0", "recv.rst", "recv.fin", "close.fin.active", "close.fin.passive") | stats count() n`) {
		got, _ = strconv.Atoi(row["n"])
	}
	for _, made := range f.made {
		want += 2 * len(made)
	}
	if got < want {
		return fmt.Errorf("%d endings of %d", got, want)
	}
	return nil
}

// bothEnds compares each connection with the row that joins its ends. The server sees the router's address, and ports
// that the router chose.
func (f *fleet) bothEnds(t *testing.T) {
	byClient := map[string]map[string]string{} // by host and port of the client
	for _, row := range f.query(t, "both_ends.logsql") {
		key := row["host.name"] + ":" + row["network.local.port"]
		if row["host.name"] == serverHost {
			key = row["other.host.name"] + ":" + row["other.network.local.port"]
		}
		if _, twice := byClient[key]; twice {
			t.Errorf("%s is joined twice", key)
		}
		byClient[key] = row
	}
	translated := 0
	for host, made := range f.made {
		for _, c := range made {
			row, want := byClient[fmt.Sprintf("%s:%d", host, c.Port)], first[c.Kind]
			if row == nil {
				t.Errorf("%s:%d (%c) is not joined", host, c.Port, c.Kind)
				continue
			}
			closer, other, port := host, serverHost, row["other.network.peer.port"]
			if want.atServer {
				closer, other, port = serverHost, host, row["network.peer.port"]
			}
			if row["host.name"] != closer || row["other.host.name"] != other || row["closetrace.path"] != want.path ||
				row["other.closetrace.path"] != want.other {
				t.Errorf("%s:%d (%c): %v", host, c.Port, c.Kind, row)
			}
			if port != strconv.Itoa(c.Port) {
				translated++
			}
		}
	}
	if translated == 0 {
		t.Error("no port was translated: the join was not tested")
	}
	if len(byClient) != len(f.made["ctweb1"])+len(f.made["ctweb2"]) {
		t.Errorf("%d connections are joined", len(byClient))
	}
}

func (f *fleet) closedFirst(t *testing.T) {
	got := map[string]int{}
	for _, row := range f.query(t, "closed_first.logsql") {
		got[row["host.name"]+" "+row["closetrace.path"]], _ = strconv.Atoi(row["connections"])
	}
	want := map[string]int{}
	for host, made := range f.made {
		for _, c := range made {
			closer := host
			if first[c.Kind].atServer {
				closer = serverHost
			}
			want[closer+" "+first[c.Kind].path]++
		}
	}
	for key, n := range want {
		if got[key] != n {
			t.Errorf("%s: %d, want %d", key, got[key], n)
		}
	}
}

// workloadOf is the name of the workload of a program: its own, unless the tests run in a systemd service.
func workloadOf(name string) string {
	return metrics.Name(enrich.ProcessCgroup("/proc", uint32(os.Getpid())), nil, name)
}

func (f *fleet) topCauses(t *testing.T) {
	got := map[string]string{}
	for _, row := range f.query(t, "top_causes.logsql") {
		got[row["closetrace.workload"]+" "+row["closetrace.path"]] = row["all"]
	}
	client, server := workloadOf(clientName), workloadOf(serverName)
	for key, want := range map[string]int{
		server + " close.rst.unread": f.total(serverLeavesUnread), client + " close.rst.linger0": f.total(clientAborts),
	} {
		if got[key] != strconv.Itoa(want) {
			t.Errorf("%s: %s, want %d, in %v", key, got[key], want, got)
		}
	}
}

func (f *fleet) closeWait(t *testing.T) {
	n := 0
	for _, row := range f.query(t, "close_wait_growth.logsql") {
		if row["host.name"] != serverHost || row["network.local.port"] != "5432" {
			continue
		}
		add, _ := strconv.Atoi(row["unanswered"])
		n += add
	}
	if want := f.total(serverNeverCloses); n != want {
		t.Errorf("%d connections are in CLOSE_WAIT, want %d", n, want)
	}
}
