package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/closetrace/closetrace/test/debian"
)

// apt finds the packages of a kernel.
type apt struct{ debian.APT }

// debPackage is a package in one version.
type debPackage struct {
	name, version string
	depends       []dependency
}

func (p debPackage) String() string {
	return p.name + "=" + p.version
}

// isMeta reports whether other packages have the kernel: an image that depends on no more than its base has it itself.
func (p debPackage) isMeta() bool {
	return slices.ContainsFunc(p.depends, func(d dependency) bool { return !strings.HasPrefix(d.name, "linux-base-") })
}

// dependency is one alternative of one item of Depends. version is set for an exact dependency.
type dependency struct {
	name, version string
}

// packages returns the newest packages with a kernel: the package called name, or if it depends on others of the
// kernel, all of these, directly or not. A meta package depends on the image, and from 6.19 on that depends on
// binary, modules and base, which has the list of built-in modules. A mirror drops meta packages faster than kernels,
// so the first package is left out when it is one. A name with a * stands for the newest of all that match. A mirror
// also drops the base of an older kernel before its image: it is left out, as [readModules] can do without.
func (a apt) packages(ctx context.Context, name string) ([]debPackage, error) {
	if strings.Contains(name, "*") {
		newest, err := a.newest(ctx, name)
		if err != nil {
			return nil, err
		}
		name = newest.name
	}
	var found []debPackage
	seen := map[string]bool{name: true}
	for queue := []dependency{{name: name}}; len(queue) > 0; queue = queue[1:] {
		p, err := a.show(ctx, queue[0])
		if errors.Is(err, errNoPackage) && strings.HasPrefix(queue[0].name, "linux-base-") {
			continue
		}
		if err != nil {
			return nil, err
		}
		if p.name != name || !p.isMeta() {
			found = append(found, p)
		}
		for _, d := range p.depends {
			if !seen[d.name] {
				seen[d.name] = true
				queue = append(queue, d)
			}
		}
	}
	return found, nil
}

// newest returns the package of the highest version among those that match a pattern.
func (a apt) newest(ctx context.Context, pattern string) (debPackage, error) {
	none := withHint(fmt.Errorf("no package %s", pattern), checkKernels)
	prefix, _, _ := strings.Cut(pattern, "*")
	out, err := a.Run(ctx, a.Dir, "apt-cache", "pkgnames", prefix)
	if err != nil {
		return debPackage{}, err
	}
	args := []string{"show", "--no-all-versions"}
	for _, name := range strings.Fields(out) {
		if fits, err := path.Match(pattern, name); err != nil {
			return debPackage{}, fmt.Errorf("%s: %w", pattern, err)
		} else if fits {
			args = append(args, name)
		}
	}
	if len(args) == 2 {
		return debPackage{}, none
	}
	if out, err = a.Run(ctx, a.Dir, "apt-cache", args...); err != nil {
		return debPackage{}, err
	}
	var newest debPackage
	for stanza := range strings.SplitSeq(strings.TrimSpace(out), "\n\n") {
		p, err := parsePackage(stanza)
		if err != nil {
			return debPackage{}, err
		}
		// The exit code of dpkg is the answer.
		if newest.name == "" ||
			exec.CommandContext(ctx, "dpkg", "--compare-versions", p.version, "gt", newest.version).Run() == nil {
			newest = p
		}
	}
	return newest, ctx.Err()
}

// errNoPackage: the mirror lists no such package.
var errNoPackage = errors.New("apt-cache show: no package in its answer")

const checkKernels = "check suites, package and arch in test/kernels.txt against what the mirror has"

func (a apt) show(ctx context.Context, d dependency) (debPackage, error) {
	which := d.name
	if d.version != "" {
		which += "=" + d.version
	}
	out, err := a.Run(ctx, a.Dir, "apt-cache", "show", "--no-all-versions", which)
	if err != nil {
		return debPackage{}, withHint(fmt.Errorf("no package %s: %w", which, err), checkKernels)
	}
	p, err := parsePackage(out)
	if err != nil {
		return p, withHint(fmt.Errorf("package %s: %w", which, err), checkKernels)
	}
	return p, nil
}

// parsePackage reads the first stanza of apt-cache show.
func parsePackage(text string) (debPackage, error) {
	stanza, _, _ := strings.Cut(text, "\n\n")
	var p debPackage
	for line := range strings.Lines(stanza) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch key {
		case "Package":
			p.name = value
		case "Version":
			p.version = value
		case "Depends":
			p.depends = kernelDepends(value)
		}
	}
	if p.name == "" || p.version == "" {
		return debPackage{}, errNoPackage
	}
	return p, nil
}

var kernelDependency = regexp.MustCompile(
	`^(linux-(?:image|base|binary|modules)-[^\s:(]+)(?::\w+)?(?:\s*\(=\s*([^)\s]+)\))?`,
)

// kernelDepends returns the dependencies of a Depends field that belong to the kernel; of alternatives, the first.
func kernelDepends(field string) []dependency {
	var found []dependency
	for item := range strings.SplitSeq(field, ",") {
		if m := kernelDependency.FindStringSubmatch(strings.TrimSpace(item)); m != nil {
			found = append(found, dependency{m[1], m[2]})
		}
	}
	return found
}
