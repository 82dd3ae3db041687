//go:build linux

package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An interrupted report is not written, and an interrupted conversion is cut off: a script that calls timeout(1) sees
// that by the exit code.
func TestInterruptedIsNoSuccess(t *testing.T) {
	const recording = "../../internal/record/testdata/v2.rec"
	file := filepath.Join(t.TempDir(), "report.html")
	for want, args := range map[string][]string{
		"closetrace: interrupted; there is no report\n":        {"report", "-o", file, recording},
		"closetrace: interrupted; the rest is not converted\n": {"replay", "--convert", "json", recording},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var stdout, stderr strings.Builder
		s := fakeSystem(0)
		s.redirect(&stdout, &stderr)
		s.args = args
		if code := run(ctx, s); code != 1 || !strings.HasSuffix(stderr.String(), want) {
			t.Errorf("%v: exit code %d, stderr:\n%s", args, code, &stderr)
		}
	}
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a report without text was left: %v", err)
	}
}
