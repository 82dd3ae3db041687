package filter

import (
	"slices"

	"github.com/closetrace/closetrace/internal/events"
)

// errorRules say which endings lose data or surprise somebody; docs/filters.md
// tells it to people. An ending is one of them if any rule applies.
var errorRules = []struct {
	why     string
	applies func(*events.Ending) bool
}{
	{"a RST was sent", func(e *events.Ending) bool { return e.RST }},
	{"the connection was taken from its application: by a RST, by an ICMP error", func(e *events.Ending) bool {
		return e.Path == "recv.rst" || e.Path == "recv.icmp"
	}},
	{"it was given up, or somebody else ended it", func(e *events.Ending) bool { return e.Path.Family() == "abort" }},
	{"bytes that had come were thrown away unread", func(e *events.Ending) bool {
		return e.Evidence.UnreadBytes > 0 && (e.Path.Family() == "close" || e.Path.Family() == "disconnect")
	}},
	{"close(2) returned before the peer had acknowledged all, though SO_LINGER asked it to wait", func(e *events.Ending) bool {
		return Pattern("close.linger-wait").Covers(e.Path) && e.Path != "close.linger-wait.done"
	}},
	{"handshakes in progress were dropped", func(e *events.Ending) bool { return e.Path == "close.listen.synrecv" }},
	{"the call failed", func(e *events.Ending) bool { return e.Evidence.Errno != 0 || Pattern("app.write").Covers(e.Path) }},
}

// stray are RSTs in answer to segments that fit into no connection: they end
// none.
var stray = []events.Path{"reply.embryonic", "reply.synsent-badack", "reply.synrecv-badack"}

// IsError tells whether an ending loses data or surprises somebody. A RST that
// takes nothing from anybody does not.
func IsError(e *events.Ending) bool {
	if e.Harmless || slices.Contains(stray, e.Path) {
		return false
	}
	for _, r := range errorRules {
		if r.applies(e) {
			return true
		}
	}
	return false
}

// ErrorRules are the reasons that make an ending an error.
func ErrorRules() []string {
	var whys []string
	for _, r := range errorRules {
		whys = append(whys, r.why)
	}
	return whys
}
