// Package anonymize replaces addresses and names by keyed hashes. Equal ones have equal hashes on every host with the
// same key, so that endings can still be grouped, and both ends of a connection joined.
package anonymize

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"strings"

	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/regular"
)

const (
	// minKey is the least length of a key. There are only 2³² IPv4 addresses: with a key that can be guessed, a hash
	// can be turned back by trying all of them.
	minKey = 16
	maxKey = 4096
	// digits is the length of a hash. Of a million names two have the same hash once in 37 million times.
	digits = 16
)

// MakeKey is the hint of each error about the text of a key.
const MakeKey = "make a key: openssl rand -hex 32"

// Key is the secret that the hashes depend on. A nil Key replaces nothing.
type Key struct{ secret []byte }

// ParseKey returns the key of a text.
func ParseKey(text string) (*Key, error) {
	if text == "" {
		return nil, hint.New(hint.Usage, "empty key", MakeKey)
	}
	if len(text) < minKey || len(text) > maxKey {
		return nil, hint.New(hint.Usage,
			fmt.Sprintf("a key of %d B; it needs %d to %d", len(text), minKey, maxKey), MakeKey)
	}
	return &Key{[]byte(text)}, nil
}

// ReadKey returns the key in a file, without white space around it.
func ReadKey(path string) (*Key, error) {
	file, err := regular.Open(path)
	if err != nil {
		return nil, unreadable(err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxKey+2)) // more is an error of ParseKey
	if err != nil {
		return nil, unreadable(err)
	}
	return ParseKey(strings.TrimSpace(string(text)))
}

// unreadable returns the error of a file. Only one that does not exist may be written: the key in another one is that
// of all hosts.
func unreadable(err error) error {
	next := "name a file that has only the key"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		next = MakeKey + " > FILE"
	case errors.Is(err, fs.ErrPermission):
		next = "let the user of closetrace read the file: ls -l FILE shows who may"
	}
	return hint.New(hint.Usage, err.Error(), next)
}

// Equal reports whether both are the same key.
func (k *Key) Equal(other *Key) bool {
	if k == nil || other == nil {
		return k == other
	}
	return hmac.Equal(k.secret, other.secret)
}

// Name returns what stands for a name, for example name-5f3a9c0e12b47d86. There is nothing to hide in an empty one.
func (k *Key) Name(name string) string {
	if k == nil || name == "" {
		return name
	}
	return k.hash("name", name)
}

// Address returns what stands for an address, for example addr-5f3a9c0e12b47d86. An IPv4 address in an IPv6 socket is
// the one on the wire.
func (k *Key) Address(a netip.Addr) string {
	if k == nil || !a.IsValid() {
		return a.String()
	}
	return k.hash("addr", a.Unmap().WithZone("").String())
}

func (k *Key) hash(kind, text string) string {
	mac := hmac.New(sha256.New, k.secret)
	io.WriteString(mac, kind+"\x00"+text)
	return kind + "-" + hex.EncodeToString(mac.Sum(nil))[:digits]
}
