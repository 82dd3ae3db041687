// Package fleet tests closetrace serve with the engines of a fleet: a real Prometheus scrapes it, a real store keeps
// what it exports. They are fetched or built once, and cached by version: see docs/fleet.md.
package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/test/debian"
)

// The engines, by version. Debian's are whatever its unstable suite has when they are fetched.
const (
	victoriaLogs = "github.com/VictoriaMetrics/VictoriaLogs/app/victoria-logs@v1.52.2"
	duckDB       = "@duckdb/node-api@1.5.6-r.1"
	chDB         = "chdb@3.4.0" // ClickHouse 26.7 as a library
	// The exporter's source has the table that it makes.
	clickHouseExporter = "github.com/open-telemetry/opentelemetry-collector-contrib/exporter/clickhouseexporter@v0.165.1"
)

var debianEngines = []string{"prometheus", "promtool", "prometheus-alertmanager"}

// fetchTimeout bounds how long an engine may take to be fetched and built on a busy machine. Kubernetes is the largest.
const fetchTimeout = 90 * time.Minute

// engines makes each engine once in a run.
var engines struct {
	sync.Mutex
	made map[string]error
}

// needsEngines skips a test unless the tests of the fleet were asked for: they need the network, and root.
func needsEngines(t *testing.T) {
	t.Helper()
	if os.Getenv("CLOSETRACE_FLEET") == "" {
		t.Skip("CLOSETRACE_FLEET is not set: make test-fleet sets it")
	}
	if os.Getuid() != 0 {
		t.Fatal("closetrace serve needs root: make test-fleet")
	}
}

// engine returns the directory of an engine, which build fills once and for all later runs.
func engine(t *testing.T, name string, build func(ctx context.Context, dir string) error) string {
	t.Helper()
	needsEngines(t)
	dir := engineDir(t, name)
	engines.Lock()
	defer engines.Unlock()
	if engines.made == nil {
		engines.made = map[string]error{}
	}
	if _, tried := engines.made[name]; !tried {
		began := time.Now()
		engines.made[name] = makeOnce(dir, build)
		t.Logf("%s: ready after %s", name, time.Since(began).Round(time.Millisecond))
	}
	if err := engines.made[name]; err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return dir
}

// engineDir returns the directory of an engine, which exists if the engine was made.
func engineDir(t *testing.T, name string) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(cache, "closetrace", "fleet", name)
}

// skipTooLate skips a test if its engine is still to be made and CLOSETRACE_MAKE_UNTIL, in seconds since 1970, is past:
// make test sets it, to end within an hour.
func skipTooLate(t *testing.T, name string) {
	t.Helper()
	until := os.Getenv("CLOSETRACE_MAKE_UNTIL")
	if until == "" {
		return
	}
	seconds, err := strconv.ParseInt(until, 10, 64)
	if err != nil {
		t.Fatalf("CLOSETRACE_MAKE_UNTIL: %v", err)
	}
	_, err = os.Stat(engineDir(t, name))
	if late := time.Since(time.Unix(seconds, 0)); late > 0 && errors.Is(err, fs.ErrNotExist) {
		t.Skipf("%s is not made yet, and it is %s too late to make it within the hour of make test: "+
			"make test-fleet makes it", name, late.Round(time.Second))
	}
}

// makeOnce makes a directory unless it exists, all or nothing. Another process that makes it is waited for.
func makeOnce(dir string, build func(ctx context.Context, dir string) error) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	part := dir + ".part"
	if err := os.RemoveAll(part); err != nil {
		return err
	}
	if err := os.Mkdir(part, 0o755); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
	defer cancel()
	if err := build(ctx, part); err != nil {
		return err
	}
	return os.Rename(part, dir)
}

// goBinary returns the program of a Go package, PATH@VERSION.
func goBinary(t *testing.T, pkg string) string {
	path, version, _ := strings.Cut(pkg, "@")
	name := filepath.Base(path)
	dir := engine(t, name+"-"+version, func(ctx context.Context, dir string) error {
		return run(ctx, dir, []string{"GOBIN=" + dir, "CGO_ENABLED=0", "GOFLAGS="}, "go", "install", pkg)
	})
	return filepath.Join(dir, name)
}

// goModule returns the directory of the source of a Go module, PATH@VERSION.
func goModule(t *testing.T, module string) string {
	t.Helper()
	needsEngines(t)
	cmd := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", module)
	cmd.Dir = t.TempDir() // outside of this module
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	var source struct{ Dir string }
	if err := json.Unmarshal(out, &source); err != nil {
		t.Fatal(err)
	}
	return source.Dir
}

// debianBinary returns a program of Debian's unstable suite: prometheus, promtool, prometheus-alertmanager, amtool.
func debianBinary(t *testing.T, name string) string {
	return debianProgram(t, "debian-sid-"+runtime.GOARCH, debianEngines, name)
}

// debianProgram returns a program of one of these packages of Debian's unstable suite, kept in the engine's directory.
func debianProgram(t *testing.T, engineName string, packages []string, name string) string {
	dir := engine(t, engineName, func(ctx context.Context, dir string) error {
		found, err := debian.FindArchives(ctx)
		if err != nil {
			return err
		}
		list, _ := debian.Sources([]string{"sid"}, runtime.GOARCH, found)
		apt, err := debian.New(filepath.Join(dir, "apt"), runtime.GOARCH, list)
		if err != nil {
			return err
		}
		if err := apt.Update(ctx); err != nil {
			return err
		}
		return apt.Extract(ctx, packages, dir)
	})
	return filepath.Join(dir, "usr", "bin", name)
}

// npmModules returns the directory of a package for Node.js, NAME@VERSION, and of those that it depends on.
func npmModules(t *testing.T, pkg string) string {
	name := strings.NewReplacer("@duckdb/node-api@", "duckdb-", "@", "-").Replace(pkg)
	return engine(t, name, func(ctx context.Context, dir string) error {
		return run(ctx, dir, nil, "npm", "install", "--no-audit", "--no-fund", "--prefix", dir, pkg)
	})
}

// run runs a program. An error has what it printed.
func run(ctx context.Context, dir string, env []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// output returns what a program prints on standard output, and fails the test if it fails.
func output(t *testing.T, stdin, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", filepath.Base(name), strings.Join(args, " "), err, out, &stderr)
	}
	return string(out)
}
