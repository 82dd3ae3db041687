package capture

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket/pcapgo"

	"github.com/closetrace/closetrace/internal/capture/capturetest"
	"github.com/closetrace/closetrace/internal/hint"
)

const comment = "closetrace: close.rst.unread nginx[4211] 148 B unread"

// mustRead returns a capture and what is in it.
func mustRead(t testing.TB, text []byte) (*File, []Segment, *Contents) {
	t.Helper()
	f, err := Read("test", bytes.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	var found []Segment
	c, err := f.Scan(func(s *Segment) { found = append(found, *s) })
	if err != nil {
		t.Fatal(err)
	}
	return f, found, c
}

// annotated returns a copy with a comment on each packet, or on none.
func annotated(t testing.TB, f *File, c *Contents, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	err := f.Copy(&b, c, Comments{
		Program: "closetrace", File: text,
		Packet: func(int64) string { return text },
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// builder writes a pcapng file by hand.
type builder struct {
	binary.ByteOrder
	b []byte
}

func (w *builder) block(kind uint32, body ...any) {
	var in bytes.Buffer
	for _, part := range body {
		if err := binary.Write(&in, w.ByteOrder, part); err != nil {
			panic(err)
		}
	}
	in.Write(make([]byte, -in.Len()&3))
	length := make([]byte, 4)
	w.PutUint32(length, uint32(12+in.Len()))
	kinds := make([]byte, 4)
	w.PutUint32(kinds, kind)
	w.b = append(w.b, slices.Concat(kinds, length, in.Bytes(), length)...)
}

// option returns an option with its padding.
func (w *builder) option(code uint16, value []byte) []byte {
	return appendOption(nil, w.ByteOrder, code, string(value))
}

func (w *builder) section(length uint64, options ...byte) {
	w.block(sectionHeader, uint32(byteOrderMagic), uint16(1), uint16(0), length, options)
}

func (w *builder) link(kind uint16, options ...byte) {
	w.block(interfaceBlock, kind, uint16(0), uint32(0), options)
}

func (w *builder) packet(id uint32, at uint64, data []byte, options ...byte) {
	all := append(slices.Clone(data), make([]byte, -len(data)&3)...)
	w.block(enhancedPacket, id, uint32(at>>32), uint32(at), uint32(len(data)), uint32(len(data)), all, options)
}

// An IPv4 packet with a FIN, 5 bytes of data, and one of IPv6 with a RST behind two extension headers.
var (
	fin4 = []byte{
		0x45, 0, 0, 57, 0x12, 0x34, 0x40, 0, 64, 6, 0, 0, 127, 0, 0, 1, 127, 0, 0, 2,
		0x1f, 0x90, 0x00, 0x50, 0, 0, 1, 0, 0, 0, 2, 0, 0x80, FIN | ACK, 2, 0, 0, 0, 0, 0,
		1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 'h', 'e', 'l', 'l', 'o',
	}
	rst6 = []byte{
		0x60, 0, 0, 0, 0, 36, 0, 64,
		0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
		60, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0,
		0x00, 0x50, 0x1f, 0x90, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0x50, RST, 0, 0, 0, 0, 0, 0,
	}
)

const (
	fin4Text = "127.0.0.1:8080 > 127.0.0.2:80 flags 11 seq 256 ack 512 FIN at 261"
	rst6Text = "[::1]:80 > [::1]:8080 flags 4 seq 4294967295 ack 0 FIN at 4294967295"
)

func textOf(s *Segment) string {
	return fmt.Sprintf("%v > %v flags %x seq %d ack %d FIN at %d", s.Src, s.Dst, s.Flags, s.Seq, s.Ack, s.FINSeq())
}

// several returns a file of two sections of different byte orders, with all that a copy must keep. The second section
// says its length.
func several() []byte {
	w := &builder{ByteOrder: binary.BigEndian}
	w.section(unknownLength, append(w.option(userAppl, []byte("test")), 0, 0, 0, 0)...)
	w.link(linkRaw) // microseconds
	w.link(linkEthernet, slices.Concat(w.option(2, []byte("eth0")), w.option(4, make([]byte, 8)),
		w.option(resolution, []byte{9}), w.option(timeOffset, []byte{0, 0, 0, 0, 0, 0, 0, 100}), make([]byte, 4))...)
	w.packet(0, 1_500_000, fin4)
	ethernet := append([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x81, 0, 0, 1, 0x86, 0xdd}, rst6...)
	w.packet(1, 2_000_000_007, ethernet, slices.Concat(
		w.option(commentOption, []byte("looked at by hand")), w.option(2, make([]byte, 4)), make([]byte, 4))...)
	w.block(4, uint16(1), uint16(8), []byte{127, 0, 0, 1}, []byte("lo\x00\x00"), uint32(0)) // name resolution
	w.block(10, uint32(0x544c534b), uint32(3), []byte("key"))                               // secrets
	w.block(0xbad, uint32(32473), []byte("custom"))
	w.block(5, uint32(0), uint64(0)) // statistics
	first := w.b

	w = &builder{ByteOrder: binary.LittleEndian}
	w.link(linkSLL2, append(w.option(resolution, []byte{0x80 | 10}), 0, 0, 0, 0)...)
	sll2 := append([]byte{8, 0, 0, 0, 0, 0, 0, 1, 0, 1, 4, 6, 0, 0, 0, 0, 0, 0, 0, 0}, fin4...)
	w.packet(0, 1024+512, sll2)
	w.block(packetBlock, uint16(0), uint16(3), uint32(0), uint32(2048), uint32(len(sll2)), uint32(len(sll2)), sll2)
	w.block(simplePacket, uint32(len(sll2)), sll2)
	w.packet(7, 0, fin4)                                // of no interface
	w.packet(0, 0, sll2, 1, 0, 0xff, 0xff)              // an option that is longer than the block
	w.packet(0, 1024, bytes.Repeat([]byte{0}, 300<<10)) // larger than the buffer
	second := w.b
	w.b = nil
	w.section(uint64(len(second)))
	return slices.Concat(first, w.b, second)
}

func TestScanSeveralSections(t *testing.T) {
	_, found, c := mustRead(t, several())
	var got []string
	for _, s := range found {
		got = append(got, fmt.Sprintf("%d %v %v %v %s", s.Packet, s.HasTime, s.Commentable, s.Time.UnixNano(), textOf(&s)))
	}
	want := []string{
		"1 true true 1500000000 " + fin4Text,
		"2 true true 102000000007 " + rst6Text,
		"3 true true 1500000000 " + fin4Text,
		"4 true true 2000000000 " + fin4Text,
		"5 false false 0 " + fin4Text,
		"7 true true 0 " + fin4Text,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
	if c.Packets != 8 || c.Damage != nil || c.Unread[-1] != 1 {
		t.Errorf("%+v", c)
	}
}

// A copy differs from the file by the comments alone.
func TestCopyAddsOnlyComments(t *testing.T) {
	files := map[string][]byte{"several": several()}
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/gopacket/gopacket").Output()
	if err != nil {
		t.Fatal(err)
	}
	samples, err := filepath.Glob(strings.TrimSpace(string(out)) + "/pcapgo/tests/*/*.pcapng")
	if err != nil || len(samples) < 50 {
		t.Fatalf("%d samples, %v", len(samples), err)
	}
	for _, sample := range samples {
		files[filepath.Base(filepath.Dir(sample))+"/"+filepath.Base(sample)], err = os.ReadFile(sample)
		if err != nil {
			t.Fatal(err)
		}
	}
	damaged := 0
	for name, text := range files {
		f, found, c := mustRead(t, text)
		if got := annotated(t, f, c, ""); !bytes.Equal(got, text) {
			t.Errorf("%s: without comments, the copy differs", name)
		}
		if c.Damage != nil {
			damaged++
			continue
		}
		with := annotated(t, f, c, comment)
		if bytes.Equal(with, text) {
			t.Errorf("%s: no comment", name)
		}
		if got := capturetest.Strip(with, "closetrace: "); !bytes.Equal(got, text) {
			t.Errorf("%s: more than comments was added", name)
		}
		g, again, c := mustRead(t, with)
		if !slices.Equal(again, found) {
			t.Errorf("%s: found %v, before %v", name, again, found)
		}
		if twice := annotated(t, g, c, comment); !bytes.Equal(twice, with) {
			t.Errorf("%s: comments twice", name)
		}
	}
	if damaged > 2 {
		t.Errorf("%d files are damaged", damaged)
	}
}

// gopacket, which shares no code with this package, reads the comments.
func TestCommentsAreRead(t *testing.T) {
	w := &builder{ByteOrder: binary.BigEndian}
	w.section(unknownLength)
	w.link(linkRaw)
	w.packet(0, 1, fin4)
	w.packet(0, 2, fin4, slices.Concat(w.option(commentOption, []byte("mine")), make([]byte, 4))...)
	f, _, c := mustRead(t, w.b)
	r, err := pcapgo.NewNgReader(bytes.NewReader(annotated(t, f, c, comment)), pcapgo.NgReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := r.SectionInfo().Comment; got != comment {
		t.Errorf("the section: %q", got)
	}
	for _, want := range [][]string{{comment}, {comment, "mine"}} {
		data, _, options, err := r.ReadPacketDataWithOptions()
		if err != nil || !bytes.Equal(data, fin4) || !slices.Equal(options.Comments, want) {
			t.Errorf("%q, %v", options.Comments, err)
		}
	}
}

// pcapFile returns a pcap file of three packets.
func pcapFile(order binary.ByteOrder, magic uint32, network uint32) []byte {
	var b bytes.Buffer
	for _, part := range []any{magic, uint16(2), uint16(4), uint64(0), uint32(65535), network} {
		_ = binary.Write(&b, order, part)
	}
	for i, data := range [][]byte{fin4, rst6, fin4[:34]} {
		for _, n := range []int{1_800_000_000, 7 + i, len(data), max(len(data), len(fin4))} {
			_ = binary.Write(&b, order, uint32(n))
		}
		b.Write(data)
	}
	return b.Bytes()
}

// A pcap file becomes a pcapng file with the same packets, times and resolution, as gopacket reads both.
func TestConvertPcap(t *testing.T) {
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		for _, magic := range []uint32{microseconds, nanoseconds} {
			text := pcapFile(order, magic, linkRaw|1<<26|2<<28)
			f, found, c := mustRead(t, text)
			if len(found) != 3 || textOf(&found[0]) != fin4Text || textOf(&found[1]) != rst6Text || c.Damage != nil {
				t.Errorf("%v, %+v", found, c)
			}
			copied := annotated(t, f, c, comment)
			old, err := pcapgo.NewReader(bytes.NewReader(pcapFile(order, magic, linkRaw)))
			if err != nil {
				t.Fatal(err)
			}
			now, err := pcapgo.NewNgReader(bytes.NewReader(copied), pcapgo.NgReaderOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for {
				data, info, err := old.ReadPacketData()
				got, gotInfo, options, gotErr := now.ReadPacketDataWithOptions()
				if err != gotErr {
					t.Fatal(err, gotErr)
				}
				if err == io.EOF {
					break
				}
				if !bytes.Equal(data, got) || !info.Timestamp.Equal(gotInfo.Timestamp) || info.Length != gotInfo.Length {
					t.Errorf("%v became %v", info, gotInfo)
				}
				if !slices.Equal(options.Comments, []string{comment}) {
					t.Errorf("%q", options.Comments)
				}
			}
			if old.Resolution() != now.Resolution() || now.LinkType() != old.LinkType() {
				t.Errorf("resolution %v became %v", old.Resolution(), now.Resolution())
			}
			if !bytes.Contains(copied, []byte{13, 0, 1, 0, 32, 0, 0, 0}) {
				t.Error("no if_fcslen of 32 bits")
			}
			g, again, c := mustRead(t, copied)
			if !slices.Equal(again, found) || !bytes.Equal(annotated(t, g, c, ""), copied) {
				t.Error("the copy reads otherwise")
			}
		}
	}
}

// A file that ends anywhere is read up to there, and nothing of it is lost.
func TestCutFiles(t *testing.T) {
	whole := several()
	_, all, _ := mustRead(t, whole)
	small := len(whole) - 300<<10 // but for the large packet
	for size := 4; size < small; size++ {
		f, found, c := mustRead(t, whole[:size])
		if !slices.Equal(found, all[:len(found)]) {
			t.Fatalf("%d bytes: other segments", size)
		}
		if got := annotated(t, f, c, ""); !bytes.Equal(got, whole[:size]) {
			t.Fatalf("%d bytes: the copy differs", size)
		}
		with := annotated(t, f, c, comment)
		if c.Damage != nil && !bytes.HasSuffix(with, whole[c.Damage.At:size]) {
			t.Fatalf("%d bytes: %v, and its rest is lost", size, c.Damage)
		}
	}
	old := pcapFile(binary.LittleEndian, nanoseconds, linkRaw)
	for size := legacyHeader; size < len(old); size++ {
		f, _, c := mustRead(t, old[:size])
		_, found, again := mustRead(t, annotated(t, f, c, comment))
		if again.Damage != nil || again.Packets != c.Packets {
			t.Fatalf("%d bytes: %+v became %+v, %v", size, c, again, found)
		}
		if isWhole := size == 24 || size == 24+16+57 || size == 24+2*16+57+76; (c.Damage == nil) != isWhole {
			t.Fatalf("%d bytes: %v", size, c.Damage)
		}
	}
}

func TestDamage(t *testing.T) {
	small := &builder{ByteOrder: binary.LittleEndian}
	small.section(unknownLength)
	small.link(linkRaw)
	at := len(small.b)
	small.packet(0, 0, fin4)
	behind := len(small.b)
	small.packet(0, 1, fin4)
	huge := pcapFile(binary.LittleEndian, microseconds, linkRaw)
	binary.LittleEndian.PutUint32(huge[24+8:], 0xfffffff0)
	for _, tt := range []struct {
		name   string
		change func(b []byte)
		text   string
		found  int
		want   string
	}{
		{"length 0", func(b []byte) { small.PutUint32(b[behind+4:], 0) }, "", 1, "a block has an impossible length"},
		{"not of 32 bits", func(b []byte) { small.PutUint32(b[behind+4:], 33) }, "", 1, "a block has an impossible length"},
		{"too long", func(b []byte) { small.PutUint32(b[behind+4:], 0xfffffff0) }, "", 1, "the file ends within a block"},
		{"two lengths", func(b []byte) { b[len(b)-4]++ }, "", 1, "a block has two lengths"},
		{"no byte order", func(b []byte) { b[8] = 0 }, "", 0, "a section has no byte order"},
		{"data longer than its block", func(b []byte) { small.PutUint32(b[at+20:], 0xffffffff) }, "", 2, ""},
		{"pcap", nil, string(huge), 0, "a packet has an impossible length"},
	} {
		b := []byte(cmp.Or(tt.text, string(small.b)))
		if tt.change != nil {
			tt.change(b)
		}
		f, found, c := mustRead(t, b)
		got := ""
		if c.Damage != nil {
			got = c.Damage.What
		}
		if len(found) != tt.found || got != tt.want {
			t.Errorf("%s: %d segments, %v", tt.name, len(found), c.Damage)
		}
		if copied := annotated(t, f, c, ""); f.legacy == nil && !bytes.Equal(copied, b) {
			t.Errorf("%s: the copy differs", tt.name)
		}
	}
}

func TestRefusedFiles(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"", "test is empty"},
		{"#!/bin/sh\n", "test is neither pcap nor pcapng"},
		{"GIF", "test is neither pcap nor pcapng"},
		{"\x1f\x8b\x08\x00rest", "test is compressed"},
		{"\x28\xb5\x2f\xfd", "test is compressed"},
		{"\xfd7zXZ\x00", "test is compressed"},
		{"BZh9", "test is compressed"},
		{"\xa1\xb2\xcd\x34\x00\x02", "test is a modified pcap file"},
		{"\xa1\xb2\xc3\xd4\x00\x02", "test ends within its header"},
		{"\xa1\xb2\xc3\xd4\x00\x03" + strings.Repeat("\x00", 18), "test is of another version of pcap"},
	} {
		_, err := Read("test", strings.NewReader(tt.text), int64(len(tt.text)))
		if err == nil || err.Error() != tt.want || !hint.Is(err, hint.Usage) || hint.Of(err) == "" {
			t.Errorf("%q: %v", tt.text, err)
		}
	}
}

func TestClock(t *testing.T) {
	for _, tt := range []struct {
		resolution byte
		offset     int64
		units      uint64
		want       int64 // ns; -1: none
	}{
		{6, 0, 1_234_567, 1_234_567_000},
		{9, 5, 1_234_567, 5_001_234_567},
		{0, 0, 7, 7e9},
		{12, 0, 1_999, 1},
		{18, 0, ^uint64(0), 18_446_744_073},
		{0x80 | 1, 0, 3, 1_500_000_000},
		{0x80 | 63, 0, 1 << 62, 500_000_000},
		{0x80 | 64, 0, 1, -1},
		{20, 0, 1, -1},
		{0, 0, ^uint64(0), -1},
		{6, -1 << 63, 1, -1},
	} {
		l := link{units: unitsOf(tt.resolution), offset: tt.offset}
		at, ok := l.clock(tt.units)
		if ok != (tt.want >= 0) || ok && !at.Equal(time.Unix(0, tt.want)) {
			t.Errorf("%+v: %v, %v", tt, at, ok)
		}
	}
}

// The hint for a compressed file names the program.
func TestDecompressors(t *testing.T) {
	for begin, want := range map[string]string{"\x1f\x8b\x08\x00": "gunzip -k", "\x28\xb5\x2f\xfd": "unzstd"} {
		_, err := Read("test", strings.NewReader(begin), 4)
		if got := hint.Of(err); got != "decompress it first, with "+want {
			t.Errorf("%q: %q", begin, got)
		}
	}
}

// Whatever a file holds, it is read without a panic, its copy without comments is the same, and one with comments has
// the same segments.
func FuzzCapture(f *testing.F) {
	f.Add(several()[:1500])
	f.Add(pcapFile(binary.BigEndian, microseconds, linkRaw))
	f.Fuzz(func(t *testing.T, text []byte) {
		file, err := Read("fuzz", bytes.NewReader(text), int64(len(text)))
		if err != nil {
			return
		}
		_, found, c := mustRead(t, text)
		if got := annotated(t, file, c, ""); file.legacy == nil && !bytes.Equal(got, text) {
			t.Error("the copy differs")
		}
		_, again, after := mustRead(t, annotated(t, file, c, comment))
		if !slices.Equal(again, found) || after.Packets != c.Packets {
			t.Errorf("%d packets, %v became %d, %v", c.Packets, found, after.Packets, again)
		}
	})
}
