//go:build linux

package main

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/closetrace/closetrace/internal/capture/capturetest"
)

// writeCapture PACKETS FILE writes a capture, pcap or pcapng by its name, of segments: lines of time, source,
// destination, flags (F, R, A), sequence and acknowledgment number.
func writeCapture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: capture PACKETS FILE")
	}
	var b bytes.Buffer
	ng, err := pcapgo.NewNgWriter(&b, layers.LinkTypeRaw)
	ts.Check(err)
	write, flush := ng.WritePacket, ng.Flush
	if strings.HasSuffix(args[1], ".pcap") {
		b.Reset()
		w := pcapgo.NewWriter(&b)
		ts.Check(w.WriteFileHeader(65535, layers.LinkTypeRaw))
		write, flush = w.WritePacket, func() error { return nil }
	}
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		at, packet := segmentOf(ts, line)
		info := gopacket.CaptureInfo{Timestamp: at, CaptureLength: len(packet), Length: len(packet)}
		ts.Check(write(info, packet))
	}
	ts.Check(flush())
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), b.Bytes(), 0o644))
}

func segmentOf(ts *testscript.TestScript, line string) (time.Time, []byte) {
	var when, src, dst, flags string
	tcp := &layers.TCP{}
	_, err := fmt.Sscan(line, &when, &src, &dst, &flags, &tcp.Seq, &tcp.Ack)
	ts.Check(err)
	at, err := time.Parse(time.RFC3339Nano, when)
	ts.Check(err)
	from, to := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	tcp.SrcPort, tcp.DstPort = layers.TCPPort(from.Port()), layers.TCPPort(to.Port())
	tcp.FIN, tcp.RST = strings.Contains(flags, "F"), strings.Contains(flags, "R")
	tcp.ACK = strings.Contains(flags, "A")
	ip := &layers.IPv4{
		Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: from.Addr().AsSlice(), DstIP: to.Addr().AsSlice(),
	}
	b := gopacket.NewSerializeBuffer()
	ts.Check(gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true}, ip, tcp))
	return at, b.Bytes()
}

// comments FILE TO writes the comment on a capture, and those on its packets, to a file: one line for each.
func comments(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: comments FILE TO")
	}
	r, err := pcapgo.NewNgReader(strings.NewReader(ts.ReadFile(args[0])), pcapgo.NgReaderOptions{})
	ts.Check(err)
	// The version is that of the build.
	head, rest, _ := strings.Cut(r.SectionInfo().Comment, "; ")
	if !strings.HasPrefix(head, "closetrace: ") {
		ts.Fatalf("the comment on the capture is %q", r.SectionInfo().Comment)
	}
	lines := rest + "\n"
	for {
		_, _, options, err := r.ReadPacketDataWithOptions()
		if err != nil {
			break
		}
		lines += strings.Join(options.Comments, " + ") + "\n"
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(lines), 0o644))
}

// strip FROM TO copies a capture without the comments of closetrace.
func strip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: strip FROM TO")
	}
	stripped := capturetest.Strip([]byte(ts.ReadFile(args[0])), "closetrace: ")
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), stripped, 0o644))
}
