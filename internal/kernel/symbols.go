package kernel

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// Symbols returns the names of kernel addresses. It reads the table (about 120,000 lines) for the first name, because
// few runs need one.
type Symbols struct {
	source io.ReadCloser // until it is read
	table  symbolTable
}

const kallsyms = "/proc/kallsyms"

// OpenSymbols opens the table. The kernel checks the privileges at this moment, even if the table is read later. If it
// cannot be opened, no address has a name.
func OpenSymbols() *Symbols {
	f, err := os.Open(kallsyms)
	if err != nil {
		return &Symbols{}
	}
	return &Symbols{source: f}
}

// Close closes the table.
func (s *Symbols) Close() error {
	if s.source == nil {
		return nil
	}
	defer func() { s.source = nil }()
	return s.source.Close()
}

// kallsymsReadable reports whether the kernel shows addresses to this process.
func kallsymsReadable() bool {
	f, err := os.Open(kallsyms)
	if err != nil {
		return false
	}
	defer f.Close()
	return showsAddresses(f)
}

// showsAddresses checks the first function: symbols before it may have the address 0.
func showsAddresses(r io.Reader) bool {
	for lines := bufio.NewScanner(r); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) >= 3 && strings.Contains("tT", fields[1]) {
			return strings.Trim(fields[0], "0") != ""
		}
	}
	return false
}

// symbolTable are the functions of the kernel, some 60,000: without a string each, because they are read while events
// arrive, and are kept.
type symbolTable struct {
	symbols []symbol // by address
	names   []byte   // one after the other
}

type symbol struct {
	address  uint64
	from, to uint32 // its name in names
}

// Names returns the functions that contain the addresses, up to the first zero. It skips addresses without a name, for
// example all of them without CAP_SYSLOG.
func (s *Symbols) Names(addresses []uint64) []string {
	if s.source != nil {
		// After an error the symbols that were read are used: names are not evidence.
		s.table, _ = readSymbols(s.source)
		_ = s.Close()
	}
	var names []string
	for _, address := range addresses {
		if address == 0 {
			break
		}
		if name := s.name(address); name != "" {
			names = append(names, name)
		}
	}
	return names
}

func (s *Symbols) name(address uint64) string {
	i, found := slices.BinarySearchFunc(s.table.symbols, address, func(a symbol, address uint64) int {
		return cmp.Compare(a.address, address)
	})
	if !found {
		i--
	}
	if i < 0 {
		return ""
	}
	at := s.table.symbols[i]
	return string(s.table.names[at.from:at.to])
}

// padding begins the names of the padding before functions (from 6.2 on), which nothing runs: half of all symbols.
var padding = []byte("__pfx_")

// readSymbols reads the functions of /proc/kallsyms: lines of an address, a letter and a name, which the name of a
// module may follow. It skips addresses of zero: without CAP_SYSLOG that is all of them.
func readSymbols(r io.Reader) (t symbolTable, err error) {
	t.symbols, t.names = make([]symbol, 0, 1<<16), make([]byte, 0, 1<<21) // about what a kernel has
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		number, rest, _ := bytes.Cut(lines.Bytes(), []byte{' '})
		if len(rest) < 3 || rest[1] != ' ' || !strings.ContainsRune("tTwW", rune(rest[0])) {
			continue
		}
		name, _, _ := bytes.Cut(rest[2:], []byte{'\t'})
		address, ok := hexadecimal(number)
		if !ok {
			return t, fmt.Errorf("reading kernel symbols: %q is no address", number)
		}
		if address != 0 && !bytes.HasPrefix(name, padding) {
			from := uint32(len(t.names))
			t.names = append(t.names, name...)
			t.symbols = append(t.symbols, symbol{address, from, uint32(len(t.names))})
		}
	}
	slices.SortStableFunc(t.symbols, func(a, b symbol) int { return cmp.Compare(a.address, b.address) })
	return t, lines.Err()
}

// hexadecimal parses a number without an allocation.
func hexadecimal(text []byte) (n uint64, ok bool) {
	for _, c := range text {
		switch {
		case n >= 1<<60:
			return 0, false
		case c >= '0' && c <= '9':
			n = n<<4 | uint64(c-'0')
		case c >= 'a' && c <= 'f':
			n = n<<4 | uint64(c-'a'+10)
		default:
			return 0, false
		}
	}
	return n, len(text) > 0
}
