package enrich

import (
	"bufio"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Limits on what is read and kept of the mappings of a process.
const (
	maxMapsBytes = 4 << 20   // read
	maxMappings  = 2048      // executable ones
	maxPathBytes = 128 << 10 // of their paths
)

// mapping is an executable part of a file in memory.
type mapping struct {
	start, end, offset uint64
	inode              uint64
	path               string // "": none, or a line that is too long
}

// mappings are the executable mappings of a process, by address.
type mappings struct {
	all []mapping
	cut uint64 // the address from which there may be more; 0: these are all
}

// parseMaps reads the executable mappings within the limits: proc(5).
func parseMaps(r io.Reader) mappings {
	var m mappings
	limited := &io.LimitedReader{R: r, N: maxMapsBytes}
	lines := bufio.NewReaderSize(limited, 8<<10)
	paths, end := 0, uint64(0)
	for {
		line, err := lines.ReadSlice('\n')
		text := string(line)
		for errors.Is(err, bufio.ErrBufferFull) {
			text = withoutPath(text)
			_, err = lines.ReadSlice('\n')
		}
		if err != nil {
			if limited.N == 0 {
				m.cut = max(end, 1)
			}
			return m
		}
		one, executable := parseMapping(text)
		end = max(end, one.end)
		if !executable {
			continue
		}
		if n := len(m.all); n > 0 && m.all[n-1].path == one.path {
			one.path = m.all[n-1].path // one copy
		} else {
			one.path = strings.Clone(one.path)
			paths += len(one.path)
		}
		if len(m.all) == maxMappings || paths > maxPathBytes {
			m.cut = one.start
			return m
		}
		m.all = append(m.all, one)
	}
}

// withoutPath returns the part of a line before the path.
func withoutPath(line string) string {
	words := strings.SplitAfterN(line, " ", 6)
	if len(words) < 6 {
		return ""
	}
	return strings.Join(words[:5], "")
}

// parseMapping parses a line: START-END PERMISSIONS OFFSET DEVICE INODE PATH, which may contain blanks.
func parseMapping(line string) (m mapping, executable bool) {
	words := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 6)
	if len(words) < 6 || len(words[1]) < 3 {
		return mapping{}, false
	}
	from, to, _ := strings.Cut(words[0], "-")
	m = mapping{
		start: hexadecimal(from), end: hexadecimal(to), offset: hexadecimal(words[2]),
		path: strings.TrimLeft(words[5], " "),
	}
	m.inode, _ = strconv.ParseUint(words[4], 10, 64)
	return m, words[1][2] == 'x'
}

func hexadecimal(s string) uint64 {
	n, _ := strconv.ParseUint(s, 16, 64) // 0 is in no mapping
	return n
}

// find returns the number of the mapping that contains an address, or -1.
func (m *mappings) find(address uint64) int {
	return slices.IndexFunc(m.all, func(one mapping) bool { return address >= one.start && address < one.end })
}

// hides reports whether a mapping that was not read may contain an address.
func (m *mappings) hides(address uint64) bool { return m.cut > 0 && address >= m.cut }
