package main

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/closetrace/closetrace/internal/probe"
)

// fuzzedFlags take a value that the kernel side or a look-up depends on.
var fuzzedFlags = []string{
	"pid", "port", "lport", "rport", "netns", "buffer-size", "attach", "output", "count", "duration",
	"only", "not", "comm", "cidr", "state", "min-unread",
}

// Any value of a flag is taken or refused in one line with a hint, in which
// nothing can reach a terminal as a command.
func FuzzFlag(f *testing.F) {
	for i, value := range []string{
		"4211,4212", "80, 443,65535", "0", "+1", "web", "inode:4026531840", "..", "/proc/1/ns/net", "16M",
		"auto", "json", "18446744073709551616", "1h5m", "-1s", "\x1b[31m\xff\u202e", "a\nhint: b", "",
		"close.rst.*,errors", "clsoe.rst", "nginx,php-fpm*", "10.0.0.0/8,::ffff:1.2.3.4,fe80::1%lo", "close-wait,TCP_LISTEN",
	} {
		for flag := range fuzzedFlags {
			f.Add(uint8(flag+i), value)
		}
	}
	world := fixture(f)
	// A value may be any path, and to open a device may do something.
	world.inode = func(path string) (uint32, error) {
		if path == "" {
			return 0, errors.New("no path")
		}
		return fakeNetns, nil
	}
	errTaken := errors.New("taken")
	f.Fuzz(func(t *testing.T, flag uint8, value string) {
		name := fuzzedFlags[int(flag)%len(fuzzedFlags)]
		var taken bool
		var said strings.Builder
		e := fakeSystem(0)
		e.finder, e.stdout, e.stderr = world, io.Discard, &said
		e.args = []string{"--" + name + "=" + value}
		e.open = func(_ context.Context, o probe.Options) (source, error) {
			taken = true
			if o.BufferSize < minBuffer || o.BufferSize > maxBuffer {
				t.Errorf("a buffer of %d bytes", o.BufferSize)
			}
			return nil, errTaken
		}
		code := run(t.Context(), e)
		if taken != (code == exitFailed) || !taken && code != exitUsage {
			t.Errorf("exit code %d, taken: %v", code, taken)
		}
		checkSaid(t, said.String(), !taken)
	})
}

// checkSaid: an error is one line, and one of what to do.
func checkSaid(t *testing.T, said string, hint bool) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(said, "\n"), "\n")
	want := 1
	if hint {
		want = 2
	}
	if len(lines) != want || !strings.HasPrefix(lines[0], "closetrace: ") || hint && !strings.HasPrefix(lines[1], "hint: ") {
		t.Errorf("said %q", said)
	}
	for _, r := range said {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Errorf("%U reaches the terminal: %q", r, said)
		}
	}
	if !utf8.ValidString(said) {
		t.Errorf("not UTF-8: %q", said)
	}
}

// What is no path leads to no place but where namespaces are.
func FuzzNetnsPath(f *testing.F) {
	for _, text := range []string{"web", "4211", "..", "", "/run/netns/web", "web\x00", "-1"} {
		f.Add(text)
	}
	world := finder{proc: "/proc", named: "/run/netns"}
	f.Fuzz(func(t *testing.T, text string) {
		path, hint := world.netnsPath(text)
		dir := filepath.Dir(path)
		if !strings.Contains(text, "/") && dir != world.named && (dir != filepath.Join("/proc", text, "ns") || filepath.Base(path) != "net") {
			t.Errorf("%q leads to %q", text, path)
		}
		if hint == "" {
			t.Error("no hint")
		}
	})
}
