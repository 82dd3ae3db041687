package fleet

import (
	"strings"
	"testing"
)

// promtool checks the alert rules, and their own tests pass.
func TestRules(t *testing.T) {
	promtool := debianBinary(t, "promtool")
	for _, out := range []string{
		output(t, "", promtool, "check", "rules", "--lint=all", "--lint-fatal", rulesFile),
		output(t, "", promtool, "test", "rules", "../../deploy/prometheus/rules_test.yml"),
	} {
		if !strings.Contains(out, "SUCCESS") {
			t.Error(out)
		}
	}
}

const rulesFile = "../../deploy/prometheus/rules.yml"
