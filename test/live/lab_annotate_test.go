//go:build linux

package live

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/lab"
)

// labCapture is what the scenarios that passed have sent, and which comments it has to have.
type labCapture struct {
	tracer *tracer
	mu     sync.Mutex
	sent   []labPacket
}

// labPacket is a packet of a scenario. All but the packet is about a FIN or a RST.
type labPacket struct {
	packet
	scenario string
	isEnd    bool // it is one
	segment  segment
	// paths are those of the endings of the scenario that explain it. It has the comment of one of them.
	paths []events.Path
	// unreported is why its sender may have no ending that explains it, or "". Without one it has the comment of the end
	// that received it, or none.
	unreported string
}

// add adds what a scenario sent, until its capture had settled.
func (c *labCapture) add(sc *lab.Scenario, w *capture) {
	endings := w.endings(c.tracer)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, sent := range w.kept {
		if w.isAfterEnd(fromWall(sent.at.UnixNano())) {
			continue
		}
		p := labPacket{packet: sent, scenario: sc.Name}
		var ok bool
		if p.segment, ok = parseSegment(sent.data); ok && p.segment.flags&(flagFIN|flagRST) != 0 {
			p.isEnd = true
			p.explain(endings, w.whyUnreported(c.tracer, p.segment))
		}
		c.sent = append(c.sent, p)
	}
}

// explain finds the endings that explain a FIN or a RST.
func (p *labPacket) explain(endings []events.Ending, unreported string) {
	p.unreported = unreported
	sender, flag := p.segment.sender(), p.segment.flags&(flagFIN|flagRST)
	receiver := key{sender.remote, sender.local}
	for i := range endings {
		e := &endings[i]
		sent := map[uint8]bool{flagFIN: e.FIN, flagRST: e.RST}[flag]
		received := map[uint8]bool{flagFIN: e.HasFIN() && !e.FIN, flagRST: e.ReceivedRST()}[flag]
		end := wireAddresses(e)
		if end == sender && sent && unreported != forged || end == receiver && received && unreported != "" {
			p.paths = append(p.paths, e.Path)
		}
	}
}

// forged is why a segment of the lab has no ending: no socket sent it. The lab marks it, see [lab.ForgedTOS].
const forged = "the lab forged it"

// whyUnreported returns why the sender of a segment may have no ending that explains it, or "".
func (w *capture) whyUnreported(tr *tracer, s segment) string {
	switch {
	case s.flags&flagRST != 0 && s.tos == lab.ForgedTOS:
		return forged
	case s.inReply() && tr.blindToReplies():
		return "this mode does not report replies on this kernel"
	case s.inReply() && w.firewall && tr.blindToNetfilter():
		return "RSTs of netfilter are not reported"
	}
	return ""
}

// check annotates what was sent, and checks the comment on each packet.
func (c *labCapture) check(t *testing.T, recording string) {
	t.Helper()
	c.tracer.finish(t)
	slices.SortStableFunc(c.sent, func(a, b labPacket) int { return a.at.Compare(b.at) }) // as one capture would be
	var packets []packet
	for _, p := range c.sent {
		packets = append(packets, p.packet)
	}
	comments, said := annotate(t, packets, recording)
	explained, without := 0, map[string]int{}
	for i, p := range c.sent {
		if wrong := p.wrong(comments[i]); wrong != "" {
			t.Errorf("packet %d of %s: %s", i+1, p.scenario, wrong)
		}
		switch {
		case comments[i] != "":
			explained++
		case p.isEnd:
			without[p.scenario+": "+p.unreported]++
		}
	}
	c.checkForged(t, comments)
	t.Logf("lab, annotated: %d packets, %d FINs and RSTs explained, %d of them FINs sent again; without a comment: %v",
		len(c.sent), explained, c.sentAgain(t), without)
	if t.Failed() {
		t.Log(said)
	}
}

// checkForged checks that the end that a forged RST reset explains it. The lab also forges RSTs that no end accepts.
func (c *labCapture) checkForged(t *testing.T, comments []string) {
	t.Helper()
	explained := map[string]bool{} // by scenario
	for i, p := range c.sent {
		if p.unreported == forged && len(p.paths) > 0 {
			explained[p.scenario] = explained[p.scenario] || comments[i] != ""
		}
	}
	for scenario, ok := range explained {
		if !ok {
			t.Errorf("%s: no forged RST has the comment of the end that it reset", scenario)
		}
	}
}

// sendsAgain is a scenario in which close(2) waits a second for the ACK of a FIN: the kernel sends it again meanwhile.
const sendsAgain = "close.linger-wait.timeout"

// sentAgain returns how many FINs are retransmissions, and checks that there are some where there have to be.
func (c *labCapture) sentAgain(t *testing.T) (again int) {
	t.Helper()
	type fin struct {
		scenario string
		sender   key
		number   uint32
	}
	sent, most := map[fin]int{}, 0
	for _, p := range c.sent {
		if !p.isEnd || p.segment.flags&flagFIN == 0 {
			continue
		}
		f := fin{p.scenario, p.segment.sender(), p.segment.finSeq()}
		if sent[f]++; sent[f] > 1 {
			again++
		}
		if p.scenario == sendsAgain {
			most = max(most, sent[f])
		}
	}
	if most == 1 {
		t.Errorf("no FIN of %s was sent again", sendsAgain)
	}
	return again
}

// wrong returns what is wrong about the comment on a packet, or "".
func (p *labPacket) wrong(comment string) string {
	switch {
	case comment == "" && (!p.isEnd || p.unreported != ""):
	case !slices.ContainsFunc(p.paths, func(path events.Path) bool { return isOf(comment, path) }):
		return fmt.Sprintf("%v: %q, not one of %q", p.segment, comment, p.paths)
	}
	return ""
}

// The comment has to be that of the sender's ending or, if it may have none, that of the receiver's or none.
func TestLabPacket(t *testing.T) {
	here, there := netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddrPort("127.0.0.1:2")
	endings := []events.Ending{
		{Path: events.CloseFINActive, Local: here, Remote: there, FIN: true},
		{Path: events.CloseRSTUnread, Local: here, Remote: there, RST: true},
		{Path: events.RecvRST, Local: there, Remote: here},
	}
	const active, unread = "closetrace: close.fin.active a", "closetrace: close.rst.unread a"
	const received = "closetrace: recv.rst a"
	for _, tt := range []struct {
		name       string
		flags      uint8 // 0: no FIN and no RST
		unreported string
		right      []string
		wrong      []string
	}{
		{"FIN", flagFIN | flagACK, "", []string{active}, []string{"", unread, received, "closetrace: close.fin.actively a"}},
		{"RST", flagRST, "", []string{unread}, []string{"", active, received}},
		{"forged", flagRST, forged, []string{"", received}, []string{active, unread}},
		{"not reported", flagRST, "as I say", []string{"", received, unread}, []string{active}},
		{"data", 0, "", []string{""}, []string{active, unread, received}},
	} {
		p := labPacket{segment: segment{src: here, dst: there, flags: tt.flags}, isEnd: tt.flags != 0}
		if p.isEnd {
			p.explain(endings, tt.unreported)
		}
		for _, comment := range tt.right {
			if wrong := p.wrong(comment); wrong != "" {
				t.Errorf("%s: %s", tt.name, wrong)
			}
		}
		for _, comment := range tt.wrong {
			if p.wrong(comment) == "" {
				t.Errorf("%s: %q is right", tt.name, comment)
			}
		}
	}
}
