// Command dist builds what a release of closetrace consists of: packages (deb, rpm, apk) and an archive for each
// architecture, an image of two platforms, the list of the modules inside, and checksums of them all.
//
//	go -C deploy/dist run . -commit HEAD -o dist
//
// It builds a commit, not the work tree, in a clone of its own. The same commit and the same version of Go give the
// same bytes: every time in them is that of the commit, and no path or name of this machine is in them.
// It is a module of its own so that the libraries that write packages are no part of closetrace's go.mod.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "dist:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("dist", flag.ContinueOnError)
	flags.SetOutput(stderr)
	commit := flags.String("commit", "HEAD", "build this `COMMIT`")
	repository := flags.String("repository", filepath.Join("..", ".."), "of the repository in `DIR`")
	out := flags.String("o", "dist", "write to `DIR`")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return nil
	case err != nil:
		return err
	}
	work, err := os.MkdirTemp("", "closetrace-dist-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	s, err := checkOut(*repository, *commit, filepath.Join(work, "source"), stderr)
	if err != nil {
		return err
	}
	builds, err := s.buildAll(filepath.Join(work, "build"))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(*out, 0o755); err != nil {
		return err
	}
	names, err := writeAll(*out, builds)
	for _, name := range names {
		fmt.Fprintln(stdout, filepath.Join(*out, name))
	}
	return err
}

// writeAll writes the files of a release into dir and returns their names.
func writeAll(dir string, builds []build) (names []string, err error) {
	for _, b := range builds {
		for _, write := range []func(string, build) (string, error){
			writeDeb, writeRPM, writeAPK, writeArchive, writeModules,
		} {
			name, err := write(dir, b)
			if err != nil {
				return names, err
			}
			names = append(names, name)
		}
	}
	for _, write := range []func(string, []build) (string, error){
		writeImage,
		func(dir string, _ []build) (string, error) { return writeSums(dir, names) },
	} {
		name, err := write(dir, builds)
		if err != nil {
			return names, err
		}
		names = append(names, name)
	}
	return names, nil
}
