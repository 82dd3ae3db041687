//go:build linux

package live

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
)

// compareTiers compares what a tracer in the quiet tier reported of a scenario with what another one in the full tier
// did: each line of the full tier is there in the same words, or its close was noted, and nothing else is there.
func (w *capture) compareTiers(t testing.TB, quiet, full *tracer) {
	t.Helper()
	full.catchUp(t)
	noted := map[events.Path]int{}
	for _, e := range w.during(quiet.notedIn(w.netns)) {
		noted[e.Path]++
	}
	var want []string
	for _, e := range w.endings(full) {
		if noted[e.Path] > 0 && isOrdinary(&e) {
			noted[e.Path]--
			continue
		}
		want = append(want, words(t, &e))
	}
	var got []string
	for _, e := range w.endings(quiet) {
		got = append(got, words(t, &e))
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the quiet tier has other words:\n%s", strings.Join(onlyInOne(got, want), "\n"))
	}
	for path, n := range noted {
		if n > 0 {
			t.Errorf("%d closes were noted that the full tier does not report as an ordinary %s", n, path)
		}
	}
}

// isOrdinary reports whether the full tier reports an ending that the quiet tier may only count.
func isOrdinary(e *events.Ending) bool {
	return (e.Path == events.CloseFINActive || e.Path == events.CloseFINPassive) && !e.RST && !e.IsAbnormal()
}

// measured are durations in a text, and members of an object: each tracer reads the clock by itself, a moment before or
// after the other. In the quiet tier, that of a close does not include the wait for the socket lock.
var measured = regexp.MustCompile(`[0-9][0-9.,]* ?(ns|µs|ms|s|minutes?|hours?)\b`)

// belowLimit is what a text has only if a duration is not below a limit, on which side of which two tracers may see it:
// a millisecond since the first SYN, or a second. Without it, the rest remains, or that it was while connecting.
var belowLimit = regexp.MustCompile(` some time after the first SYN, [0-9,]+ SYNs? unanswered| while connecting|` +
	` some time after its first SYN|; nothing was sent or received for some time|, some time earlier`)

// words returns an ending as JSON, without what each tracer measures by itself. Of a duration, only that it is there is
// kept.
func words(t testing.TB, e *events.Ending) string {
	t.Helper()
	one := *e
	if strings.HasPrefix(one.Doubt, "records were lost or probes missed") {
		one.Doubt = "" // each tracer has losses of its own
	}
	var members map[string]any
	must(t, json.Unmarshal(one.AppendJSON(nil), &members))
	delete(members, "duration_ns") // missing if it is 0
	text, err := json.Marshal(withoutTimes(members))
	must(t, err)
	timeless := measured.ReplaceAllString(string(text), "some time")
	return belowLimit.ReplaceAllString(timeless, "")
}

func withoutTimes(members map[string]any) map[string]any {
	for key, value := range members {
		inner, isObject := value.(map[string]any)
		switch {
		case isObject:
			members[key] = withoutTimes(inner)
		case key == "time" || strings.HasSuffix(key, "_ns"):
			members[key] = "some time"
		case strings.HasSuffix(key, "_ms") && key != "user_timeout_ms" && key != "linger_ms" && key != "linger2_ms":
			delete(members, key) // missing below a millisecond
		}
	}
	return members
}

// onlyInOne lists the lines that only one of two sorted lists has.
func onlyInOne(got, want []string) (all []string) {
	for _, line := range got {
		if i := slices.Index(want, line); i >= 0 {
			want = slices.Delete(slices.Clone(want), i, i+1)
			continue
		}
		all = append(all, fmt.Sprintf("only quiet: %s", line))
	}
	for _, line := range want {
		all = append(all, fmt.Sprintf("only full:  %s", line))
	}
	return all
}

// The comparison sees every difference but those of time.
func TestWordsOfTiers(t *testing.T) {
	e := events.Ending{
		Path: events.ReplyAfterClose, Cause: "9 B arrived 250 ms after server[7] closed", MonoNS: 1, DurationNS: 5,
	}
	later := e
	later.Cause, later.MonoNS, later.DurationNS = "9 B arrived 1.2 s after server[7] closed", 2, 0
	if words(t, &e) != words(t, &later) {
		t.Errorf("other times:\n%s\n%s", words(t, &e), words(t, &later))
	}
	for below, above := range map[string]string{
		"the application gave up; no FIN":        "the application gave up 1 ms after its first SYN; no FIN",
		"given up while connecting; neither FIN": "given up 1.2 s after the first SYN, 2 SYNs unanswered; neither FIN",
		"peer closed first; CLOSE_WAIT":          "peer closed first, 1.0 s earlier; CLOSE_WAIT",
	} {
		short, long := e, e
		short.Cause, long.Cause = below, above
		if words(t, &short) != words(t, &long) {
			t.Errorf("below a limit:\n%s\n%s", words(t, &short), words(t, &long))
		}
	}
	for what, change := range map[string]func(*events.Ending){
		"bytes":      func(e *events.Ending) { e.Cause = "8 B arrived 250 ms after server[7] closed" },
		"process":    func(e *events.Ending) { e.Cause = "9 B arrived 250 ms after server[8] closed" },
		"connection": func(e *events.Ending) { e.ConnectionID = 1 },
		"evidence":   func(e *events.Ending) { e.Evidence.SndNxt = 1 },
		"peer's FIN": func(e *events.Ending) { e.Evidence.PeerFINAgo = 1 },
		"doubt":      func(e *events.Ending) { e.Doubt = "the peer was not seen" },
		"earlier":    func(e *events.Ending) { e.Earlier = &events.Past{Path: events.CloseFINActive} },
	} {
		other := e
		change(&other)
		if words(t, &e) == words(t, &other) {
			t.Errorf("%s: no difference", what)
		}
	}
	if got := onlyInOne([]string{"a", "b", "b"}, []string{"b", "c"}); len(got) != 3 {
		t.Errorf("only in one %q", got)
	}
}
