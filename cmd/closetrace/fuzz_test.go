//go:build linux

package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/closetrace/closetrace/internal/pipeline"
	"github.com/closetrace/closetrace/internal/probe"
	"github.com/closetrace/closetrace/test/fake"
)

// fuzzedFlags have a value that the kernel side or a lookup uses.
var fuzzedFlags = []string{
	"pid", "port", "lport", "rport", "netns", "buffer-size", "attach", "output", "count", "duration",
	"only", "not", "comm", "cidr", "state", "min-unread",
}

// Any value of a flag is accepted, or rejected by one line and a hint that are safe to
// print on a terminal.
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
	// A value can be any path, and opening a device can have effects.
	world.spaces.Inode = func(path string) (uint32, error) {
		if path == "" {
			return 0, errors.New("no path")
		}
		return fake.Netns, nil
	}
	errAccepted := errors.New("accepted")
	f.Fuzz(func(t *testing.T, flag uint8, value string) {
		name := fuzzedFlags[int(flag)%len(fuzzedFlags)]
		var accepted bool
		var stderr strings.Builder
		s := fakeSystem(0)
		s.redirect(io.Discard, &stderr)
		s.tracer.targets.spaces = world.spaces
		s.args = []string{"--" + name + "=" + value}
		s.tracer.system.Open = func(_ context.Context, o probe.Options) (pipeline.Source, error) {
			accepted = true
			if o.BufferSize < 64<<10 || o.BufferSize > 1<<30 {
				t.Errorf("a buffer of %d bytes", o.BufferSize)
			}
			return nil, errAccepted
		}
		code := run(t.Context(), s)
		if accepted != (code == 1) || !accepted && code != 2 {
			t.Errorf("exit code %d, accepted: %v", code, accepted)
		}
		checkStderr(t, stderr.String(), !accepted)
	})
}

// checkStderr checks that stderr is one line that is safe to print, or two with a hint.
func checkStderr(t *testing.T, stderr string, hint bool) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
	want := 1
	if hint {
		want = 2
	}
	if len(lines) != want || !strings.HasPrefix(lines[0], "closetrace: ") ||
		hint && !strings.HasPrefix(lines[1], "hint: ") {
		t.Errorf("stderr is %q", stderr)
	}
	for _, r := range stderr {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Errorf("%U reaches the terminal: %q", r, stderr)
		}
	}
	if !utf8.ValidString(stderr) {
		t.Errorf("not UTF-8: %q", stderr)
	}
}
