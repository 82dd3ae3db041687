package main

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/closetrace/closetrace/internal/enrich"
	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/runtimes"
)

// running is a container, and the ids of its cgroups (v2).
type running struct {
	events.Container
	cgroups []uint64
}

// container returns the ids of the cgroups (v2) of the container whose id begins
// so or, where runtimes may be asked, that is called so. What is below these need
// not be listed.
func (f *finder) container(text string) ([]uint64, error) {
	mount, err := f.cgroups()
	if err != nil {
		return nil, noCgroups(err)
	}
	all := containersIn(mount)
	found := slices.Collect(maps.Keys(all))
	found = slices.DeleteFunc(found, func(id string) bool { return !strings.HasPrefix(id, text) })
	what, hint := "an id that begins with", "docker ps, podman ps and crictl ps list the ids; names are known with --container-names"
	if len(found) == 0 && f.runtimes != nil {
		if found, err = f.called(text, all); err != nil {
			return nil, err
		}
		what, hint = "the name or an id that begins with", "docker ps, podman ps and crictl ps list ids and names"
	}
	switch slices.Sort(found); len(found) {
	case 0:
		return nil, &usageError{fmt.Sprintf("no container has %s %q", what, text), hint + "; it has to run, in a cgroup (v2) of its own"}
	case 1:
		return all[found[0]].cgroups, nil
	default:
		return nil, &usageError{fmt.Sprintf("%d containers have %s %q", len(found), what, text), "say more of it, as " + found[0]}
	}
}

// containersIn lists those that run, by id.
func containersIn(mount enrich.CgroupMount) map[string]*running {
	all := map[string]*running{}
	mount.Each(func(path string, cgroup uint64) bool {
		c := events.ContainerOf(path)
		if c.ID == "" || events.ContainerOf(filepath.Dir(path)).ID == c.ID {
			return true
		}
		if all[c.ID] == nil {
			all[c.ID] = &running{Container: c}
		}
		all[c.ID].cgroups = append(all[c.ID].cgroups, cgroup)
		return true
	})
	return all
}

// called returns the ids of the containers with this name, alone or with those of
// its pod and namespace. A runtime that fails is not asked again, and that it did
// matters if the others know no such name.
func (f *finder) called(text string, all map[string]*running) (found []string, err error) {
	failed := map[string]error{} // by runtime
	for id, c := range all {
		if failed[c.Runtime] != nil {
			continue
		}
		names, err := runtimes.Ask(f.runtimes, c.Container)
		if failed[c.Runtime] = err; err == nil && names != nil && (text == names.Name || text == names.String()) {
			found = append(found, id)
		}
	}
	for _, err := range failed {
		if err != nil && len(found) == 0 {
			return nil, &usageError{fmt.Sprintf("no container is known to be called %q: %v", text, err), "say how its id begins, or let closetrace reach the runtime's API"}
		}
	}
	return found, nil
}
