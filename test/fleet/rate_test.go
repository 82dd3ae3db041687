package fleet

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/anonymize"
	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/otlp"
)

// A thousand abnormal endings a second arrive in the store without a loss, although it is away for some seconds.
// Addresses and names do not leave the host.
func TestRate(t *testing.T) {
	binary, data, at := goBinary(t, victoriaLogs), filepath.Join(t.TempDir(), "store"), freeAddress(t)
	begin := func() *process {
		store := start(t, binary, "-storageDataPath="+data, "-httpListenAddr="+at, "-loggerLevel=WARN")
		answers(t, "http://"+at+"/health")
		return store
	}
	key, err := anonymize.ParseKey("0123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	x, err := otlp.New(otlp.Options{URL: "http://" + at + "/insert/opentelemetry/v1/logs", Key: key})
	if err != nil {
		t.Fatal(err)
	}
	store := begin()
	x.Begin(events.Header{Host: "secret"})
	const perSecond, seconds = 1000, 10
	for second := range uint64(seconds) {
		switch second {
		case 3:
			store.end()
		case 5:
			begin()
		}
		next := time.After(time.Second)
		for i := range uint64(perSecond) {
			x.Observe(&events.Ending{
				Time: time.Now(), MonoNS: second*perSecond + i + 1, Path: events.CloseRSTUnread, RST: true,
				Before: events.Established, Actor: &events.Task{PID: 1, TID: 1, Comm: "secret"}, Cause: "secret",
				Local: netip.MustParseAddrPort("10.0.0.5:443"), Remote: netip.MustParseAddrPort("10.0.0.9:33042"),
			}, true)
		}
		<-next
	}
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	x.Shutdown(ctx)
	if s := x.Stats(); s.Exported != perSecond*seconds || x.Dropped() != 0 {
		t.Errorf("%+v, want %d exported", s, perSecond*seconds)
	}
	f := &fleet{store: "http://" + at}
	eventually(t, "the store has all", func() error {
		got, _ := strconv.Atoi(f.ask(t, "* | count_uniq(closetrace.mono_ns) n")[0]["n"])
		if got != perSecond*seconds {
			return fmt.Errorf("%d endings", got)
		}
		return nil
	})
	for _, query := range []string{
		`"secret"`, `host.name:"secret"`, `thread.name:"secret"`, `network.local.address:"10.0.0.5"`,
		`network.peer.address:"10.0.0.9"`,
	} {
		if leaked := f.ask(t, query+" | limit 1"); len(leaked) > 0 {
			t.Errorf("%s is in the store: %v", query, leaked)
		}
	}
	if found := f.ask(t, `thread.name:~"^name-[0-9a-f]{16}$" | limit 1`); len(found) == 0 {
		t.Error("the store has no hash of a name")
	}
}

// The queries count the endings over the rate, which share the record of another one.
func TestCollapsedAreCounted(t *testing.T) {
	at := freeAddress(t)
	start(t, goBinary(t, victoriaLogs), "-storageDataPath="+filepath.Join(t.TempDir(), "store"), "-httpListenAddr="+at,
		"-loggerLevel=WARN")
	answers(t, "http://"+at+"/health")
	x, err := otlp.New(otlp.Options{URL: "http://" + at + "/insert/opentelemetry/v1/logs", Rate: 1})
	if err != nil {
		t.Fatal(err)
	}
	x.Begin(events.Header{Host: "busy"})
	const n = 60
	for range n {
		x.Observe(&events.Ending{
			Time: time.Now(), Path: events.CloseRSTUnread, RST: true, Before: events.Established,
			Actor: &events.Task{PID: 1, TID: 1, Comm: "server"},
		}, true)
	}
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	if err := x.Shutdown(ctx); err != nil || x.Stats().Collapsed == 0 {
		t.Fatalf("%v, %+v", err, x.Stats())
	}
	f := &fleet{store: "http://" + at}
	for name, count := range map[string]string{"closed_first.logsql": "connections", "top_causes.logsql": "all"} {
		eventually(t, name+" counts all", func() error {
			if got := f.query(t, name); len(got) != 1 || got[0][count] != strconv.Itoa(n) {
				return fmt.Errorf("%v, want %s=%d", got, count, n)
			}
			return nil
		})
	}
}
