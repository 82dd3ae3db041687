//go:build linux

package live

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// closetrace serve counts what really ended: what it answers to a scrape is compared with what the test did, with the
// kernel's counters, and with the sockets that are still open.
func TestServe(t *testing.T) {
	privileged(t)
	attempts(t, func(t testing.TB) {
		inNetns(t, func(uint32) { checkServe(t) })
	})
}

// The workload of the test, in connections.
const (
	servedUnread   = 3 // reset for unread data, which the peer receives
	servedLinger   = 4 // reset by SO_LINGER {1,0}
	servedOrdinary = 20
	servedUnreadB  = 150 // bytes, each
)

func checkServe(t testing.TB) {
	config := filepath.Join(t.TempDir(), "serve.yaml")
	must(t, os.WriteFile(config, []byte("listen: 127.0.0.1:0\nstuck-every: 0s\n"), 0o644))
	before := counters(t)
	r := launch(t, "serve", "--config", config)
	url := served(t, r)
	provokeServed(t)
	stuck := unclosed(t)
	defer unix.Close(stuck.fd)

	workload := `,workload="` + readTrimmed(t, "/proc/self/comm") + `"}`
	truth := map[string]string{
		`closetrace_tcp_endings_total{path="close.rst.unread"` + workload:       fmt.Sprint(servedUnread),
		`closetrace_tcp_endings_total{path="close.rst.linger0"` + workload:      fmt.Sprint(servedLinger),
		`closetrace_tcp_endings_total{path="close.fin.active",workload="any"}`:  fmt.Sprint(servedOrdinary + 1),
		`closetrace_tcp_endings_total{path="close.fin.passive",workload="any"}`: fmt.Sprint(servedOrdinary),
		`closetrace_tcp_unread_bytes_sum{path="close.rst.unread"}`:              fmt.Sprint(servedUnread * servedUnreadB),
		"closetrace_records_lost_total":                                         "0",
	}
	var got map[string]string
	defer func() {
		if t.Failed() {
			t.Logf("scraped\n%swant\n%s", lines(got), lines(truth))
		}
	}()
	eventually(t, "what ended is counted", func() bool {
		got = scrape(t, url)
		// The process that received a RST may have closed its socket before it is looked up.
		received := total(got, `closetrace_tcp_endings_total{path="recv.rst"`)
		return agrees(got, truth) && received == servedUnread+servedLinger
	})
	sent := counters(t)["OutRsts"] - before["OutRsts"]
	if n := total(got, `closetrace_tcp_resets_total{direction="sent"`); n != int(sent) {
		t.Errorf("%d RSTs sent, the kernel counted %d", n, sent)
	}
	checkServedEndings(t, url)
	if rss := residentTree(r.Process.Pid); rss == 0 || rss > 64<<20 {
		t.Errorf("%d bytes resident", rss)
	}

	must(t, os.WriteFile(config, []byte("listen: 127.0.0.1:1\nlast: 1\n"), 0o644))
	must(t, r.Process.Signal(syscall.SIGHUP))
	eventually(t, "reloaded", func() bool { return strings.Count(get(t, url+"/debug/last"), `"mono_ns"`) == 1 })
	leaked := `closetrace_sockets_stuck{diagnosis="leaked",state="CLOSE_WAIT"` + workload
	eventually(t, "the stuck socket is counted", func() bool { return scrape(t, url)[leaked] == "1" })
	must(t, r.Process.Signal(syscall.SIGTERM))
	rest, err := io.ReadAll(r.stderr)
	must(t, err)
	countMissed(t, uint64(missed(string(rest))))
	if code := waitExit(t, r.Cmd); code != 0 ||
		!strings.Contains(string(rest), "reloaded the configuration; restart to change listen\n") ||
		!strings.Contains(string(rest), fmt.Sprintf("audit: RSTs sent %d, explained %d;", sent, sent)) {
		t.Errorf("exit code %d\n%s", code, rest)
	}
}

// served returns where it answers.
func served(t testing.TB, r *session) (url string) {
	t.Helper()
	line, err := r.stderr.ReadString('\n')
	must(t, err)
	url, found := strings.CutPrefix(strings.TrimSpace(line), "closetrace: serving ")
	if !found {
		t.Fatalf("it does not serve: %s", line)
	}
	return strings.TrimSuffix(url, "/metrics")
}

func provokeServed(t testing.TB) {
	t.Helper()
	l, address := listen(t, loopback4)
	for range servedUnread {
		a, b := connect(t, l, address)
		a.send(t, servedUnreadB)
		b.queued(t, servedUnreadB)
		must(t, unix.Close(b.fd))
		must(t, unix.Close(a.fd))
	}
	for range servedLinger {
		a, b := connect(t, l, address)
		a.linger(t, 0)
		must(t, unix.Close(a.fd))
		must(t, unix.Close(b.fd))
	}
	for range servedOrdinary {
		a, b := connect(t, l, address)
		must(t, unix.Close(a.fd))
		b.state(t, unix.BPF_TCP_CLOSE_WAIT)
		must(t, unix.Close(b.fd))
	}
	must(t, unix.Close(l))
}

// unclosed returns a socket whose peer has closed, which was read to its end.
func unclosed(t testing.TB) conn {
	t.Helper()
	l, address := listen(t, loopback4)
	a, b := connect(t, l, address)
	must(t, unix.Close(a.fd))
	b.state(t, unix.BPF_TCP_CLOSE_WAIT)
	if n, err := unix.Read(b.fd, make([]byte, 1)); n != 0 || err != nil {
		t.Fatalf("read %d, %v", n, err)
	}
	must(t, unix.Close(l))
	return b
}

// get returns the answer to a request.
func get(t testing.TB, url string) string {
	t.Helper()
	answer, err := http.Get(url)
	must(t, err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	must(t, err)
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s\n%s", url, answer.Status, body)
	}
	return string(body)
}

// scrape returns the values by series.
func scrape(t testing.TB, url string) map[string]string {
	t.Helper()
	values := map[string]string{}
	for line := range strings.Lines(get(t, url+"/metrics")) {
		if at := strings.LastIndexByte(line, ' '); at > 0 && line[0] != '#' {
			values[line[:at]] = strings.TrimSpace(line[at:])
		}
	}
	return values
}

func agrees(got, want map[string]string) bool {
	for series, value := range want {
		if got[series] != value {
			return false
		}
	}
	return true
}

// total returns the sum of the series that begin with a text.
func total(values map[string]string, prefix string) (sum int) {
	for series, value := range values {
		if strings.HasPrefix(series, prefix) {
			var n int
			fmt.Sscan(value, &n)
			sum += n
		}
	}
	return sum
}

// checkServedEndings checks the last abnormal endings: a reset by SO_LINGER without data loses nothing. They are kept
// in their order, for which they may wait longer than to be counted.
func checkServedEndings(t testing.TB, url string) {
	t.Helper()
	var last struct {
		Endings []struct{ Path string }
	}
	var body string
	eventually(t, "the last endings", func() bool {
		body = get(t, url+"/debug/last")
		return strings.Contains(body, fmt.Sprintf(`"seen":%d,`, 2*servedUnread))
	})
	must(t, json.Unmarshal([]byte(body), &last))
	paths := map[string]int{}
	for _, e := range last.Endings {
		paths[e.Path]++
	}
	if !maps.Equal(paths, map[string]int{"close.rst.unread": servedUnread, "recv.rst": servedUnread}) {
		t.Errorf("last endings: %v\n%s", paths, body)
	}
}

func lines(values map[string]string) (text string) {
	for series, value := range values {
		if strings.HasPrefix(series, "closetrace_") {
			text += series + " " + value + "\n"
		}
	}
	return text
}
