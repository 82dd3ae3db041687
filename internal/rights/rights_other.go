//go:build !linux

package rights

import (
	"errors"
	"os"
	"syscall"
)

// AsUser calls do: this process has no rights of its own after [DropForUser].
func AsUser(do func() error) error { return do() }

// DropForUser permanently drops the rights of the owner of the file (set-user-ID). It drops nothing of root's.
func DropForUser() error { return DropAll() }

// DropAll does the same.
func DropAll() error {
	return os.NewSyscallError("setuid", errors.Join(syscall.Setgid(syscall.Getgid()), syscall.Setuid(syscall.Getuid())))
}
