package events

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// names maps small numbers to words; "" is no name.
type names[T ~uint8] []string

// unnamed is the prefix of a number that has no name.
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

// Valid reports whether this version knows the kind.
func (k Kind) Valid() bool { return int(k) < len(kindNames) && kindNames[k] != "" }

// MarshalText returns the name in the record file.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText parses the name in the record file.
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

// MarshalText returns the kernel's name of the state without its TCP_ prefix.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText parses the kernel's name of the state without its TCP_ prefix.
func (s *State) UnmarshalText(text []byte) (err error) {
	*s, err = stateNames.parse(text, "TCP state")
	return err
}

// ssNames maps names of ss(8) to those of the kernel.
var ssNames = map[string]string{
	"ESTAB": "ESTABLISHED", "FIN_WAIT_1": "FIN_WAIT1", "FIN_WAIT_2": "FIN_WAIT2", "LISTENING": "LISTEN", "UNCONN": "CLOSE",
}

// ParseState returns the state of a name in the spelling of the kernel or of ss(8), with or without TCP_.
func ParseState(name string) (State, bool) {
	name = strings.TrimPrefix(strings.ToUpper(strings.ReplaceAll(name, "-", "_")), "TCP_")
	var state State
	err := state.UnmarshalText([]byte(cmp.Or(ssNames[name], name)))
	return state, err == nil && state.Valid()
}

// Valid reports whether the state has a name.
func (s State) Valid() bool {
	return s != StateUnknown && int(s) < len(stateNames) && stateNames[s] != ""
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

// MarshalText returns the names of the set flags, separated by spaces.
func (fs Flags) MarshalText() ([]byte, error) { return []byte(fs.String()), nil }

// UnmarshalText parses names separated by spaces.
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
