package kernel

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Symbols names kernel addresses. The table (some 120,000 lines) is read when
// the first name is asked for, because few runs need one.
type Symbols struct {
	source io.ReadCloser // until it is read
	table  []symbol      // by address
}

const kallsyms = "/proc/kallsyms"

// OpenSymbols opens the table with the rights that there are now: the kernel
// goes by those of the moment of opening, also when it is read later. It can
// always be used, and names nothing where nothing could be opened.
func OpenSymbols() *Symbols {
	f, err := os.Open(kallsyms)
	if err != nil {
		return &Symbols{}
	}
	return &Symbols{source: f}
}

// Close gives back what OpenSymbols took.
func (s *Symbols) Close() error {
	if s.source == nil {
		return nil
	}
	defer func() { s.source = nil }()
	return s.source.Close()
}

// kallsymsReadable tells whether the kernel shows addresses to this process.
func kallsymsReadable() bool {
	f, err := os.Open(kallsyms)
	if err != nil {
		return false
	}
	defer f.Close()
	return showsAddresses(f)
}

// showsAddresses goes by the first function: what stands before may be at 0.
func showsAddresses(r io.Reader) bool {
	for lines := bufio.NewScanner(r); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) >= 3 && strings.Contains("tT", fields[1]) {
			return strings.Trim(fields[0], "0") != ""
		}
	}
	return false
}

type symbol struct {
	address uint64
	name    string
}

// Names returns the functions that the addresses lie in, up to the first zero.
// An address that cannot be named, for want of CAP_SYSLOG for example, is
// left out.
func (s *Symbols) Names(addresses []uint64) []string {
	if s.source != nil {
		// What could be read serves; names are an explanation, not a fact.
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
	i, found := slices.BinarySearchFunc(s.table, address, func(a symbol, address uint64) int {
		return cmp.Compare(a.address, address)
	})
	if !found {
		i--
	}
	if i < 0 {
		return ""
	}
	return s.table[i].name
}

// readSymbols reads the functions of /proc/kallsyms. Without CAP_SYSLOG all
// addresses are zero; they are left out.
func readSymbols(r io.Reader) ([]symbol, error) {
	var table []symbol
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 3 || !strings.Contains("tTwW", fields[1]) {
			continue
		}
		address, err := strconv.ParseUint(fields[0], 16, 64)
		if err != nil {
			return nil, fmt.Errorf("reading kernel symbols: %w", err)
		}
		if address != 0 {
			table = append(table, symbol{address, fields[2]})
		}
	}
	slices.SortStableFunc(table, func(a, b symbol) int { return cmp.Compare(a.address, b.address) })
	return table, lines.Err()
}
