package kernel

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/hint"
)

const ownTypes = "/sys/kernel/btf/vmlinux"

// kernelTypes returns the type information of the running kernel.
func kernelTypes(t testing.TB) []byte {
	t.Helper()
	raw, err := os.ReadFile(ownTypes)
	if err != nil {
		t.Skipf("this kernel has no BTF: %v", err)
	}
	return raw
}

// A copy of the kernel's own type information is that of this kernel, and the kernel's own goes before it.
func TestTypesFromFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "copy")
	if err := os.WriteFile(path, kernelTypes(t), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readTypes(path); err != nil {
		t.Error(err)
	}
	k, err := Running(nil, path)
	if err != nil || k.FromFile() != nil {
		t.Errorf("the types are those of the file: %v", err)
	}
}

// What is no type information, or not that of this kernel, is a usage error that names the file and the reason.
func TestWrongTypes(t *testing.T) {
	raw := kernelTypes(t)
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	huge := filepath.Join(dir, "huge")
	if err := os.WriteFile(huge, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(huge, 1<<40); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "absent"): "no such file",
		dir:                          "not a regular file",
		fifo:                         "not a regular file",
		"/dev/zero":                  "not a regular file",
		huge:                         "larger than 64 MB",
		"/proc/self/exe":             "an ELF file",
	} {
		_, err := readTypes(path)
		if !hint.Is(err, hint.Usage) || !strings.Contains(err.Error(), "--btf "+path) ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	names := binary.NativeEndian.Uint32(raw[4:]) + binary.NativeEndian.Uint32(raw[16:]) // hdr_len, str_off
	renamed := func(from, to string) []byte {
		return slices.Concat(raw[:names], bytes.ReplaceAll(raw[names:], []byte(from), []byte(to)))
	}
	for name, tt := range map[string]struct {
		data []byte
		want string
	}{
		"empty":          {nil, "no type information"},
		"text":           {[]byte("types\n"), "no type information"},
		"half":           {raw[:len(raw)/2], "no type information"},
		"without TCP":    {renamed("\x00tcp_", "\x00udp_"), "functions of TCP"},
		"another kernel": {renamed("\x00__", "\x00xx"), "another kernel"},
	} {
		if _, err := parseTypes(tt.data); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}
