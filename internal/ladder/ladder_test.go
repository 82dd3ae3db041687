package ladder

import (
	"html"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/sink/table"
)

var (
	begin  = time.Date(2026, 11, 28, 12, 1, 2, 117e6, time.Local)
	client = netip.MustParseAddrPort("10.0.0.5:33042")
	server = netip.MustParseAddrPort("10.0.0.9:443")
	nginx  = &events.Task{PID: 4211, Comm: "nginx"}
	app    = &events.Task{PID: 977, Comm: "app"}
)

// reset is a close with unread data, and what the peer receives, which the kernel reported first.
func reset() []*events.Ending {
	return []*events.Ending{
		{
			Time: begin.Add(-time.Microsecond), Path: events.RecvRST, Title: "RST received", Trigger: events.TriggerSegment,
			Local: client, Remote: server, Owner: app, Before: events.Established, After: events.Close,
			Evidence: events.Evidence{SockErr: int(syscall.ECONNRESET), UnackedBytes: 1460},
			Peer:     &events.Past{Path: events.CloseRSTUnread, Actor: nginx},
		},
		{
			Time: begin, Path: events.CloseRSTUnread, Title: "close → RST", Trigger: events.TriggerClose, Actor: nginx,
			Local: server, Remote: client, RST: true, Before: events.Established, After: events.Close,
			Evidence: events.Evidence{UnreadBytes: 1503},
		},
		{
			Time: begin.Add(2 * time.Second), Path: events.ClosedReset, Trigger: events.TriggerClose, Actor: app,
			Local: client, Remote: server, Before: events.Close, After: events.Close,
			Earlier: &events.Past{Path: events.RecvRST, AgoNS: 2e9},
		},
	}
}

// late is data after a close: of the end that closed only what came later is known, and what it says of the close.
func late() []*events.Ending {
	return []*events.Ending{
		{
			Time: begin, Path: events.ReplyTimeWait, Title: "RST in reply", Trigger: events.TriggerSegment,
			Local: server, Remote: client, RST: true, Before: events.TimeWait, After: events.TimeWait,
			Evidence: events.Evidence{SegmentBytes: 9, SegmentAck: 7},
			Earlier:  &events.Past{Path: events.CloseFINActive, AgoNS: 250e6, Actor: nginx},
		},
		{
			Time: begin.Add(30 * time.Microsecond), Path: events.RecvRST, Title: "RST received",
			Trigger: events.TriggerSegment, Local: client, Remote: server, Owner: app,
			Before: events.CloseWait, After: events.Close,
			Evidence: events.Evidence{SockErr: int(syscall.EPIPE), PeerFIN: true, PeerFINAgo: 250 * time.Millisecond},
			Peer:     &events.Past{Path: events.ReplyTimeWait},
		},
	}
}

func TestText(t *testing.T) {
	both := late()
	both[1].Before, both[1].Evidence.SockErr = events.LastAck, int(syscall.ECONNRESET)
	tests := []struct {
		name   string
		of     []*events.Ending
		layout Layout
		want   string
	}{
		{"a reset", reset(), Layout{Width: 80}, `
              10.0.0.5:33042                              10.0.0.9:443
              app[977]                                    nginx[4211]
12:01:02.117                            <----- RST -----  close(2)
                                                          ESTABLISHED → CLOSE
                                                          1,503 B unread
+0 µs         RST received
              ESTABLISHED → CLOSE
              1,460 B not acknowledged
              ECONNRESET
+2.0 s        close(2)
`},
		{"a reset, in ASCII, without a limit", reset(), Layout{ASCII: true}, `
              10.0.0.5:33042                                        10.0.0.9:443
              app[977]                                              nginx[4211]
12:01:02.117                            <---------- RST ----------  close(2)
                                                                    ESTABLISHED -> CLOSE
                                                                    1,503 B unread
+0 us         RST received
              ESTABLISHED -> CLOSE
              1,460 B not acknowledged
              ECONNRESET
+2.0 s        close(2)
`},
		{"data after a close", late(), Layout{Width: 100, Indent: 2}, `
                10.0.0.5:33042                                  10.0.0.9:443
                app[977]                                        nginx[4211]
  12:01:01.867                      <---------- FIN ----------  close → FIN
  +30 µs        FIN received
                recv(2): EOF
  +250.0 ms                         ---------- 9 B ---------->  RST in reply
                                    <---------- RST ----------
  +250.0 ms     RST received
                CLOSE_WAIT → CLOSE
                send(2): EPIPE
`},
		{"data after a close, both have sent a FIN", both, Layout{Width: 100, Indent: 2}, `
                10.0.0.5:33042                                   10.0.0.9:443
                app[977]                                         nginx[4211]
  12:01:01.867                       <---------- FIN ----------  close → FIN
  +30 µs        FIN received
                recv(2): EOF
  +250.0 ms                          ---------- 9 B ---------->  RST in reply
                                     <---------- RST ----------
  +250.0 ms     RST received
                LAST_ACK → CLOSE
                send(2): ECONNRESET
`},
		{"one end only", reset()[:1], Layout{Width: 60}, `
              10.0.0.5:33042                    10.0.0.9:443
              app[977]                          nginx[4211]
12:01:02.116                  <----- RST -----  close → RST
+0 µs         RST received
              ESTABLISHED →
              CLOSE
              1,460 B not
              acknowledged
              ECONNRESET
`},
	}
	for _, tt := range tests {
		if got, want := New(tt.of).Text(tt.layout), strings.TrimPrefix(tt.want, "\n"); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", tt.name, got, want)
		}
	}
}

// Each line fits, whatever the addresses and names are, and nothing in them reaches the terminal.
func TestWidth(t *testing.T) {
	all := reset()
	long := netip.MustParseAddrPort("[2001:db8:1111:2222:3333:4444:5555:6666]:33042")
	for _, e := range all {
		if e.Local == client {
			e.Local, e.Remote = long, netip.AddrPortFrom(long.Addr(), 443)
		} else {
			e.Local, e.Remote = netip.AddrPortFrom(long.Addr(), 443), long
		}
	}
	all[0].Owner = &events.Task{PID: 1 << 22, Comm: "\x1b[31m日本語日本語日本語"}
	model := New(all)
	model.Ends[Left].Host, model.Ends[Right].Host = "web1", "db1"
	for width := leastDrawing; width < 200; width++ {
		text := model.Text(Layout{Width: width})
		for line := range strings.Lines(text) {
			if n := table.Width(strings.TrimSuffix(line, "\n")); n > width {
				t.Fatalf("width %d: %d cells: %s", width, n, line)
			}
		}
		if strings.Contains(text, "\x1b") {
			t.Fatalf("an escape in\n%s", text)
		}
		if !strings.Contains(text, "web1") || !strings.Contains(text, "ECONNRESET") {
			t.Fatalf("width %d: something is missing in\n%s", width, text)
		}
	}
}

func TestOnlyASCII(t *testing.T) {
	for _, tt := range []struct {
		all, ctype, lang string
		want             bool
	}{
		{"", "", "", false}, {"", "", "C", true}, {"", "", "en_US.UTF-8", false}, {"", "", "C.utf8", false},
		{"C", "C.UTF-8", "C.UTF-8", true}, {"", "C.UTF-8", "C", false}, {"", "", "de_DE.ISO-8859-15@euro", true},
		{"", "", "zh_CN.UTF-8@pinyin", false}, {"", "", "POSIX", true},
	} {
		env := map[string]string{"LC_ALL": tt.all, "LC_CTYPE": tt.ctype, "LANG": tt.lang}
		if got := OnlyASCII(func(name string) string { return env[name] }); got != tt.want {
			t.Errorf("%v: %t", env, got)
		}
	}
}

func TestEmpty(t *testing.T) {
	if model := New(nil); len(model.Steps) != 0 {
		t.Errorf("%v", model)
	}
}

func TestLostSegment(t *testing.T) {
	for want, s := range map[string]Segment{
		"---- FIN ----->x":   {From: Left, Label: "FIN", Lost: true},
		"x<---- FIN -----":   {From: Right, Label: "FIN", Lost: true},
		"<-- 1,460,000 B --": {From: Right, Label: "1,460,000 B"},
	} {
		if got := s.arrow(16); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// The image has what the text has, within its edges, and escapes names.
func TestImage(t *testing.T) {
	for _, all := range [][]*events.Ending{reset(), late(), reset()[:1]} {
		all[0].Owner = &events.Task{PID: 1, Comm: "</svg>\x1b"}
		g := New(all).Image(Layout{}, "how it ended")
		element, err := g.HTML()
		if err != nil {
			t.Fatal(err)
		}
		text := string(element)
		if strings.Count(text, "</svg>") != 1 || strings.ContainsRune(text, 0x1b) {
			t.Fatalf("not escaped: %s", text)
		}
		for line := range strings.FieldsSeq(New(all).Text(Layout{Width: 200})) {
			if strings.Trim(line, "-<>x") != "" && !strings.Contains(html.UnescapeString(text), line) {
				t.Errorf("%q is not in %s", line, text)
			}
		}
		for _, label := range g.Texts {
			if width := table.Width(label.Say); width > imageCells+2 || label.Y > g.Height {
				t.Errorf("%+v: outside of the image, which is %d high", label, g.Height)
			}
		}
	}
	if len(New(reset()).Image(Layout{}, "").Arrows) != 1 || len(New(late()).Image(Layout{}, "").Arrows) != 3 {
		t.Error("segments are missing")
	}
}

// A segment that does not arrive ends before the other end.
func TestImageOfLostSegment(t *testing.T) {
	m := &Model{Steps: []Step{{Segments: []Segment{{From: Right, Label: "FIN", Lost: true}}}}}
	a := m.Image(Layout{}, "").Arrows[0]
	if a.Class != "fin lost" || a.From != imageWidth-imageMargin-2 || a.To < imageWidth/5 {
		t.Errorf("%+v", a)
	}
}
