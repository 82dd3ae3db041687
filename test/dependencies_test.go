package test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// licenses are words of the texts of licenses that no other one of these has.
var licenses = map[string]string{
	"MIT":          "Permission is hereby granted, free of charge, to any person",
	"Apache-2.0":   "Apache License Version 2.0, January 2004",
	"BSD-3-Clause": "Redistribution and use in source and binary forms, with or without",
}

// docs/dependencies.md lists each module that closetrace uses directly, with its license, and says rightly which ones
// are part of the program.
func TestDependencies(t *testing.T) {
	text, err := os.ReadFile("../docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string][]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (.+) \\| .+ \\| (yes|tests) \\|$").
		FindAllStringSubmatch(string(text), -1) {
		listed[row[1]] = row[2:]
	}
	linked := string(goCommand(t, "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", "../cmd/closetrace"))
	for _, m := range modules(t) {
		row, ok := listed[m.Path]
		if !ok {
			t.Errorf("docs/dependencies.md has no %s", m.Path)
			continue
		}
		delete(listed, m.Path)
		if has := strings.Contains("\n"+linked, "\n"+m.Path+"\n"); has != (row[1] == "yes") {
			t.Errorf("%s is part of closetrace: %v, but docs/dependencies.md says %s", m.Path, has, row[1])
		}
		text := license(t, m.Dir)
		says := strings.Contains(text, "SPDX-License-Identifier: "+row[0]) || strings.Contains(text, licenses[row[0]])
		if licenses[row[0]] == "" || !says {
			t.Errorf("the license of %s is not %s", m.Path, row[0])
		}
	}
	for path := range listed {
		t.Errorf("docs/dependencies.md has %s, which go.mod does not require", path)
	}
}

type goModule struct {
	Path, Dir      string
	Main, Indirect bool
}

// modules returns the modules that are required directly, or for a tool.
func modules(t *testing.T) (direct []goModule) {
	t.Helper()
	tools := string(goCommand(t, "list", "-f", "{{with .Module}}{{.Path}}{{end}}", "tool"))
	decoder := json.NewDecoder(strings.NewReader(string(goCommand(t, "list", "-m", "-json", "all"))))
	for {
		var m goModule
		switch err := decoder.Decode(&m); {
		case errors.Is(err, io.EOF):
			return direct
		case err != nil:
			t.Fatal(err)
		case !m.Main && (!m.Indirect || strings.Contains("\n"+tools, "\n"+m.Path+"\n")):
			direct = append(direct, m)
		}
	}
}

func goCommand(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("go", args...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// license returns the text of a module's license, with single blanks between its words.
func license(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "[Ll][Ii][Cc][Ee][Nn][Ss][Ee]*"))
	if err != nil || len(files) == 0 {
		t.Errorf("no license in %s: %v", dir, err)
		return ""
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Error(err)
	}
	return strings.Join(strings.Fields(string(text)), " ")
}
