//go:build linux

// Command picture draws docs/picture.svg, the terminal of the README, from what closetrace replay prints for the
// recorded session in test/picture/session.jsonl. Given the same recording and the same words it draws the same file.
//
//	go run ./test/picture           # draw
//	go run ./test/picture record    # record the session again, as root, then draw
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	dir      = "test/picture"
	session  = "session.jsonl"
	document = "docs/picture.svg"
	// columns is the width of the drawn terminal: from there on a frequent ending is one row.
	columns = 120
)

func main() {
	if err := picture(os.Args); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", filepath.Base(os.Args[0]), err)
		os.Exit(1)
	}
}

func picture(args []string) error {
	switch filepath.Base(args[0]) {
	case "server":
		return serve()
	case "client":
		return request()
	}
	temp, err := os.MkdirTemp("", "picture")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	program, err := build(temp)
	if err != nil {
		return err
	}
	if len(args) > 1 && args[1] == "record" {
		if err := record(program); err != nil {
			return err
		}
	}
	output, err := replay(program)
	if err != nil {
		return err
	}
	return os.WriteFile(document, draw(output, columns), 0o644)
}

// build compiles closetrace into a directory.
func build(into string) (program string, err error) {
	program = filepath.Join(into, "closetrace")
	if out, err := exec.Command("go", "build", "-o", program, "./cmd/closetrace").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return program, nil
}

// replay returns what a terminal shows: the prompt, the table and the summary.
func replay(program string) (string, error) {
	cmd := exec.Command(program, "replay", "--color=always", session)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TZ=UTC", fmt.Sprintf("COLUMNS=%d", columns))
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("replay: %w\n%s", err, out)
	}
	prompt := "$ closetrace replay " + session + "\n"
	return prompt + strings.TrimRight(string(out), "\n"), nil
}
