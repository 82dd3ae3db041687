package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cavaliergopher/cpio"

	"github.com/closetrace/closetrace/test/vm/guest"
)

// writeTree writes files below root.
func writeTree(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func age(t *testing.T, path string, by time.Duration) {
	t.Helper()
	if err := os.Chtimes(path, time.Time{}, time.Now().Add(-by)); err != nil {
		t.Fatal(err)
	}
}

// fakeModule is an ELF file with nothing but the .modinfo of a kernel module.
func fakeModule(t *testing.T, depends string) string {
	t.Helper()
	const headerSize, sectionSize = 64, 64
	info := "license=GPL\x00depends=" + depends + "\x00retpoline=Y\x00"
	names := "\x00.modinfo\x00.shstrtab\x00"
	infoAt := uint64(headerSize)
	namesAt := infoAt + uint64(len(info))
	sectionsAt := namesAt + uint64(len(names))
	var b bytes.Buffer
	header := elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1, Ehsize: headerSize,
		Shoff: sectionsAt, Shentsize: sectionSize, Shnum: 3, Shstrndx: 2,
	}
	sections := []elf.Section64{
		{},
		{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: infoAt, Size: uint64(len(info))},
		{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: namesAt, Size: uint64(len(names))},
	}
	for _, part := range []any{header, []byte(info), []byte(names), sections} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

// moduleDir is a kernel's module directory: tcp_diag needs inet-diag and netlink_diag, and that needs inet_diag.
func moduleDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	writeTree(t, dir, map[string]string{
		"modules.builtin":              "kernel/net/packet/af_packet.ko\nkernel/net/core/sock-diag.ko\n",
		"kernel/net/tcp_diag.ko":       fakeModule(t, "inet_diag,netlink_diag,sock_diag"),
		"kernel/net/inet-diag.ko":      fakeModule(t, ""),
		"kernel/net/x/netlink_diag.ko": fakeModule(t, "inet_diag"),
		"kernel/net/lonely.ko":         fakeModule(t, "absent"),
		"kernel/net/broken.ko":         "not ELF",
	})
	return dir
}

func TestLoadModules(t *testing.T) {
	tree, err := readModules(moduleDir(t))
	if err != nil {
		t.Fatal(err)
	}
	names := func(modules []module) string {
		var all []string
		for _, m := range modules {
			all = append(all, m.name)
		}
		return strings.Join(all, " ")
	}
	for _, c := range []struct{ ask, want, wrong string }{
		{"inet_diag", "inet_diag", ""},
		{"inet-diag", "inet_diag", ""},
		{"tcp_diag", "inet_diag netlink_diag tcp_diag", ""},
		{"netlink_diag,tcp_diag,inet_diag", "inet_diag netlink_diag tcp_diag", ""},
		{"af_packet,sock_diag", "", ""},
		{"nosuch", "", "no module nosuch in this kernel"},
		{"lonely", "", "module lonely needs: no module absent in this kernel"},
		{"broken", "", "module broken: "},
	} {
		got, err := tree.load(strings.Split(c.ask, ","))
		if c.wrong == "" && (err != nil || names(got) != c.want) {
			t.Errorf("%s: %q, %v, want %q", c.ask, names(got), err, c.want)
		}
		if c.wrong != "" && (err == nil || !strings.HasPrefix(err.Error(), c.wrong)) {
			t.Errorf("%s: error %v, want %q", c.ask, err, c.wrong)
		}
	}
}

// Without the list of built-in modules, one that has no file is taken for built in.
func TestUnknownBuiltinModules(t *testing.T) {
	dir := moduleDir(t)
	if err := os.Remove(filepath.Join(dir, "modules.builtin")); err != nil {
		t.Fatal(err)
	}
	tree, err := readModules(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := tree.load([]string{"tcp_diag", "af_packet"}); err != nil || len(got) != 3 {
		t.Errorf("got %d modules, %v", len(got), err)
	}
}

func TestCompressedModule(t *testing.T) {
	dir := moduleDir(t)
	path := filepath.Join(dir, "kernel/net/inet-diag.ko")
	plain, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("xz", path).CombinedOutput(); err != nil {
		t.Fatalf("xz: %v: %s", err, out)
	}
	tree, err := readModules(dir)
	if err != nil {
		t.Fatal(err)
	}
	got, err := tree.load([]string{"inet_diag"})
	if err != nil || len(got) != 1 || !bytes.Equal(got[0].data, plain) {
		t.Errorf("got %d modules, %v", len(got), err)
	}
}

// entries returns an archive as "MODE NAME CONTENT" by name, and fails if a file comes before its directory.
func entries(t *testing.T, archive io.Reader) map[string]string {
	t.Helper()
	got := map[string]string{".": ""}
	for r := cpio.NewReader(archive); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			delete(got, ".")
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := got[filepath.Dir(header.Name)]; !ok {
			t.Errorf("%s comes before its directory", header.Name)
		}
		if _, ok := got[header.Name]; ok {
			t.Errorf("%s is there twice", header.Name)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		got[header.Name] = fmt.Sprintf("%o %s", header.Mode, content)
	}
}

func TestInitramfs(t *testing.T) {
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("ELF"), 0o600); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	err := writeInitramfs(&b, []file{
		{name: "/init", mode: 0o755, from: program},
		{name: "/bin/deep/a", mode: 0o755, data: []byte("A")},
		{name: "/bin/b", mode: 0o644, data: []byte("odd length")},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"init": "100755 ELF", "bin": "40755 ", "bin/deep": "40755 ", "bin/deep/a": "100755 A", "bin/b": "100644 odd length",
	}
	if got := entries(t, &b); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestInitramfsRejects(t *testing.T) {
	for _, c := range []struct {
		want  string
		files []file
	}{
		{"/a is there twice", []file{{name: "/a"}, {name: "/a"}}},
		{"/bin is there twice", []file{{name: "/bin/a"}, {name: "/bin"}}},
		{"not a clean absolute path", []file{{name: "bin/a"}}},
		{"not a clean absolute path", []file{{name: "/bin/../a"}}},
		{"no such file", []file{{name: "/a", from: "/nonexistent"}}},
	} {
		if err := writeInitramfs(io.Discard, c.files); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v, want one with %q", c.files, err, c.want)
		}
	}
}

func TestPack(t *testing.T) {
	spec := guestSpec{
		image:   image{modules: moduleDir(t)},
		modules: []string{"af_packet", "netlink_diag"},
		files:   []file{{name: "/init", mode: 0o755, data: []byte("I")}},
		jobs:    []guest.Job{{Name: "kprobe/lab", Argv: []string{"/bin/x"}, Timeout: time.Second}},
	}
	got, plan := packed(t, spec)
	want := guest.Plan{
		Nonce: nonce, Hostname: "closetrace-vm", Port: "/dev/ttyS1", Jobs: spec.jobs,
		Modules: []string{"/modules/inet_diag.ko", "/modules/netlink_diag.ko"},
	}
	if !reflect.DeepEqual(plan, want) {
		t.Errorf("plan %+v\nwant %+v", plan, want)
	}
	for _, name := range []string{"init", "etc/hosts", "modules/inet_diag.ko", "modules/netlink_diag.ko"} {
		if got[name] == "" {
			t.Errorf("%s is missing", name)
		}
	}

	// A root keeps its own files, and gets those that are given.
	spec.root = "/roots/6.12-amd64.ext4"
	spec.files = append(spec.files, file{name: "/etc/motd", mode: 0o644, data: []byte("M")})
	got, plan = packed(t, spec)
	want.Root, want.Files = "/dev/vda", []string{"/etc/motd"}
	if !reflect.DeepEqual(plan, want) {
		t.Errorf("plan %+v\nwant %+v", plan, want)
	}
	if got["etc/hosts"] != "" || got["init"] == "" || got["etc/motd"] == "" {
		t.Errorf("with a root: %q", got)
	}
}

// packed returns the entries of an initramfs, and the plan in it.
func packed(t *testing.T, spec guestSpec) (got map[string]string, plan guest.Plan) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "initramfs")
	if err := spec.pack(path, nonce, "/dev/ttyS1"); err != nil {
		t.Fatal(err)
	}
	archive, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	got = entries(t, archive)
	if err := json.Unmarshal([]byte(strings.TrimPrefix(got["plan.json"], "100644 ")), &plan); err != nil {
		t.Fatal(err)
	}
	return got, plan
}

func TestUnpackTar(t *testing.T) {
	var sent bytes.Buffer
	zip := gzip.NewWriter(&sent)
	archive := tar.NewWriter(zip)
	for name, content := range map[string]string{"dmesg.txt": "log", "deep/er/data": strings.Repeat("x", 5000)} {
		if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(archive, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(archive.Close(), zip.Close()); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "new")
	if err := unpackTar(bytes.NewReader(sent.Bytes()), dir); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "deep", "er", "data")); err != nil || len(got) != 5000 {
		t.Errorf("data: %d bytes, %v", len(got), err)
	}
	for n := range sent.Len() {
		if unpackTar(bytes.NewReader(sent.Bytes()[:n]), t.TempDir()) == nil {
			t.Fatalf("no error for a stream cut at %d of %d bytes", n, sent.Len())
		}
	}
}

func TestUnpackTarStaysInside(t *testing.T) {
	var sent bytes.Buffer
	zip := gzip.NewWriter(&sent)
	archive := tar.NewWriter(zip)
	if err := archive.WriteHeader(&tar.Header{Name: "../escaped", Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(archive.Close(), zip.Close()); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := unpackTar(&sent, filepath.Join(dir, "in")); err == nil {
		t.Error("no error for a name that leads outside")
	}
	if _, err := os.Stat(filepath.Join(dir, "escaped")); err == nil {
		t.Error("a file was written outside")
	}
}
