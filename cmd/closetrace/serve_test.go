//go:build linux

package main

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func serveDoc(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/serve.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// docs/serve.md lists each key, with its default and whether a reload changes it. The help marks the same ones.
func TestKeysOfServe(t *testing.T) {
	type row struct{ defaultValue, reload string }
	rows := map[string]row{}
	for _, r := range regexp.MustCompile("(?m)^\\| (`[a-z0-9`, -]+`) \\|([^|]*)\\|[^|]+\\|([^|]*)\\|$").
		FindAllStringSubmatch(serveDoc(t), -1) {
		for key := range strings.SplitSeq(r[1], ", ") {
			rows[strings.Trim(key, "`")] = row{strings.TrimSpace(r[2]), strings.TrimSpace(r[3])}
		}
	}
	f := newServeFlags(thisSystem().tracer)
	cmd := &cobra.Command{}
	f.attachTo(cmd)
	cmd.Flags().VisitAll(func(flag *pflag.Flag) {
		if slices.Contains(onlyGiven, flag.Name) {
			return
		}
		got, ok := rows[flag.Name]
		delete(rows, flag.Name)
		want := row{defaultValue: flag.DefValue}
		if minutes, ok := strings.CutSuffix(flag.DefValue, "m0s"); ok {
			want.defaultValue = minutes + "m"
		}
		if flag.DefValue == "false" && got.defaultValue == "" {
			want.defaultValue = "" // several keys in a row
		}
		if slices.Contains(reloadable, flag.Name) {
			want.reload = "yes"
		}
		if !ok || got != want {
			t.Errorf("docs/serve.md says %+v of %s, which is %+v", got, flag.Name, want)
		}
		if marked := strings.HasSuffix(flag.Usage, "(reload)"); marked != (want.reload == "yes") {
			t.Errorf("the help on %s says %q", flag.Name, flag.Usage)
		}
	})
	for key := range rows {
		t.Errorf("docs/serve.md has the key %s, which is no flag", key)
	}
	if len(reloadable) == 0 {
		t.Error("nothing can be reloaded")
	}
}

// The configuration in docs/serve.md is valid.
func TestConfigurationOfServe(t *testing.T) {
	_, text, found := strings.Cut(serveDoc(t), "```yaml\n")
	text, _, ends := strings.Cut(text, "```")
	if !found || !ends {
		t.Fatal("docs/serve.md has no configuration")
	}
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	f := newServeFlags(thisSystem().tracer)
	f.attachTo(&cobra.Command{})
	f.config = path
	if err := f.configure(); err != nil {
		t.Error(err)
	}
	if f.record.Rotation.Keep != 20 || len(f.filter.LocalPorts) != 102 || f.plan.Active {
		t.Errorf("%+v", f)
	}
}

// The configuration of the packages sets nothing but the defaults.
func TestShippedConfiguration(t *testing.T) {
	f, defaults := newServeFlags(thisSystem().tracer), newServeFlags(thisSystem().tracer)
	f.attachTo(&cobra.Command{})
	if err := errors.Join(f.settings.ReadFile("../../deploy/systemd/serve.yaml", onlyGiven...)...); err != nil {
		t.Fatal(err)
	}
	if f.Settings != defaults.Settings || f.listen != defaults.listen {
		t.Errorf("%+v, listen %s; the defaults are %+v, listen %s", f.Settings, f.listen, defaults.Settings, defaults.listen)
	}
}
