//go:build linux

package main

import (
	"archive/tar"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/test/vm/guest"
)

// sendOut adds the kernel's log to the files below /out and sends all of them to the host as a compressed tar stream:
// a serial port is slow, and the checksum detects a truncated stream.
func sendOut(port string) error {
	if err := saveKernelLog(filepath.Join(guest.OutDir, "dmesg.txt")); err != nil {
		return fmt.Errorf("kernel log: %w", err)
	}
	tty, err := os.OpenFile(port, os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return fmt.Errorf("send files: %w", err)
	}
	defer tty.Close()
	if err := rawPort(tty); err != nil {
		return fmt.Errorf("send files: %s: %w", port, err)
	}
	zip := gzip.NewWriter(tty)
	archive := tar.NewWriter(zip)
	if err := archive.AddFS(os.DirFS(guest.OutDir)); err != nil {
		return fmt.Errorf("send files: %w", err)
	}
	if err := archive.Close(); err != nil {
		return fmt.Errorf("send files: %w", err)
	}
	if err := zip.Close(); err != nil {
		return fmt.Errorf("send files: %w", err)
	}
	drain(tty)
	return nil
}

// saveKernelLog writes what the kernel logged since it started; the console shows only its errors.
func saveKernelLog(path string) error {
	size, err := unix.Klogctl(unix.SYSLOG_ACTION_SIZE_BUFFER, nil)
	if err != nil {
		return err
	}
	buf := make([]byte, size)
	n, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, buf)
	if err != nil {
		return err
	}
	return os.WriteFile(path, buf[:n], 0o644)
}
