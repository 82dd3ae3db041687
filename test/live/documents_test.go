//go:build linux

package live

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/test/documents"
)

// Every command of closetrace in a document works on this kernel. A command in
// several documents runs once.
func TestDocuments(t *testing.T) {
	privileged(t)
	for _, tool := range []string{"sh", "jq"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("the commands are for a shell: %v", err)
		}
	}
	path, err := program()
	must(t, err)
	docs, err := documents.All()
	must(t, err)
	triedIn := map[string]string{}
	for _, d := range docs {
		t.Run(d.File, func(t *testing.T) {
			commands, err := d.Commands()
			must(t, err)
			r, err := documents.NewReader(t.TempDir(), "exec '"+path+`' "$@"`)
			must(t, err)
			for _, c := range commands {
				if c.Program() != "closetrace" {
					continue // test/commands_doc_test.go
				}
				writes := strings.Contains(c.Text, " -w ") // what commands after it read
				if file, tried := triedIn[c.Text]; tried && file != d.File && !writes {
					continue
				}
				triedIn[c.Text] = d.File
				out, err := r.Try(t.Context(), c)
				must(t, err)
				if out.Failed() {
					t.Errorf("%s\nexit code %d\n%s%s", c, out.Code, out.Stdout, out.Stderr)
				}
			}
		})
	}
}
