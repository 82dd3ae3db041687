package fleet

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func installed(t *testing.T, pkg string) string {
	name, _, _ := strings.Cut(filepath.Base(pkg), "@")
	return "/tmp/helm-cache/bin/" + name
}

func module(t *testing.T, m string) string {
	cmd := exec.Command("go", "mod", "download", "-json", m)
	cmd.Dir = os.TempDir()
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var d struct{ Dir string }
	_ = json.Unmarshal(out, &d)
	return d.Dir
}

func closetrace(t *testing.T) string { return "/tmp/wt/helm/closetrace" }
