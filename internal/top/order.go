package top

import (
	"cmp"
	"slices"
)

// Order is how groups are sorted.
type Order string

// The orders: by numbers the highest first, by name the first first.
const (
	ByRate   Order = "rate"
	ByTotal  Order = "total"
	ByErrors Order = "errors"
	ByName   Order = "name"
)

// Orders are all, in the order in which they are offered.
func Orders() []Order { return []Order{ByRate, ByTotal, ByErrors, ByName} }

// sort breaks ties by the total, then by name, so that groups do not jump.
func (o Order) sort(groups []Group) {
	slices.SortFunc(groups, func(a, b Group) int {
		first := 0
		switch o {
		case ByRate:
			first = cmp.Compare(b.PerSecond, a.PerSecond)
		case ByErrors:
			first = cmp.Compare(b.Errors, a.Errors)
		case ByName:
			first = a.Key.compare(b.Key)
		}
		return cmp.Or(first, cmp.Compare(b.Endings, a.Endings), a.Key.compare(b.Key))
	})
}

// compare puts the group of all others last.
func (k Key) compare(other Key) int {
	if k.Others != other.Others {
		if k.Others {
			return 1
		}
		return -1
	}
	return cmp.Or(cmp.Compare(k.Path, other.Path), cmp.Compare(k.Comm, other.Comm), cmp.Compare(k.PID, other.PID), k.Remote.Compare(other.Remote))
}
