package main

import (
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/cavaliergopher/cpio"
)

// file is a file of the initramfs: a copy of the host's file from, or data.
type file struct {
	name string // its absolute path in the guest
	mode cpio.FileMode
	from string
	data []byte
}

// writeInitramfs writes files, and their directories, as an archive that the kernel can boot from. It is not
// compressed: writing and unpacking that would take longer than loading it.
func writeInitramfs(w io.Writer, files []file) error {
	archive := cpio.NewWriter(w)
	made := map[string]bool{"/": true}
	for _, f := range files {
		if f.name != path.Clean(f.name) || !path.IsAbs(f.name) {
			return fmt.Errorf("initramfs: %q is not a clean absolute path", f.name)
		}
		if made[f.name] {
			return fmt.Errorf("initramfs: %s is there twice", f.name)
		}
		if err := makeDirs(archive, made, path.Dir(f.name)); err != nil {
			return fmt.Errorf("initramfs: %w", err)
		}
		made[f.name] = true
		if err := addFile(archive, f); err != nil {
			return fmt.Errorf("initramfs: %s: %w", f.name, err)
		}
	}
	return archive.Close()
}

// makeDirs adds dir and its parents, unless made has them.
func makeDirs(archive *cpio.Writer, made map[string]bool, dir string) error {
	if made[dir] {
		return nil
	}
	if err := makeDirs(archive, made, path.Dir(dir)); err != nil {
		return err
	}
	made[dir] = true
	return archive.WriteHeader(&cpio.Header{Name: strings.TrimPrefix(dir, "/"), Mode: cpio.TypeDir | 0o755, Links: 2})
}

func addFile(archive *cpio.Writer, f file) error {
	header := &cpio.Header{
		Name: strings.TrimPrefix(f.name, "/"), Mode: cpio.TypeReg | f.mode, Links: 1, Size: int64(len(f.data)),
	}
	if f.from == "" {
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		_, err := archive.Write(f.data)
		return err
	}
	source, err := os.Open(f.from)
	if err != nil {
		return err
	}
	defer source.Close()
	info, err := source.Stat()
	if err != nil {
		return err
	}
	header.Size = info.Size()
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.Copy(archive, source)
	return err
}
