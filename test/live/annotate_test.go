//go:build linux

package live

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/closetrace/closetrace/internal/capture/capturetest"
	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/lab"
)

// annotatedScenarios send FINs and RSTs of most kinds, and take little time.
var annotatedScenarios = []string{
	"abort.diag", "close.fin.active", "close.fin.active_ipv6", "close.fin.passive", "close.fin.active_unsent",
	"close.rst.accept-queue-child", "close.rst.linger0", "close.rst.unread", "close.rst.unread_after-shutdown",
	"disconnect.rst", "shutdown.wr",
}

// In a capture of scenarios, every FIN and RST gets the comment of its ending, from a recording of the same time.
// Without the comments the file is what it was.
func TestAnnotate(t *testing.T) {
	privileged(t)
	dir := t.TempDir()
	recording := filepath.Join(dir, "a.rec")
	captured, commented := filepath.Join(dir, "a.pcapng"), filepath.Join(dir, "b.pcapng")
	r := launchTo(t, outputFile(t), "record", "-w", recording)
	ran := captureScenarios(t, captured)
	if code, stderr := r.interrupt(t); code != 0 {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	path, err := program()
	must(t, err)
	said, err := exec.Command(path, "annotate", "-v", captured, "-r", recording, "-o", commented).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	endings, err := exec.Command(path, "replay", "-o", "json", recording).Output()
	must(t, err)

	before, err := os.ReadFile(captured)
	must(t, err)
	after, err := os.ReadFile(commented)
	must(t, err)
	if !bytes.Equal(capturetest.Strip(after, "closetrace: "), before) {
		t.Error("without comments, the file is another one")
	}
	comments := readComments(t, after)
	checkComments(t, comments, endings)
	for _, name := range ran {
		if scenario, _, _ := strings.Cut(name, "_"); !slices.ContainsFunc(comments, func(c commentedSegment) bool {
			return strings.HasPrefix(c.comment, "closetrace: "+scenario+" ")
		}) {
			t.Errorf("no comment for %s", name)
		}
	}
	if t.Failed() {
		t.Logf("%s", said)
	}
	checkTshark(t, commented, comments)
}

// captureScenarios runs scenarios with a capture to a file, and returns which ran.
func captureScenarios(t *testing.T, to string) (ran []string) {
	t.Helper()
	file, err := os.Create(to)
	must(t, err)
	defer file.Close()
	w, err := pcapgo.NewNgWriter(file, layers.LinkTypeRaw)
	must(t, err)
	var mu sync.Mutex
	for _, name := range annotatedScenarios {
		sc, err := lab.Find(name)
		must(t, err)
		var c *capture
		res, err := sc.RunWith(t.Context(), func(*lab.Result) (err error) {
			c, err = startCaptureTo(func(packet []byte, at time.Time) {
				mu.Lock()
				defer mu.Unlock()
				info := gopacket.CaptureInfo{Timestamp: at, CaptureLength: len(packet), Length: wireLength(packet)}
				if err := w.WritePacket(info, packet); err != nil {
					t.Error(err)
				}
			})
			return err
		}, func(*lab.Result) { time.Sleep(quietTime) })
		must(t, err)
		if c != nil {
			c.close(t)
		}
		if res.NotPossible == "" {
			ran = append(ran, name)
		}
	}
	must(t, w.Flush())
	return ran
}

// wireLength returns the length of a packet by its header.
func wireLength(packet []byte) int {
	if len(packet) < 20 {
		return len(packet)
	}
	length := int(binary.BigEndian.Uint16(packet[2:]))
	if packet[0]>>4 == 6 {
		length = 40 + int(binary.BigEndian.Uint16(packet[4:]))
	}
	return max(length, len(packet))
}

// commentedSegment is a FIN or a RST of a capture.
type commentedSegment struct {
	segment
	comment string
}

// readComments returns the FINs and RSTs of a capture, as gopacket reads it.
func readComments(t *testing.T, file []byte) (found []commentedSegment) {
	t.Helper()
	r, err := pcapgo.NewNgReader(bytes.NewReader(file), pcapgo.NgReaderOptions{})
	must(t, err)
	for {
		packet, _, options, err := r.ReadPacketDataWithOptions()
		if err == io.EOF {
			break
		}
		must(t, err)
		s, ok := parseSegment(packet)
		if ok && s.flags&(flagFIN|flagRST) != 0 && s.tos != lab.ForgedTOS {
			found = append(found, commentedSegment{s, strings.Join(options.Comments, "; ")})
		} else if len(options.Comments) > 0 && (!ok || s.tos != lab.ForgedTOS) {
			t.Errorf("%v: %q", s, options.Comments)
		}
	}
	if len(found) < len(annotatedScenarios) {
		t.Errorf("only %d FINs and RSTs", len(found))
	}
	return found
}

// checkComments checks that the comment on each segment is that of an ending of its sender that sent such a segment.
func checkComments(t *testing.T, comments []commentedSegment, endings []byte) {
	t.Helper()
	possible := map[flow][]events.Path{}
	for text := range bytes.Lines(endings) {
		var e struct {
			Path          events.Path
			Local, Remote netip.AddrPort
			FIN, RST      bool
		}
		must(t, json.Unmarshal(text, &e))
		for flag, sent := range map[uint8]bool{flagFIN: e.FIN, flagRST: e.RST} {
			if f := (flow{key{unmapped(e.Local), unmapped(e.Remote)}, flag}); sent {
				possible[f] = append(possible[f], e.Path)
			}
		}
	}
	for _, s := range comments {
		paths := possible[flow{s.sender(), s.flags & (flagFIN | flagRST)}]
		if !slices.ContainsFunc(paths, func(p events.Path) bool {
			return strings.HasPrefix(s.comment, "closetrace: "+string(p)+" ")
		}) && !(s.comment == "" && s.inReply() && len(paths) == 0) {
			t.Errorf("%v: %q, not one of %q", s.segment, s.comment, paths)
		}
	}
}

// checkTshark checks that tshark, if it is installed, reads the same comments.
func checkTshark(t *testing.T, file string, comments []commentedSegment) {
	t.Helper()
	tshark, err := exec.LookPath("tshark")
	if err != nil {
		t.Log("tshark is not installed; gopacket alone has read the comments")
		return
	}
	out, err := exec.Command(tshark, "-r", file, "-Y", "tcp.flags.fin==1 || tcp.flags.reset==1", "-T", "fields",
		"-e", "ip.dsfield", "-e", "ipv6.tclass", "-e", "frame.comment").Output()
	must(t, err)
	for _, s := range comments {
		if !strings.Contains(string(out), s.comment) {
			t.Errorf("tshark reads no %q", s.comment)
		}
	}
	if got := strings.Count(string(out), "closetrace: "); got < len(comments) {
		t.Errorf("tshark reads %d comments, not %d:\n%s", got, len(comments), out)
	}
}
