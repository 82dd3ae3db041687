package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/test/debian"
)

// maxAge is how long a kernel is used before asking for a newer one.
const maxAge = 24 * time.Hour

// store is a directory of kernels from Debian packages, with the apt state that fetched them. It may be deleted at
// any time.
type store struct {
	dir     string
	refresh bool                             // ask for a newer kernel at any age
	notice  func(format string, args ...any) // prints a notice for the user
}

// newStore uses the user's cache directory.
func newStore(refresh bool, notice func(string, ...any)) (*store, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, withHint(fmt.Errorf("no cache directory: %w", err), "set HOME or XDG_CACHE_HOME")
	}
	dir := filepath.Join(cache, "closetrace", "vm")
	return &store{dir, refresh, notice}, os.MkdirAll(dir, 0o755)
}

// image returns a kernel. It uses the network only if the kernel is missing, older than maxAge or to be refreshed. If
// the network fails, it returns the kernel in the cache, unless a refresh was asked for.
func (s *store) image(ctx context.Context, k kernel) (image, error) {
	unlock, err := s.lock("lock")
	if err != nil {
		return image{}, fmt.Errorf("lock %s: %w", s.dir, err)
	}
	defer unlock()
	info, err := os.Stat(s.stamp(k))
	cached := err == nil
	if cached && !s.refresh && time.Since(info.ModTime()) < maxAge {
		return openImage(s.kernelDir(k))
	}
	err = s.fetch(ctx, k)
	if err != nil && cached && !s.refresh {
		s.notice("kernel %s: using the one fetched on %s: %v", k.name, info.ModTime().Format(time.DateOnly), err)
		err = nil
	}
	if err != nil {
		return image{}, fmt.Errorf("kernel %s: %w", k.name, err)
	}
	return openImage(s.kernelDir(k))
}

// kernelDir is where the packages of a kernel are unpacked.
func (s *store) kernelDir(k kernel) string {
	return filepath.Join(s.dir, "kernels", k.name+"-"+k.arch)
}

// stamp returns a file that lists the packages of a kernel. Its time is when they were last found to be the newest.
func (s *store) stamp(k kernel) string {
	return filepath.Join(s.kernelDir(k), "packages")
}

// lock excludes other processes from what a lock is for: all of the store but the roots, or these.
func (s *store) lock(name string) (unlock func(), err error) {
	file, err := os.OpenFile(filepath.Join(s.dir, name), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
		file.Close()
		return nil, err
	}
	return func() { file.Close() }, nil
}

// sources returns a sources.list of the kernel's suites.
func (s *store) sources(ctx context.Context, k kernel) (string, error) {
	if _, err := os.Stat(debian.Keyring); err != nil {
		return "", withHint(err, "install the package debian-archive-keyring")
	}
	found, err := debian.FindArchives(ctx)
	if err != nil {
		return "", err
	}
	list, leftOut := debian.Sources(k.suites, k.arch, found)
	if len(leftOut) > 0 {
		s.notice("kernel %s: no archive is known for %s; an older kernel may be used", k.name, strings.Join(leftOut, ", "))
	}
	return list, nil
}

// fetch updates the kernel's directory to the newest version.
func (s *store) fetch(ctx context.Context, k kernel) error {
	list, err := s.sources(ctx, k)
	if err != nil {
		return err
	}
	private, err := debian.New(filepath.Join(s.dir, "apt", strings.Join(k.suites, "+")+"-"+k.arch), k.arch, list)
	if err != nil {
		return err
	}
	if err := private.Update(ctx); err != nil {
		return err
	}
	a := apt{private}
	packages, err := a.packages(ctx, k.pkg)
	if err != nil {
		return err
	}
	return s.unpack(ctx, a, k, packages)
}

// unpack unpacks packages into the kernel's directory, all or nothing, unless it has them already.
func (s *store) unpack(ctx context.Context, a apt, k kernel, packages []debPackage) error {
	var names []string
	for _, p := range packages {
		names = append(names, p.String())
	}
	want := strings.Join(names, "\n") + "\n"
	if have, err := os.ReadFile(s.stamp(k)); err == nil && string(have) == want {
		return os.Chtimes(s.stamp(k), time.Time{}, time.Now())
	}
	dir := s.kernelDir(k)
	part := dir + ".part"
	if err := os.RemoveAll(part); err != nil {
		return err
	}
	if err := os.MkdirAll(part, 0o755); err != nil {
		return err
	}
	if err := a.Extract(ctx, names, part); err != nil {
		return err
	}
	if _, err := openImage(part); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(part, "packages"), []byte(want), 0o644); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.Rename(part, dir)
}
