package main

import (
	"github.com/closetrace/closetrace/internal/enrich"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/netns"
	"github.com/closetrace/closetrace/internal/probe"
	"github.com/closetrace/closetrace/internal/runtimes"
)

// netnsNames are the values of --netns of a live command.
const netnsNames = "names of ip-netns, paths, process ids, or inode:N"

// kernelFilter is an [eventFilter] for the kernel side: what it names was looked up.
type kernelFilter struct {
	probe.Filter
	paths []string // of the network namespaces; empty: not found
}

// targets finds what filters name: processes, network namespaces, cgroups, containers.
type targets struct {
	spaces    netns.Finder
	cgroups   func() (enrich.CgroupMount, error)
	runtimes  []*runtimes.API // asked for names of containers; nil: none
	checkPIDs func() error    // whether the process ids here are those of endings
}

// find looks up what the flags name.
func (t *targets) find(f *eventFilter) (found kernelFilter, err error) {
	found.Filter = probe.Filter{
		Ports: f.Ports, LocalPorts: f.LocalPorts, RemotePorts: f.RemotePorts, IPv4: f.IPv4, IPv6: f.IPv6,
	}
	if found.Netns, found.paths, err = t.spaces.FindAllInUse(f.netns); err != nil {
		return found, err
	}
	for _, path := range f.Cgroups {
		id, err := t.cgroup(path)
		if err != nil {
			return found, err
		}
		found.Cgroups = append(found.Cgroups, id)
	}
	for _, id := range f.Containers {
		cgroups, err := t.container(id)
		if err != nil {
			return found, err
		}
		found.Cgroups = append(found.Cgroups, cgroups...)
	}
	return found, nil
}

// process returns an error unless pid is a running process by the ids that endings have.
func (t *targets) process(pid uint32) error {
	if err := t.checkPIDs(); err != nil {
		return err
	}
	return enrich.CheckProcess(t.spaces.Proc, pid)
}

// cgroup returns the id of the cgroup (v2) that text names.
func (t *targets) cgroup(text string) (uint64, error) {
	mount, err := t.cgroups()
	if err != nil {
		return 0, cannotFilter(err)
	}
	id, err := mount.Lookup(text)
	if hint.Is(err, hint.Unsupported) {
		err = cannotFilter(err)
	}
	return id, err
}

// container returns the ids of the cgroups (v2) of the container that text names.
func (t *targets) container(text string) ([]uint64, error) {
	mount, err := t.cgroups()
	if err != nil {
		return nil, cannotFilter(err)
	}
	return runtimes.Find(mount, t.runtimes, text)
}

func cannotFilter(err error) error {
	return &hint.Error{Kind: hint.Unsupported, What: "cannot filter by cgroup", Err: err}
}
