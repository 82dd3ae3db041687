package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// image is a kernel unpacked from its packages.
type image struct {
	release string // uname -r
	vmlinuz string
	modules string // the directory of the release's modules
}

// openImage finds the kernel and its modules in a directory that Debian packages were unpacked into: the kernel is in
// /boot or beside its modules, and these are in /lib or /usr/lib.
func openImage(root string) (image, error) {
	for _, lib := range []string{"lib/modules", "usr/lib/modules"} {
		dirs, err := filepath.Glob(filepath.Join(root, lib, "*"))
		if err != nil {
			return image{}, err
		}
		for _, dir := range dirs {
			release := filepath.Base(dir)
			for _, vmlinuz := range []string{filepath.Join(root, "boot", "vmlinuz-"+release), filepath.Join(dir, "vmlinuz")} {
				if _, err := os.Stat(vmlinuz); err == nil {
					return image{release, vmlinuz, dir}, nil
				}
			}
		}
	}
	return image{}, fmt.Errorf("no vmlinuz with modules in %s", root)
}
