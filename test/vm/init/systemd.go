//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/test/vm/guest"
)

// diskRoot is where the disk is mounted until it is the root.
const diskRoot = "/disk"

// unitText is the service of init, with its output on the console.
const unitText = `[Unit]
Description=Jobs of the host
[Service]
ExecStart=/init
StandardOutput=tty
StandardError=tty
OOMPolicy=continue
Delegate=yes
`

// startSystemd makes the disk the root and executes its systemd as process 1. It returns only if it failed.
func startSystemd(plan guest.Plan) error {
	if err := mountAt("devtmpfs", "/dev"); err != nil {
		return err
	}
	if err := calm(); err != nil { // which systemd and its services inherit
		return fmt.Errorf("scheduling: %w", err)
	}
	if err := loadModules(plan.Modules); err != nil {
		return err
	}
	if err := mountDisk(plan.Root); err != nil {
		return err
	}
	for _, path := range append([]string{"/init", guest.PlanFile}, plan.Files...) {
		if err := moveToDisk(path); err != nil {
			return fmt.Errorf("copy to the disk: %w", err)
		}
	}
	unit := filepath.Join(diskRoot, "etc/systemd/system", guest.Service)
	if err := os.WriteFile(unit, []byte(unitText), 0o644); err != nil {
		return err
	}
	if err := os.Chdir(diskRoot); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move %s to the root: %w", diskRoot, err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("chroot: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	const systemd = "/sbin/init"
	return fmt.Errorf("execute %s: %w", systemd, unix.Exec(systemd, []string{systemd}, []string{"TERM=dumb"}))
}

func mountAt(kind, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(kind, dir, kind, 0, ""); err != nil {
		return fmt.Errorf("mount %s on %s: %w", kind, dir, err)
	}
	return nil
}

// mountDisk mounts the disk once the kernel has found it, which takes a moment after its driver was loaded.
func mountDisk(device string) error {
	if err := os.MkdirAll(diskRoot, 0o755); err != nil {
		return err
	}
	var err error
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err = unix.Mount(device, diskRoot, "ext4", unix.MS_NOATIME, ""); !errors.Is(err, unix.ENOENT) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("mount %s: %w", device, err)
	}
	return nil
}

// moveToDisk copies a file, and frees the memory that it takes in the initramfs.
func moveToDisk(path string) error {
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()
	info, err := from.Stat()
	if err != nil {
		return err
	}
	to := filepath.Join(diskRoot, path)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, info.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(out, from)
	return errors.Join(err, out.Close(), os.Remove(path))
}

// prepareService sets up what systemd does not.
func prepareService() error {
	if err := os.MkdirAll(guest.OutDir, 0o755); err != nil {
		return err
	}
	if err := rawPort(os.Stdout); err != nil {
		return fmt.Errorf("console: %w", err)
	}
	return nil
}
