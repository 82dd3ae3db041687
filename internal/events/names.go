package events

import (
	"fmt"
	"strconv"
	"strings"
)

// names is a table from small numbers to words, with "" for holes.
type names[T ~uint8] []string

// unnamed stands before the number of what has no name.
const unnamed = "unknown-"

func (n names[T]) name(v T) string {
	if int(v) < len(n) && n[v] != "" {
		return n[v]
	}
	return unnamed + strconv.Itoa(int(v))
}

func (n names[T]) parse(text []byte, what string) (T, error) {
	for v, name := range n {
		if name != "" && name == string(text) {
			return T(v), nil
		}
	}
	var none T
	if len(text) == 0 {
		return none, nil
	}
	if number, ok := strings.CutPrefix(string(text), unnamed); ok {
		v, err := strconv.ParseUint(number, 10, 8)
		return T(v), err
	}
	return none, fmt.Errorf("unknown %s %q", what, text)
}

func (k Kind) String() string { return kindNames.name(k) }

// Valid tells whether k is a kind that this version knows.
func (k Kind) Valid() bool { return int(k) < len(kindNames) && kindNames[k] != "" }

// MarshalText gives the name of the record file.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText takes the name of the record file.
func (k *Kind) UnmarshalText(text []byte) (err error) {
	*k, err = kindNames.parse(text, "kind of event")
	return err
}

func (s State) String() string {
	if s == StateUnknown {
		return ""
	}
	return stateNames.name(s)
}

// MarshalText gives the kernel's name of the state without its TCP_ prefix.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText takes the kernel's name of the state without its TCP_ prefix.
func (s *State) UnmarshalText(text []byte) (err error) {
	*s, err = stateNames.parse(text, "TCP state")
	return err
}

func (fs Flags) String() string {
	var set []string
	for bit, name := range flagNames {
		if fs&(1<<bit) != 0 {
			set = append(set, name)
		}
	}
	return strings.Join(set, " ")
}

// MarshalText gives the names of the set flags, separated by spaces.
func (fs Flags) MarshalText() ([]byte, error) { return []byte(fs.String()), nil }

// UnmarshalText takes names separated by spaces.
func (fs *Flags) UnmarshalText(text []byte) error {
	*fs = 0
next:
	for _, word := range strings.Fields(string(text)) {
		for bit, name := range flagNames {
			if name == word {
				*fs |= 1 << bit
				continue next
			}
		}
		return fmt.Errorf("unknown flag %q", word)
	}
	return nil
}
