package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// sumsFile has the checksums of all other files, as sha256sum prints them.
const sumsFile = "SHA256SUMS"

func writeSums(dir string, names []string) (string, error) {
	var sums strings.Builder
	for _, name := range slices.Sorted(slices.Values(names)) {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(data), name)
	}
	return sumsFile, os.WriteFile(filepath.Join(dir, sumsFile), []byte(sums.String()), 0o644)
}
