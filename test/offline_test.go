package test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/test/documents"
)

// goPackage is what go list says of a package.
type goPackage struct {
	Dir, ImportPath         string
	GoFiles, IgnoredGoFiles []string
}

// offlinePackages returns the packages of closetrace on macOS.
func offlinePackages(t *testing.T) (all []goPackage) {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-json=Dir,ImportPath,GoFiles,IgnoredGoFiles", "../cmd/closetrace")
	cmd.Env = append(os.Environ(), "GOOS=darwin")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var pkg goPackage
		err := decoder.Decode(&pkg)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, pkg)
	}
}

// What reads recordings needs no Linux kernel: closetrace for macOS has nothing that does.
func TestOfflineImports(t *testing.T) {
	linux := regexp.MustCompile(`/internal/(check|command|enrich|kernel|labrun|live|netns|probe|runtimes|serve|symbols)$|` +
		`/cilium/ebpf|/libcap/|/netlink|/nftables|/go-systemd`)
	ours := 0
	for _, pkg := range offlinePackages(t) {
		if linux.MatchString(pkg.ImportPath) {
			t.Errorf("closetrace for macOS has %s", pkg.ImportPath)
		}
		if strings.HasPrefix(pkg.ImportPath, module) {
			ours++
		}
	}
	if ours < 20 {
		t.Errorf("%d packages of closetrace", ours)
	}
}

// The numbers in a recording are those of Linux. Other systems number errors, signals and address families otherwise.
func TestOfflineNumbers(t *testing.T) {
	own := regexp.MustCompile(`\bunix\.(ErrnoName|SignalName)\b|\bsyscall\.(Errno|Signal)\(` +
		`|\b(unix|syscall)\.AF_|\bint\((unix|syscall)\.E`)
	for _, pkg := range offlinePackages(t) {
		if !strings.HasPrefix(pkg.ImportPath, module) {
			continue
		}
		for _, file := range pkg.GoFiles {
			if name := own.FindString(readFile(t, filepath.Join(pkg.Dir, file))); name != "" {
				t.Errorf("%s/%s: %s has the numbers of this system; package events has those of Linux", pkg.ImportPath, file, name)
			}
		}
	}
}

// buildOffline builds closetrace for this system from the files of the one for macOS, as far as they are closetrace's.
func buildOffline(t *testing.T) (program string) {
	t.Helper()
	dir := t.TempDir()
	replace := map[string]string{} // by file of the overlay: another one, or "" for none
	for _, pkg := range offlinePackages(t) {
		if !strings.HasPrefix(pkg.ImportPath, module) {
			continue
		}
		for _, file := range pkg.IgnoredGoFiles {
			replace[filepath.Join(pkg.Dir, file)] = ""
		}
		for _, file := range pkg.GoFiles {
			path := filepath.Join(pkg.Dir, file)
			text, isOther := strings.CutPrefix(readFile(t, path), "//go:build !linux\n")
			if !isOther {
				continue
			}
			replace[path] = filepath.Join(dir, filepath.Base(pkg.Dir)+"_"+file)
			if err := os.WriteFile(replace[path], []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	overlay := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlay, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return build(t, filepath.Join(dir, "offline"), "-overlay", overlay)
}

// build builds closetrace.
func build(t *testing.T, program string, flags ...string) string {
	t.Helper()
	args := append(append([]string{"build", "-o", program}, flags...), "../cmd/closetrace")
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// offline are the commands that work without a Linux kernel; why, unless it waits.
var offline = []string{
	"annotate", "completion", "explain", "help", "man", "replay", "report", "schema", "version", "why",
}

// What closetrace for macOS does with the commands of the documents is what closetrace for Linux does, or an error that
// says what needs Linux.
func TestOfflineCommands(t *testing.T) {
	docs, err := documents.All()
	if err != nil {
		t.Fatal(err)
	}
	onLinux, elsewhere := build(t, filepath.Join(t.TempDir(), "closetrace")), buildOffline(t)
	works, refused := 0, 0
	for _, d := range docs {
		commands, err := d.Commands()
		if err != nil {
			t.Fatal(err)
		}
		try, tryElsewhere, tryLive := reader(t, onLinux), reader(t, elsewhere), reader(t, elsewhere)
		for _, c := range commands {
			switch {
			case c.Program() != "closetrace", strings.HasSuffix(c.Text, " --help"), strings.HasSuffix(c.Text, " -h"):
			case isOffline(c.Text):
				works++
				if want, got := try(c), tryElsewhere(c); got != want {
					t.Errorf("%s\non Linux %+v\nelsewhere %+v", c, want, got)
				}
			default:
				refused++
				got := tryLive(c)
				if !strings.Contains(got.Stderr, " needs a Linux kernel, and this is ") ||
					!strings.Contains(got.Stderr, "\nhint: run it on Linux") {
					t.Errorf("%s\n%+v", c, got)
				}
			}
		}
	}
	if works < 30 || refused < 40 {
		t.Errorf("%d commands work and %d do not", works, refused)
	}
}

// reader returns what runs the commands of a document with a program, in a directory of its own.
func reader(t *testing.T, program string) func(documents.Command) documents.Output {
	t.Helper()
	r, err := documents.NewReader(t.TempDir(), "exec "+program+` "$@"`)
	if err != nil {
		t.Fatal(err)
	}
	return func(c documents.Command) documents.Output {
		t.Helper()
		out, err := r.Try(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
}

// isOffline reports whether the first closetrace of a command line works without a Linux kernel.
func isOffline(line string) bool {
	_, args, _ := strings.Cut(line, "closetrace")
	first, _, _ := strings.Cut(strings.TrimSpace(args), " ")
	return slices.Contains(offline, first) && !strings.Contains(line, "--wait")
}

// Each command of Linux is one elsewhere, and the help has those that work there.
func TestOfflineHelp(t *testing.T) {
	program := buildOffline(t)
	help, err := exec.Command(program, "-h").CombinedOutput()
	if err != nil || !strings.Contains(string(help), "It traces on Linux only.") {
		t.Errorf("%v\n%s", err, help)
	}
	onLinux, err := exec.Command(build(t, filepath.Join(t.TempDir(), "closetrace")), "-h").Output()
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(onLinux), "\nCommands:\n")
	list, _, _ = strings.Cut(list, "\n\n")
	listed := regexp.MustCompile(`(?m)^  ([a-z]+) `)
	names := listed.FindAllStringSubmatch(list, -1)
	for _, match := range names {
		name := match[1]
		isListed := strings.Contains(string(help), "\n  "+name+" ")
		if isListed != slices.Contains(offline, name) {
			t.Errorf("%s is in the help: %v", name, isListed)
		}
		if isListed {
			continue
		}
		cmd := exec.Command(program, name, "--any")
		text, _ := cmd.CombinedOutput()
		want := "closetrace: closetrace " + name + " needs a Linux kernel, and this is "
		code := hint.ExitCode(hint.New(hint.Unsupported, "", ""))
		if !strings.HasPrefix(string(text), want) || cmd.ProcessState.ExitCode() != code {
			t.Errorf("%s: %v\n%s", name, cmd.ProcessState, text)
		}
	}
	if len(names) < 15 {
		t.Errorf("commands of Linux: %q", names)
	}
}
