//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/script",
		RequireUniqueNames: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":          exits,
			"unprivileged":   unprivileged,
			"head":           head,
			"sameafterfirst": sameAfterFirst,
			"docker":         docker,
			"capture":        writeCapture,
			"comments":       comments,
			"strip":          strip,
		},
		Setup: func(e *testscript.Env) error {
			night := ""
			records, err := filepath.Abs("../../internal/record/testdata")
			e.Setenv("RECORDS", records)
			if err == nil {
				night, err = filepath.Abs("../../test/documents/night.jsonl")
			}
			e.Setenv("NIGHT", night)
			e.Setenv(raceVariable, os.Getenv(raceVariable))
			return err
		},
	})
}

// exits CODE COMMAND... runs a command that must exit with this code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	checkExit(ts, want, exitOf(ts.Exec(args[1], args[2:]...)))
}

// unprivileged CODE COMMAND... does the same as user nobody.
func unprivileged(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: unprivileged CODE COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	program, err := exec.LookPath(args[1])
	ts.Check(err)
	// User nobody has no access to the directory of the script.
	dir, err := os.MkdirTemp("", "closetrace")
	ts.Check(err)
	defer os.RemoveAll(dir)
	ts.Check(os.Chmod(dir, 0o755))
	program = copyProgram(ts, program, dir)

	var stdout, stderr strings.Builder
	err = syscall.ETXTBSY
	// A child that another test forks has the copy open for writing until it calls exec.
	for errors.Is(err, syscall.ETXTBSY) {
		cmd := exec.Command(program, args[2:]...)
		cmd.Dir = "/"
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if os.Geteuid() == 0 {
			const nobody = 65534
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		} else {
			ts.Logf("not root: run as the user of this test")
		}
		err = cmd.Run()
	}
	ts.Logf("[stdout]\n%s[stderr]\n%s", &stdout, &stderr)
	ts.Check(os.WriteFile(ts.MkAbs("stdout.txt"), []byte(stdout.String()), 0o644))
	ts.Check(os.WriteFile(ts.MkAbs("stderr.txt"), []byte(stderr.String()), 0o644))
	checkExit(ts, want, exitOf(err))
}

// docker SOCKET KIND answers like Docker for the containers of the scripts, with a
// plain name (web), with one of terminal escapes (stranger), or with an error.
func docker(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: docker SOCKET KIND")
	}
	at, err := net.Listen("unix", ts.MkAbs(args[0]))
	ts.Check(err)
	name := map[string]string{"web": "web", "stranger": `\u001b[31mweb\u202e`}[args[1]]
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, _ := strings.CutPrefix(strings.TrimSuffix(r.URL.Path, "/json"), "/containers/")
		switch {
		case name == "":
			w.WriteHeader(http.StatusForbidden)
		case strings.HasPrefix(id, "0f4bffff"):
			fmt.Fprintf(w, `{"Id":"%s","Name":"/db"}`, id)
		case id != "":
			fmt.Fprintf(w, `{"Id":"%s","Name":"/%s","Config":{"Image":"nginx:1.25","Labels":`+
				`{"io.kubernetes.pod.name":"web-0","io.kubernetes.pod.namespace":"shop"}}}`, id, name)
		}
	})}
	ts.Defer(func() { server.Close() })
	go func() { _ = server.Serve(at) }()
}

// head -c BYTES FROM TO copies the first bytes of a file.
func head(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 || args[0] != "-c" {
		ts.Fatalf("usage: head -c BYTES FROM TO")
	}
	size, err := strconv.Atoi(args[1])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[3]), []byte(ts.ReadFile(args[2])[:size]), 0o644))
}

// sameAfterFirst FILE FILE compares two files without their first lines.
func sameAfterFirst(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: sameafterfirst FILE FILE")
	}
	_, a, _ := strings.Cut(ts.ReadFile(args[0]), "\n")
	_, b, _ := strings.Cut(ts.ReadFile(args[1]), "\n")
	if a != b {
		ts.Fatalf("after the first line of %s:\n%sand of %s:\n%s", args[0], a, args[1], b)
	}
}

func copyProgram(ts *testscript.TestScript, program, dir string) string {
	in, err := os.Open(program)
	ts.Check(err)
	defer in.Close()
	path := filepath.Join(dir, filepath.Base(program))
	out, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	ts.Check(err)
	_, err = io.Copy(out, in)
	ts.Check(err)
	ts.Check(out.Close())
	return path
}

func exitOf(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
}

func checkExit(ts *testscript.TestScript, want, got int) {
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}
