package anonymize

import (
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/closetrace/closetrace/internal/hint"
)

const secret = "0123456789abcdef"

// Hashes depend on the key, the kind and the value, and on nothing else.
func TestHashes(t *testing.T) {
	key, other := parsed(t, secret), parsed(t, secret+"0")
	addr := netip.MustParseAddr
	for _, same := range [][2]string{
		{key.Name("nginx"), parsed(t, secret).Name("nginx")},
		{key.Address(addr("10.0.0.5")), key.Address(addr("::ffff:10.0.0.5"))},
		{key.Address(addr("fe80::1%eth0")), key.Address(addr("fe80::1%eth1"))},
		{key.Name(""), ""},
		{(*Key)(nil).Name("nginx"), "nginx"},
		{(*Key)(nil).Address(addr("10.0.0.5")), "10.0.0.5"},
	} {
		if same[0] != same[1] {
			t.Errorf("%q and %q differ", same[0], same[1])
		}
	}
	for _, different := range [][2]string{
		{key.Name("nginx"), other.Name("nginx")},
		{key.Name("nginx"), key.Name("nginx2")},
		{key.Address(addr("10.0.0.5")), key.Address(addr("10.0.0.6"))},
		{key.Name("10.0.0.5")[len("name"):], key.Address(addr("10.0.0.5"))[len("addr"):]},
	} {
		if different[0] == different[1] {
			t.Errorf("both are %q", different[0])
		}
	}
	// Other versions must hash alike, or what they sent does not join. This is what openssl dgst -hmac prints.
	if got, want := key.Name("nginx"), "name-05332142fba61a03"; got != want {
		t.Errorf("Name: %q, want %q", got, want)
	}
}

func TestReadKey(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(secret + "\n")
	key, err := ReadKey(file)
	if err != nil || key.Name("x") != parsed(t, secret).Name("x") {
		t.Errorf("key of a file: %v", err)
	}
	for _, bad := range []string{"", "short\n", strings.Repeat("x", maxKey+1)} {
		write(bad)
		if _, err := ReadKey(file); err == nil {
			t.Errorf("a key of %d bytes was read", len(bad))
		}
	}
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/dev/zero", t.TempDir(), file + ".not", fifo, "/proc/kmsg"} {
		if _, err := ReadKey(path); !hint.Is(err, hint.Usage) || hint.Of(err) == "" {
			t.Errorf("%s was read as a key: %v", path, err)
		}
	}
}

// The hint for a file that cannot be read overwrites none: it may be the key of all hosts.
func TestHintOverwritesNoKey(t *testing.T) {
	_, missing := ReadKey(filepath.Join(t.TempDir(), "key"))
	if next := hint.Of(missing); next != MakeKey+" > FILE" {
		t.Errorf("no file: %q", next)
	}
	_, directory := ReadKey(t.TempDir())
	denied := unreadable(&fs.PathError{Op: "open", Path: "key", Err: syscall.EACCES})
	for _, err := range []error{directory, denied} {
		if next := hint.Of(err); next == "" || strings.Contains(next, ">") {
			t.Errorf("%v: %q", err, next)
		}
	}
	if next := hint.Of(denied); !strings.Contains(next, "ls -l") {
		t.Errorf("a file of another user: %q", next)
	}
}

func parsed(t *testing.T, text string) *Key {
	t.Helper()
	key, err := ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
