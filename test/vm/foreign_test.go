package main

import (
	"runtime"
	"strings"
	"testing"
)

// Programs of this machine's architecture need nothing, and those of one that was not tried are refused. That arm64
// runs is tested by make test-packages.
func TestEnableForeign(t *testing.T) {
	undo, err := enableForeign(runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	undo()
	if _, err := enableForeign("s390x"); err == nil || !strings.Contains(err.Error(), "s390x") {
		t.Errorf("s390x: %v", err)
	}
}
