package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"os"
)

// writeArchive writes the files as a compressed archive, to be unpacked at /.
func writeArchive(dir string, b build) (string, error) {
	text, err := tarOf(b.filesFor(false), b.time)
	if err != nil {
		return "", err
	}
	name := fmt.Sprintf("closetrace_%s_linux_%s.tar.gz", b.version, b.arch)
	return name, os.WriteFile(filepath.Join(dir, name), compressed(text), 0o644)
}

// tarOf returns an archive of files, which belong to root. Every time in it is stamp.
func tarOf(files []file, stamp time.Time) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	made := map[string]bool{"": true}
	byPath := func(f, g file) int { return strings.Compare(f.path, g.path) }
	for _, f := range slices.SortedFunc(slices.Values(files), byPath) {
		name := strings.TrimPrefix(f.path, "/")
		if err := tarDirs(w, made, filepath.Dir(name), stamp); err != nil {
			return nil, err
		}
		data, err := f.content()
		if err != nil {
			return nil, err
		}
		header := &tar.Header{Name: name, Mode: int64(f.mode), Size: int64(len(data)), ModTime: stamp, Format: tar.FormatPAX}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := w.Write(data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return io.ReadAll(&b)
}

// tarDirs adds a directory and its parents, unless made has them.
func tarDirs(w *tar.Writer, made map[string]bool, dir string, stamp time.Time) error {
	if dir == "." || made[dir] {
		return nil
	}
	if err := tarDirs(w, made, filepath.Dir(dir), stamp); err != nil {
		return err
	}
	made[dir] = true
	return w.WriteHeader(&tar.Header{
		Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: stamp, Format: tar.FormatPAX,
	})
}
