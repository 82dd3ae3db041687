package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// image is a kernel unpacked from its packages.
type image struct {
	release string // uname -r
	vmlinuz string
	modules string // the directory of the release's modules
}

// series reports whether a release belongs to the upstream series that a kernel of test/kernels.txt is named after, for
// example 6.12 or 6.12-arm64. A name that is no series matches any release.
func (i image) series(name string) bool {
	series, _, _ := strings.Cut(name, "-")
	if series[0] < '0' || series[0] > '9' {
		return true
	}
	rest, ok := strings.CutPrefix(i.release, series)
	return ok && (rest == "" || rest[0] < '0' || rest[0] > '9')
}

// openImage finds the kernel and its modules in a directory of unpacked Debian packages: the kernel in /boot or
// beside its modules, these in /lib or /usr/lib.
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
