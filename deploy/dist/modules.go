package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/CycloneDX/cyclonedx-go"
)

// writeModules writes the list of what the program of a build consists of.
func writeModules(dir string, b build) (string, error) {
	text, err := listModules(b)
	if err != nil {
		return "", err
	}
	name := fmt.Sprintf("closetrace_%s_linux_%s.cdx.json", b.version, b.arch)
	return name, os.WriteFile(filepath.Join(dir, name), text, 0o644)
}

// listModules returns the modules of the program as a bill of materials (CycloneDX). They are those that the linker
// wrote into the program itself.
func listModules(b build) ([]byte, error) {
	program, err := os.ReadFile(b.program)
	if err != nil {
		return nil, err
	}
	main := component(&b.info.Main)
	main.Type = cyclonedx.ComponentTypeApplication
	main.Hashes = &[]cyclonedx.Hash{{
		Algorithm: cyclonedx.HashAlgoSHA256, Value: fmt.Sprintf("%x", sha256.Sum256(program)),
	}}
	standard := component(&debug.Module{Path: "std", Version: strings.TrimPrefix(b.info.GoVersion, "go")})
	parts := []cyclonedx.Component{standard}
	uses := []string{standard.BOMRef}
	for _, module := range b.info.Deps {
		if module.Replace != nil {
			module = module.Replace
		}
		c := component(module)
		parts, uses = append(parts, c), append(uses, c.BOMRef)
	}
	bom := cyclonedx.NewBOM()
	bom.Metadata = &cyclonedx.Metadata{Timestamp: b.time.Format(time.RFC3339), Component: &main}
	bom.Components = &parts
	bom.Dependencies = &[]cyclonedx.Dependency{{Ref: main.BOMRef, Dependencies: &uses}}
	var text bytes.Buffer
	err = cyclonedx.NewBOMEncoder(&text, cyclonedx.BOMFileFormatJSON).SetPretty(true).Encode(bom)
	return text.Bytes(), err
}

// component describes a module. Its sum is that of go.sum, which is not one of a file.
func component(m *debug.Module) cyclonedx.Component {
	url := "pkg:golang/" + m.Path + "@" + strings.ReplaceAll(m.Version, "+", "%2B")
	c := cyclonedx.Component{
		Type: cyclonedx.ComponentTypeLibrary, BOMRef: url, PackageURL: url, Name: m.Path, Version: m.Version,
	}
	if m.Sum != "" {
		c.Properties = &[]cyclonedx.Property{{Name: "go:sum", Value: m.Sum}}
	}
	return c
}
