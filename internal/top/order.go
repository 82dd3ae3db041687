package top

import (
	"cmp"
	"slices"
)

// Order is how groups are sorted.
type Order string

// The orders: highest number first, or alphabetically.
const (
	ByRate   Order = "rate"
	ByTotal  Order = "total"
	ByErrors Order = "errors"
	ByName   Order = "name"
)

// Orders returns all orders, as the screen switches between them.
func Orders() []Order { return []Order{ByRate, ByTotal, ByErrors, ByName} }

// sort sorts groups. Ties are broken by the total and then by the name, so that groups do not jump.
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

// compare compares names. The group of all others is the last.
func (k Key) compare(other Key) int {
	if k.Others != other.Others {
		if k.Others {
			return 1
		}
		return -1
	}
	return cmp.Or(cmp.Compare(k.Path, other.Path), cmp.Compare(k.Name, other.Name), cmp.Compare(k.PID, other.PID),
		k.Local.Compare(other.Local), k.Remote.Compare(other.Remote), cmp.Compare(k.Port, other.Port))
}
