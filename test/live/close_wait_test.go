//go:build linux

package live

import (
	"bufio"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A received FIN is reported if this side does not answer it in time. Otherwise
// it is part of the ending of this side, which has the time it took in both
// cases.
func TestCloseWait(t *testing.T) { attempts(t, closeWait) }

func closeWait(t testing.TB) {
	type line struct {
		Path, Local string
		Evidence    struct {
			Ago time.Duration `json:"peer_fin_ago_ns"`
		}
	}
	const wait = 3 * time.Second // more than this test may be held up between two calls
	inNetns(t, func(uint32) {
		l, addr := listen(t, loopback4)
		r := launch(t, "-o", "json", "--close-wait", wait.String())
		lines := bufio.NewReader(r.stdout)
		next := func() (printed line) {
			t.Helper()
			must(t, r.stdout.SetReadDeadline(time.Now().Add(30*time.Second)))
			text, err := lines.ReadBytes('\n')
			must(t, err)
			must(t, json.Unmarshal(text, &printed))
			return printed
		}
		a, prompt := connect(t, l, addr)
		must(t, unix.Close(a.fd))
		must(t, unix.Close(prompt.fd))
		paths := []string{next().Path, next().Path}
		if slices.Sort(paths); !slices.Equal(paths, []string{"close.fin.active", "close.fin.passive"}) {
			t.Errorf("closed by both ends: %v", paths)
		}

		a, leaky := connect(t, l, addr)
		must(t, unix.Close(a.fd))
		if first := next(); first.Path != "close.fin.active" {
			t.Errorf("first line: %+v", first)
		}
		late := next()
		if late.Path != "recv.fin" || late.Local != addr.String() || late.Evidence.Ago != wait {
			t.Errorf("the unanswered FIN: %+v", late)
		}
		must(t, unix.Close(leaky.fd))
		if closed := next(); closed.Path != "close.fin.passive" || closed.Evidence.Ago < wait {
			t.Errorf("closed late: %+v", closed)
		}
		r.interrupt(t)
	})
}
