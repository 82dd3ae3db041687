package probe

import (
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Filter selects events in the kernel, before a record is made. An empty list or zero selects all. An event must match
// every field, and of a list at least one value.
type Filter struct {
	Ports       []uint16 // local or remote
	LocalPorts  []uint16
	RemotePorts []uint16
	IPv4, IPv6  bool     // on the wire: v4-mapped is IPv4
	Netns       []uint32 // inode numbers of network namespaces
	// Cgroups are ids. The socket was created in one of these cgroups or below, or the actor runs there.
	Cgroups []uint64
}

// HidesPeers reports whether the filter may select one end of a connection and not the other, though both are in the
// same network namespace.
func (f *Filter) HidesPeers() bool { return len(f.LocalPorts)+len(f.RemotePorts)+len(f.Cgroups) > 0 }

// familyOf returns the address family that a filter selects, 0 for both.
func familyOf(f Filter) uint16 {
	switch {
	case f.IPv4 == f.IPv6:
		return 0
	case f.IPv4:
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// valuesOf returns the values of a filter, by field.
func valuesOf(f Filter) [bpfFilterFieldFILTER_FIELDS][]uint32 {
	wide := func(ports []uint16) (all []uint32) {
		for _, port := range ports {
			all = append(all, uint32(port))
		}
		return all
	}
	return [bpfFilterFieldFILTER_FIELDS][]uint32{
		bpfFilterFieldFILTER_PORT:        wide(f.Ports),
		bpfFilterFieldFILTER_LOCAL_PORT:  wide(f.LocalPorts),
		bpfFilterFieldFILTER_REMOTE_PORT: wide(f.RemotePorts),
		bpfFilterFieldFILTER_NETNS:       f.Netns,
	}
}

// values returns the number of values of all fields.
func (f *Filter) values() (n uint32) {
	for _, values := range valuesOf(*f) {
		n += uint32(len(values))
	}
	return n
}

// firstValues returns the number of values of each field, and the first one.
func firstValues(f Filter) (many, first [bpfFilterFieldFILTER_FIELDS]uint32) {
	for field, values := range valuesOf(f) {
		if many[field] = uint32(len(values)); len(values) > 0 {
			first[field] = values[0]
		}
	}
	return many, first
}

func fillFilter(m *ebpf.Map, f Filter) error {
	for field, values := range valuesOf(f) {
		for _, v := range values {
			if err := m.Put(bpfFilterKey{Field: bpfFilterField(field), Value: v}, uint8(1)); err != nil {
				return fmt.Errorf("setting the filter: %w", err)
			}
		}
	}
	return nil
}

func fillCgroups(m *ebpf.Map, f Filter) error {
	for _, id := range f.Cgroups {
		if err := m.Put(id, uint8(1)); err != nil {
			return fmt.Errorf("setting the filter by cgroup: %w", err)
		}
	}
	return nil
}
