package kernel

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/rights"
)

// maxTypes is more bytes than the type information of a kernel has: 4 to 10 MB.
const maxTypes = 64 << 20

const typesHint = "name the BTF of this kernel, not compressed: " +
	"archives have it as RELEASE.btf, with the release of uname -r"

// readTypes reads the type information of a kernel from a file that the user names, with the user's rights. It returns
// an error of kind [hint.Usage] for a file that has none, or that of another kernel.
func readTypes(path string) (*btf.Spec, error) {
	var raw []byte
	err := rights.AsUser(func() (err error) {
		raw, err = readBounded(path, maxTypes)
		return err
	})
	var types *btf.Spec
	if err == nil {
		types, err = parseTypes(raw)
	}
	if err != nil {
		return nil, &hint.Error{Kind: hint.Usage, What: "--btf " + path, Err: err, Hint: typesHint}
	}
	return types, nil
}

// readBounded reads a regular file of at most limit bytes. It does not block on a FIFO or a device.
func readBounded(path string, limit int64) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, errors.Unwrap(err) // the caller names the file
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("not a regular file")
	}
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("larger than %d MB", limit>>20)
	}
	return data, err
}

// parseTypes parses the type information of the running kernel.
func parseTypes(raw []byte) (*btf.Spec, error) {
	if bytes.HasPrefix(raw, []byte("\x7fELF")) {
		return nil, errors.New("an ELF file: its section .BTF is needed alone")
	}
	all, err := functionsIn(raw)
	if err != nil {
		return nil, err
	}
	if !all["tcp_close"] || !all["tcp_v4_rcv"] {
		return nil, errors.New("no type information of a kernel: it does not have the functions of TCP")
	}
	if absent := len(all) - presentIn(all, kallsyms); absent > len(all)/maxAbsent {
		return nil, fmt.Errorf("type information of another kernel: this one (%s) lacks %d of its %d functions",
			Release(), absent, len(all))
	}
	return btf.LoadSpecFromReader(bytes.NewReader(raw))
}

// maxAbsent is the part of the functions that may be absent: 1/20. The compiler changes some names, which are 1/60 of
// them on Linux 6.18 for amd64. Of another release or architecture, more are absent.
const maxAbsent = 20

// functionsIn returns the functions that type information has. It decodes all of it, and keeps nothing.
func functionsIn(raw []byte) (map[string]bool, error) {
	types, err := btf.LoadSpecFromReader(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("no type information (BTF): %w", err)
	}
	functions := map[string]bool{}
	for t, err := range types.All() {
		if err != nil {
			return nil, fmt.Errorf("damaged type information (BTF): %w", err)
		}
		if fn, ok := t.(*btf.Func); ok {
			functions[fn.Name] = true
		}
	}
	return functions, nil
}

// presentIn returns how many of some functions are in a list of symbols, or all of them if it cannot be read. Names do
// not need privileges.
func presentIn(functions map[string]bool, symbols string) int {
	list, err := os.Open(symbols)
	if err != nil {
		return len(functions)
	}
	defer list.Close()
	present := map[string]bool{}
	for lines := bufio.NewScanner(list); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 3 {
			continue
		}
		name, _, _ := strings.Cut(fields[2], ".") // the compiler's suffix
		if functions[name] {
			present[name] = true
		}
	}
	if len(present) == 0 {
		return len(functions) // the kernel shows none
	}
	return len(present)
}
