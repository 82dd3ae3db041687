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

// In a capture of scenarios, every FIN and RST gets the comment of its ending, from a recording of the same time by
// closetrace record. TestLab has all scenarios.
func TestAnnotate(t *testing.T) {
	privileged(t)
	recording := filepath.Join(t.TempDir(), "a.rec")
	r := launchTo(t, outputFile(t), "record", "-w", recording)
	ran, packets := captureScenarios(t)
	if code, stderr := r.interrupt(t); code != 0 {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	path, err := program()
	must(t, err)
	endings, err := exec.Command(path, "replay", "-o", "json", recording).Output()
	must(t, err)
	comments, said := annotate(t, packets, recording)
	segments := commented(t, packets, comments)
	checkComments(t, segments, endings)
	for _, name := range ran {
		if scenario, _, _ := strings.Cut(name, "_"); !slices.ContainsFunc(comments, func(comment string) bool {
			return isOf(comment, events.Path(scenario))
		}) {
			t.Errorf("no comment for %s", name)
		}
	}
	if t.Failed() {
		t.Log(said)
	}
}

// captureScenarios runs scenarios, and returns which ran and what was sent meanwhile.
func captureScenarios(t *testing.T) (ran []string, packets []packet) {
	t.Helper()
	for _, name := range annotatedScenarios {
		sc, err := lab.Find(name)
		must(t, err)
		var c *capture
		res, err := sc.RunWith(t.Context(), func(*lab.Result) (err error) {
			c, err = startCaptureTo(func(data []byte, at time.Time) {
				packets = append(packets, packet{at, bytes.Clone(data)})
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
	return ran, packets
}

// annotate writes packets to a capture and annotates it, and returns the comment on each packet and what closetrace
// printed. But for the comments the file has to be what it was, and tshark has to read the same, if it is installed.
func annotate(t *testing.T, packets []packet, recording string) (comments []string, said string) {
	t.Helper()
	dir := t.TempDir()
	captured, annotated := filepath.Join(dir, "a.pcapng"), filepath.Join(dir, "b.pcapng")
	writeCapture(t, captured, packets)
	path, err := program()
	must(t, err)
	out, err := exec.Command(path, "annotate", "-v", captured, "-r", recording, "-o", annotated).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	before, err := os.ReadFile(captured)
	must(t, err)
	after, err := os.ReadFile(annotated)
	must(t, err)
	if !bytes.Equal(capturetest.Strip(after, "closetrace: "), before) {
		t.Error("without comments, the file is another one")
	}
	comments = readComments(t, after)
	checkTshark(t, annotated, comments)
	return comments, string(out)
}

// writeCapture writes packets to a file.
func writeCapture(t *testing.T, path string, packets []packet) {
	t.Helper()
	file, err := os.Create(path)
	must(t, err)
	defer file.Close()
	w, err := pcapgo.NewNgWriter(file, layers.LinkTypeRaw)
	must(t, err)
	for _, p := range packets {
		info := gopacket.CaptureInfo{Timestamp: p.at, CaptureLength: len(p.data), Length: wireLength(p.data)}
		must(t, w.WritePacket(info, p.data))
	}
	must(t, w.Flush())
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

// readComments returns the comment on each packet of a capture, as gopacket reads it.
func readComments(t *testing.T, file []byte) (comments []string) {
	t.Helper()
	r, err := pcapgo.NewNgReader(bytes.NewReader(file), pcapgo.NgReaderOptions{})
	must(t, err)
	for {
		_, _, options, err := r.ReadPacketDataWithOptions()
		if err == io.EOF {
			return comments
		}
		must(t, err)
		comments = append(comments, strings.Join(options.Comments, ","))
	}
}

// commented returns the FINs and RSTs with their comments, without those that the lab forged. Nothing else may have a
// comment.
func commented(t *testing.T, packets []packet, comments []string) (found []commentedSegment) {
	t.Helper()
	for i, p := range packets {
		s, ok := parseSegment(p.data)
		if ok && s.flags&(flagFIN|flagRST) != 0 && s.tos != lab.ForgedTOS {
			found = append(found, commentedSegment{s, comments[i]})
		} else if comments[i] != "" && (!ok || s.tos != lab.ForgedTOS) {
			t.Errorf("%v: %q", s, comments[i])
		}
	}
	if len(found) < len(annotatedScenarios) {
		t.Errorf("only %d FINs and RSTs", len(found))
	}
	return found
}

// isOf reports whether a comment is that of an ending with a path.
func isOf(comment string, path events.Path) bool {
	return strings.HasPrefix(comment, "closetrace: "+string(path)+" ")
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
		if !slices.ContainsFunc(paths, func(p events.Path) bool { return isOf(s.comment, p) }) &&
			!(s.comment == "" && s.inReply() && len(paths) == 0) {
			t.Errorf("%v: %q, not one of %q", s.segment, s.comment, paths)
		}
	}
}

// checkTshark checks that tshark, if it is installed, reads the same comment on each packet.
func checkTshark(t *testing.T, file string, comments []string) {
	t.Helper()
	tshark, err := exec.LookPath("tshark")
	if err != nil {
		t.Log("tshark is not installed; gopacket alone has read the comments")
		return
	}
	out, err := exec.Command(tshark, "-r", file, "-T", "fields", "-e", "frame.comment").Output()
	must(t, err)
	read := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(read) != len(comments) {
		t.Fatalf("tshark reads %d packets, not %d", len(read), len(comments))
	}
	for i, comment := range comments {
		if read[i] != comment {
			t.Errorf("packet %d: tshark reads %q, not %q", i+1, read[i], comment)
		}
	}
}
