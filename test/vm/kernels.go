package main

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
)

// attachModes are the modes that kernels.txt may name.
var attachModes = []string{"fentry", "kprobe", "tracepoint"}

// kernel is one line of test/kernels.txt, which describes the columns.
type kernel struct {
	name   string
	suites []string
	pkg    string
	arch   string
	modes  []string
	// tests are the live tests to run: all; kernel, those that depend on the kernel; mode, of those the ones that run in
	// each attach mode.
	tests string
	gaps  []string
}

// gapsOf returns the gaps in an attach mode: those of the kernel, and those of only this mode.
func (k kernel) gapsOf(mode string) []string {
	var gaps []string
	for _, gap := range k.gaps {
		of, name, some := strings.Cut(gap, ":")
		switch {
		case !some:
			gaps = append(gaps, gap)
		case of == mode:
			gaps = append(gaps, name)
		}
	}
	return gaps
}

// readKernels parses kernels.txt. It has at least one kernel, each name once, and nothing unknown.
func readKernels(r io.Reader) ([]kernel, error) {
	var kernels []kernel
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		columns := strings.Fields(text)
		if len(columns) == 0 {
			continue
		}
		k, err := parseKernel(columns)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if slices.ContainsFunc(kernels, func(other kernel) bool { return other.name == k.name }) {
			return nil, fmt.Errorf("line %d: kernel %s is listed twice", n, k.name)
		}
		kernels = append(kernels, k)
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(kernels) == 0 {
		return nil, fmt.Errorf("no kernel listed")
	}
	return kernels, nil
}

func parseKernel(columns []string) (kernel, error) {
	if len(columns) != 7 {
		return kernel{}, fmt.Errorf("%d columns, want 7: name suites package arch modes tests gaps", len(columns))
	}
	k := kernel{
		name:   columns[0],
		suites: strings.Split(columns[1], ","),
		pkg:    columns[2],
		arch:   columns[3],
		modes:  strings.Split(columns[4], ","),
		tests:  columns[5],
	}
	if !slices.Contains([]string{"all", "kernel", "mode"}, k.tests) {
		return kernel{}, fmt.Errorf("kernel %s: tests are all, kernel or mode, not %q", k.name, k.tests)
	}
	if columns[6] != "-" {
		k.gaps = strings.Split(columns[6], ",")
	}
	if strings.ContainsAny(k.name, "/,") || k.name == "all" {
		return kernel{}, fmt.Errorf("%q cannot be the name of a kernel", k.name)
	}
	for _, list := range [][]string{k.suites, k.modes, k.gaps} {
		if slices.Contains(list, "") {
			return kernel{}, fmt.Errorf("kernel %s: empty item in a list", k.name)
		}
	}
	modes := slices.Clone(k.modes)
	for _, gap := range k.gaps {
		if mode, _, some := strings.Cut(gap, ":"); some {
			modes = append(modes, mode)
		}
	}
	if err := checkModes(modes); err != nil {
		return kernel{}, fmt.Errorf("kernel %s: %w", k.name, err)
	}
	return k, nil
}

func checkModes(modes []string) error {
	for _, mode := range modes {
		if !slices.Contains(attachModes, mode) {
			return fmt.Errorf("unknown attach mode %q, want some of %s", mode, strings.Join(attachModes, ","))
		}
	}
	return nil
}

// selectKernels returns the kernels of a list of names, or all of them.
func selectKernels(kernels []kernel, name string) ([]kernel, error) {
	if name == "all" {
		return kernels, nil
	}
	var names []string
	for _, k := range kernels {
		names = append(names, k.name)
	}
	var selected []kernel
	for _, one := range strings.Split(name, ",") {
		i := slices.Index(names, one)
		if i < 0 {
			return nil, withHint(fmt.Errorf("no kernel %q in test/kernels.txt", one), "it has: "+strings.Join(names, ", "))
		}
		selected = append(selected, kernels[i])
	}
	return selected, nil
}
