// Command record puts events that `closetrace lab --record DIR` kept into the
// scenario files, for the replay test.
//
//	go run ./test/record DIR...
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/closetrace/closetrace/internal/lab"
)

const scenarios = "internal/lab/scenarios"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "record:", err)
		os.Exit(1)
	}
}

func run(dirs []string) error {
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*", "events.*.jsonl"))
		if err != nil {
			return err
		}
		if len(files) == 0 {
			return fmt.Errorf("no records below %s", dir)
		}
		for _, file := range files {
			if err := put(file); err != nil {
				return err
			}
		}
		fmt.Printf("%s: %d records\n", dir, len(files))
	}
	return nil
}

// put makes a record a section of its scenario's file as it is on disk, which
// may be newer than what this program was built with.
func put(file string) error {
	name := filepath.Base(filepath.Dir(file))
	path := filepath.Join(scenarios, name+".txtar")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	sc, err := lab.Parse(name, text)
	if err != nil {
		return err
	}
	events, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	sc.SetSection(filepath.Base(file), events)
	return sc.Save(scenarios)
}
