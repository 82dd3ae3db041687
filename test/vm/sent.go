package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// unpackTar writes the regular files of a compressed tar stream below dir, whatever their names are. A truncated
// stream is an error.
func unpackTar(r io.Reader, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	plain, err := gzip.NewReader(r)
	if err != nil {
		return fmt.Errorf("files from the guest: %w", err)
	}
	archive := tar.NewReader(plain)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			// Only at its end the compressed stream can be checked.
			if _, err := io.Copy(io.Discard, plain); err != nil {
				return fmt.Errorf("files from the guest: %w", err)
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("files from the guest: %w", err)
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		if err := writeBelow(root, header.Name, archive); err != nil {
			return fmt.Errorf("file %s from the guest: %w", header.Name, err)
		}
	}
}

func writeBelow(root *os.Root, name string, content io.Reader) error {
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	out, err := root.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, content)
	return errors.Join(err, out.Close())
}
