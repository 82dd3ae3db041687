package enrich

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// mapsText returns n mappings of 4096 bytes, each of another file, with paths of this length.
func mapsText(n, length int) string {
	var b strings.Builder
	for i := range n {
		path := fmt.Sprintf("/%0*d", length-1, i)
		fmt.Fprintf(&b, "%08x-%08x r-xp 00000000 fe:00 %d %s\n", (i+1)<<12, (i+2)<<12, i+1, path)
	}
	return b.String()
}

// What is read and kept of many mappings with long paths is bounded, and it is known where the rest begins.
func TestManyMappings(t *testing.T) {
	for _, tt := range []struct {
		n, length, kept int
	}{
		{2048, 20, 2048},  // all
		{2049, 20, 2048},  // too many
		{65000, 3800, 34}, // too long paths: 128 KB
		{32, 4096, 32},    // of exactly that
		{33, 4096, 32},
	} {
		text := mapsText(tt.n, tt.length)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		m := parseMaps(strings.NewReader(text))
		runtime.ReadMemStats(&after)
		if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 4<<20 {
			t.Errorf("%d mappings: %d kB allocated", tt.n, allocated>>10)
		}
		all := tt.kept == tt.n
		next := uint64(tt.kept+1) << 12
		if all {
			next = 0
		}
		if len(m.all) != tt.kept || m.cut != next || !all && (!m.hides(next) || m.hides(next-1)) {
			t.Errorf("%d paths of %d B: %d kept, cut at %#x; want %d", tt.n, tt.length, len(m.all), m.cut, tt.kept)
		}
	}
}

// Of mappings that are not executable, a limited number of bytes is read.
func TestMapsBytes(t *testing.T) {
	line := "00001000-00002000 rw-p 00000000 fe:00 1 /" + strings.Repeat("d", 1000) + "\n"
	m := parseMaps(strings.NewReader(strings.Repeat(line, 2*maxMapsBytes/len(line))))
	if len(m.all) != 0 || m.cut != 0x2000 {
		t.Errorf("%d kept, cut at %#x", len(m.all), m.cut)
	}
}

// A line that is too long has no path; those after it are read.
func TestLongLine(t *testing.T) {
	long := strings.Repeat("\\012", 10000)
	text := "1000-2000 r-xp 00000000 fe:00 1 /" + long + "\n2000-3000 r-xp 00000000 fe:00 2 /b\n"
	m := parseMaps(strings.NewReader(text))
	want := []mapping{{start: 0x1000, end: 0x2000, inode: 1}, {start: 0x2000, end: 0x3000, inode: 2, path: "/b"}}
	if len(m.all) != 2 || m.all[0] != want[0] || m.all[1] != want[1] || m.cut != 0 {
		t.Errorf("got %+v", m)
	}
}

// Whatever /proc says, little is kept of it.
func FuzzMaps(f *testing.F) {
	f.Add([]byte(mapsText(3, 20)))
	f.Add([]byte("1000-2000 r-xp 0 fe:00 1 /" + strings.Repeat("\\012", 3000) + "\n"))
	f.Add([]byte("\n- r-xp  \n\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		m := parseMaps(strings.NewReader(string(b)))
		runtime.ReadMemStats(&after)
		if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 16<<20+4*uint64(len(b)) {
			t.Errorf("%d bytes took %d kB", len(b), allocated>>10)
		}
		paths := 0
		for i, one := range m.all {
			if i == 0 || m.all[i-1].path != one.path {
				paths += len(one.path)
			}
		}
		if len(m.all) > maxMappings || paths > maxPathBytes {
			t.Errorf("%d mappings, %d bytes of paths are kept", len(m.all), paths)
		}
	})
}
