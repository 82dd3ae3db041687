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

// kernel is one line of test/kernels.txt, whose header says what the columns mean.
type kernel struct {
	name   string
	suites []string
	pkg    string
	arch   string
	modes  []string
	gaps   []string
}

// readKernels parses kernels.txt: at least one kernel, each name once, nothing unknown.
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
	if len(columns) != 6 {
		return kernel{}, fmt.Errorf("%d columns, want 6: name suites package arch modes gaps", len(columns))
	}
	k := kernel{
		name:   columns[0],
		suites: strings.Split(columns[1], ","),
		pkg:    columns[2],
		arch:   columns[3],
		modes:  strings.Split(columns[4], ","),
	}
	if columns[5] != "-" {
		k.gaps = strings.Split(columns[5], ",")
	}
	if strings.ContainsAny(k.name, "/,") || k.name == "all" {
		return kernel{}, fmt.Errorf("%q cannot be the name of a kernel", k.name)
	}
	for _, list := range [][]string{k.suites, k.modes, k.gaps} {
		if slices.Contains(list, "") {
			return kernel{}, fmt.Errorf("kernel %s: empty item in a list", k.name)
		}
	}
	if err := checkModes(k.modes); err != nil {
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

// selectKernels returns the kernel called name, or all of them.
func selectKernels(kernels []kernel, name string) ([]kernel, error) {
	if name == "all" {
		return kernels, nil
	}
	var names []string
	for _, k := range kernels {
		if k.name == name {
			return []kernel{k}, nil
		}
		names = append(names, k.name)
	}
	return nil, hinted(fmt.Errorf("no kernel %q in test/kernels.txt", name), "it has: "+strings.Join(names, ", "))
}
