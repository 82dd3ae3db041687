package lab

import (
	"fmt"
	"strings"
)

// StuckWant is a socket that has not ended when the steps are done, and the
// diagnosis that it must get. It is a line of the section "stuck":
//
//	SOCKET DIAGNOSIS
type StuckWant struct {
	Line              int
	Socket, Diagnosis string
}

// StuckSeen is a socket that was found stuck, and its diagnosis.
type StuckSeen struct {
	Endpoint
	Diagnosis string
}

func parseStuckWant(text string, line int) (StuckWant, error) {
	words := strings.Fields(text)
	if len(words) != 2 || !isName(words[0]) {
		return StuckWant{}, fmt.Errorf("want SOCKET DIAGNOSIS, not %q", text)
	}
	return StuckWant{line, words[0], words[1]}, nil
}

// CompareStuck returns where the sockets found in a run's namespace, while its
// sockets were still open, differ from the section "stuck": all of them must be
// there, and no others. It returns nil for a scenario without that section.
func CompareStuck(sc *Scenario, res *Result, found []StuckSeen) (wrong []Mismatch) {
	if len(sc.Stuck) == 0 {
		return nil
	}
	expected := map[Endpoint]bool{}
	for _, want := range sc.Stuck {
		at := res.Sockets[want.Socket].unmap()
		expected[at] = true
		is := "not there"
		for _, s := range found {
			if s.unmap() == at {
				is = s.Diagnosis
			}
		}
		if is != want.Diagnosis {
			wrong = append(wrong, Mismatch{want.Line, fmt.Sprintf("expected %s %s; it is %s", want.Socket, want.Diagnosis, is)})
		}
	}
	for _, s := range found {
		if !expected[s.unmap()] {
			wrong = append(
				wrong,
				Mismatch{Text: fmt.Sprintf("not expected to be stuck: %s of %s to %s", s.Diagnosis, s.Local, s.Remote)},
			)
		}
	}
	return wrong
}
