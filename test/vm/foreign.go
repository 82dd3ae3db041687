package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// binfmtDir is the mount point of binfmt_misc, where interpreters for foreign programs are registered.
const binfmtDir = "/proc/sys/fs/binfmt_misc"

// foreign names what runs the programs of another architecture, of Debian's package qemu-user-static.
var foreign = map[string]string{"arm64": "qemu-aarch64"}

// enableForeign makes this machine run programs of an architecture, so that its packages can be configured. Where
// systemd-binfmt has done that, nothing changes. Otherwise the caller undoes it: other tests may look at the machine.
func enableForeign(arch string) (undo func(), err error) {
	undo = func() {}
	if arch == runtime.GOARCH {
		return undo, nil
	}
	name, ok := foreign[arch]
	if !ok {
		return nil, fmt.Errorf("packages of %s cannot be configured on this machine", arch)
	}
	rule, err := os.ReadFile(filepath.Join("/usr/lib/binfmt.d", name+".conf"))
	if err != nil {
		return nil, withHint(err, "install the package qemu-user-static")
	}
	register := filepath.Join(binfmtDir, "register")
	if _, err := os.Stat(register); errors.Is(err, fs.ErrNotExist) {
		if err := unix.Mount("binfmt_misc", binfmtDir, "binfmt_misc", 0, ""); err != nil {
			return nil, fmt.Errorf("mount binfmt_misc: %w", err)
		}
		undo = func() { _ = unix.Unmount(binfmtDir, unix.MNT_DETACH) } // it may stay: no rule is left in it
	}
	entry := filepath.Join(binfmtDir, name)
	if _, err := os.Stat(entry); err == nil {
		return undo, nil
	}
	if err := os.WriteFile(register, rule, 0); err != nil {
		undo()
		return nil, fmt.Errorf("register %s: %w", name, err)
	}
	unmount := undo
	return func() {
		_ = os.WriteFile(entry, []byte("-1"), 0) // the kernel takes the rule away; where it is, it does no harm
		unmount()
	}, nil
}
