package main

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// moduleTree has the modules of one kernel by name. A Debian package has no modules.dep (depmod writes it on
// installation), so dependencies are read from the modules themselves.
type moduleTree struct {
	files   map[string]string // the file of a module that can be loaded
	builtin map[string]bool   // the kernel has it already; nil: unknown, so all without a file are taken for such
}

// readModules reads a kernel's module directory.
func readModules(dir string) (moduleTree, error) {
	t := moduleTree{files: map[string]string{}, builtin: map[string]bool{}}
	list, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if errors.Is(err, fs.ErrNotExist) {
		t.builtin = nil
	} else if err != nil {
		return t, err
	}
	for path := range strings.Lines(string(list)) {
		if name, ok := moduleName(strings.TrimSpace(path)); ok {
			t.builtin[name] = true
		}
	}
	err = filepath.WalkDir(filepath.Join(dir, "kernel"), func(path string, _ fs.DirEntry, err error) error {
		if name, ok := moduleName(path); ok {
			t.files[name] = path
		}
		return err
	})
	return t, err
}

// moduleName returns the name of the module in a file. Dashes and underscores in it are equivalent.
func moduleName(path string) (string, bool) {
	name, ok := strings.CutSuffix(strings.TrimSuffix(filepath.Base(path), ".xz"), ".ko")
	return strings.ReplaceAll(name, "-", "_"), ok
}

// module is a module ready to load.
type module struct {
	name string
	data []byte
}

// load reads the named modules and their dependencies, in an order in which they can be loaded. It leaves out
// built-in ones; a missing one is an error.
func (t moduleTree) load(names []string) ([]module, error) {
	var modules []module
	visited := map[string]bool{}
	var visit func(name string) error
	visit = func(name string) error {
		name = strings.ReplaceAll(name, "-", "_")
		if visited[name] || t.hasAlready(name) {
			return nil
		}
		visited[name] = true
		data, err := t.read(name)
		if err != nil {
			return err
		}
		depends, err := moduleDepends(data)
		if err != nil {
			return fmt.Errorf("module %s: %w", name, err)
		}
		for _, d := range depends {
			if err := visit(d); err != nil {
				return fmt.Errorf("module %s needs: %w", name, err)
			}
		}
		modules = append(modules, module{name, data})
		return nil
	}
	for _, name := range names {
		if err := visit(name); err != nil {
			return nil, err
		}
	}
	return modules, nil
}

// hasAlready reports whether a module is part of the kernel.
func (t moduleTree) hasAlready(name string) bool {
	if t.builtin == nil {
		return t.files[name] == ""
	}
	return t.builtin[name]
}

// read returns a module, decompressed: not every kernel can decompress one.
func (t moduleTree) read(name string) ([]byte, error) {
	path, ok := t.files[name]
	if !ok {
		return nil, fmt.Errorf("no module %s in this kernel", name)
	}
	if !strings.HasSuffix(path, ".xz") {
		return os.ReadFile(path)
	}
	data, err := exec.Command("xz", "-dc", path).Output()
	if err != nil {
		return nil, fmt.Errorf("xz -dc %s: %w", path, err)
	}
	return data, nil
}

// moduleDepends returns the names in the module's depends= entry.
func moduleDepends(data []byte) ([]string, error) {
	file, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	section := file.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("no .modinfo section")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	for entry := range strings.SplitSeq(string(info), "\x00") {
		if list, ok := strings.CutPrefix(entry, "depends="); ok && list != "" {
			return strings.Split(list, ","), nil
		}
	}
	return nil, nil
}
