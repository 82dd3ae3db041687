//go:build linux

package main

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"weak"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/closetrace/closetrace/internal/netns"
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

// Stuck sockets are those of the network namespace that is traced, even if the process that named it is another now.
func TestStuckFollowsNamespace(t *testing.T) {
	const ours, traced, others = 1, 100, 200
	s := fakeSystem(0)
	spaces := netns.Finder{Proc: t.TempDir(), Named: t.TempDir()}
	at := func(pid string) string { return filepath.Join(spaces.Proc, pid, "ns/net") }
	leads := map[string]uint32{at("self"): ours, at("7"): traced, at("8"): traced}
	spaces.Inode = func(path string) (uint32, error) {
		if inode, ok := leads[path]; ok {
			return inode, nil
		}
		return 0, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	for _, pid := range []string{"7", "8"} {
		if err := os.Mkdir(filepath.Join(spaces.Proc, pid), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s.tracer.targets.spaces, s.stuck.spaces = spaces, spaces
	f := newServeFlags(s.tracer)
	f.attachTo(&cobra.Command{})
	f.filter.netns = []string{"7"}
	if err := f.check(&s.tracer); err != nil {
		t.Fatal(err)
	}
	from, err := f.stuckSource(s.tracer, s.stuck)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	for _, by := range []string{"7", "8"} {
		found, _, err := from.Namespaces()
		if want := map[uint32]string{traced: at(by)}; err != nil || !maps.Equal(found, want) {
			t.Errorf("%v, %v, want %v", found, err, want)
		}
		leads[at(by)] = others
	}
	if found, _, err := from.Namespaces(); err == nil {
		t.Errorf("nothing is in it, and it is %v", found)
	}
}

// A reload parses the flags anew, and nothing keeps them: a service may be reloaded every minute for weeks.
func TestReloadKeepsNothing(t *testing.T) {
	s := fakeSystem(0)
	f := newServeFlags(s.tracer)
	f.attachTo(&cobra.Command{})
	next := func() weak.Pointer[serveFlags] {
		next, err := f.again(s.tracer)
		if err != nil {
			t.Fatal(err)
		}
		return weak.Make(next)
	}()
	for range 10 {
		if runtime.GC(); next.Value() == nil {
			return
		}
	}
	t.Error("the flags of a reload are still there")
}

// A reload names the file of a key that has another key by now: the old one is used until a restart.
func TestReloadNamesOtherKey(t *testing.T) {
	s := fakeSystem(0)
	key := filepath.Join(t.TempDir(), "key")
	write := func(text string) {
		if err := os.WriteFile(key, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("0123456789abcdef\n")
	f, cmd := newServeFlags(s.tracer), &cobra.Command{}
	f.attachTo(cmd)
	for name, text := range map[string]string{"otlp": "http://127.0.0.1:4318", "anonymize-file": key} {
		if err := cmd.Flags().Set(name, text); err != nil {
			t.Fatal(err)
		}
	}
	f.settings.Given()
	if err := f.configure(); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		key  string
		want []string
	}{{"0123456789abcdef", nil}, {"fedcba9876543210", []string{"anonymize-file"}}} {
		write(test.key)
		if _, unchanged, err := f.reload(s.tracer); err != nil || !slices.Equal(unchanged, test.want) {
			t.Errorf("%s: %q, %v, want %q", test.key, unchanged, err, test.want)
		}
	}
}
