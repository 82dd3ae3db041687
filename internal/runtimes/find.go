package runtimes

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/hint"
)

// Cgroups are the cgroups (v2) of this machine. Each calls visit for each of them,
// parents first, and skips what is below one if visit returns false.
type Cgroups interface {
	Each(visit func(path string, id uint64) bool)
}

// runningContainer is a container and the ids of its cgroups.
type runningContainer struct {
	events.Container
	cgroups []uint64
}

// Find returns the ids of the cgroups (v2) of the container whose id begins with
// text or, if apis is not nil, whose name is text. It leaves out cgroups below
// these.
func Find(cgroups Cgroups, apis []*API, text string) ([]uint64, error) {
	found, err := find(cgroups, apis, text)
	if err != nil {
		return nil, err
	}
	return found.cgroups, nil
}

// IDs returns the whole ids of the containers that [Find] finds.
func IDs(cgroups Cgroups, apis []*API, texts []string) (ids []string, err error) {
	for _, text := range texts {
		found, err := find(cgroups, apis, text)
		if err != nil {
			return nil, err
		}
		ids = append(ids, found.ID)
	}
	return ids, nil
}

func find(cgroups Cgroups, apis []*API, text string) (*runningContainer, error) {
	all := running(cgroups)
	found := slices.Collect(maps.Keys(all))
	found = slices.DeleteFunc(found, func(id string) bool { return !strings.HasPrefix(id, text) })
	what := "an id that begins with"
	next := "docker ps, podman ps and crictl ps list the ids; to use names add --container-names"
	if len(found) == 0 && apis != nil {
		var err error
		if found, err = named(apis, text, all); err != nil {
			return nil, err
		}
		what, next = "the name or an id that begins with", "docker ps, podman ps and crictl ps list ids and names"
	}
	switch slices.Sort(found); len(found) {
	case 0:
		return nil, hint.New(hint.Usage, fmt.Sprintf("no running container has %s %q", what, text), next)
	case 1:
		return all[found[0]], nil
	default:
		return nil, hint.New(hint.Usage,
			fmt.Sprintf("%d containers have %s %q", len(found), what, text), "use a longer prefix, for example "+found[0])
	}
}

// running returns the running containers by id.
func running(cgroups Cgroups) map[string]*runningContainer {
	all := map[string]*runningContainer{}
	cgroups.Each(func(path string, cgroup uint64) bool {
		c := events.ContainerOf(path)
		if c.ID == "" || events.ContainerOf(filepath.Dir(path)).ID == c.ID {
			return true
		}
		if all[c.ID] == nil {
			all[c.ID] = &runningContainer{Container: c}
		}
		all[c.ID].cgroups = append(all[c.ID].cgroups, cgroup)
		return true
	})
	return all
}

// named returns the ids of the containers with this name, either alone or with
// the names of its pod and namespace. It asks a runtime no more after an error,
// and returns that error if no other runtime has such a container.
func named(apis []*API, name string, all map[string]*runningContainer) (found []string, err error) {
	failed := map[string]error{} // by runtime
	for id, c := range all {
		if failed[c.Runtime] != nil {
			continue
		}
		names, err := Ask(apis, c.Container)
		if failed[c.Runtime] = err; err == nil && names != nil && (name == names.Name || name == names.String()) {
			found = append(found, id)
		}
	}
	for _, err := range failed {
		if err != nil && len(found) == 0 {
			return nil, hint.New(hint.Usage, fmt.Sprintf("cannot look up the container name %q: %v", name, err),
				"give the id or its beginning, or let closetrace reach the runtime's API socket")
		}
	}
	return found, nil
}
