package main

import (
	"os"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/lab"
)

// The scenarios that change a setting of the whole machine run only by name: the help names them, and make lab-live
// runs them.
func TestLabOfMachine(t *testing.T) {
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	scenarios, err := lab.Scenarios()
	if err != nil {
		t.Fatal(err)
	}
	for _, sc := range scenarios {
		if !sc.ChangesMachine() {
			continue
		}
		for where, text := range map[string]string{"closetrace lab -h": labAbout, "Makefile": string(makefile)} {
			if !strings.Contains(text, sc.Name) {
				t.Errorf("%s does not name %s", where, sc.Name)
			}
		}
	}
}
