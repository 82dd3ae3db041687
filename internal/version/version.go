// Package version says which build of closetrace this is.
package version

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

// Info describes a build. A field is empty if the build does not know it.
type Info struct {
	Version  string `json:"version"`            // of the module: a tag, a pseudo-version, or (devel)
	Commit   string `json:"commit,omitempty"`   // of Git
	Time     string `json:"time,omitempty"`     // of the commit, RFC 3339
	Modified bool   `json:"modified,omitempty"` // the source differed from the commit
	Go       string `json:"go"`                 // version of Go
	Platform string `json:"platform"`           // operating system and architecture
}

// Build returns the description of the running program.
func Build() Info {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return describe(info)
}

func describe(info *debug.BuildInfo) Info {
	v := Info{
		Version: cmp.Or(info.Main.Version, "unknown"), Go: cmp.Or(info.GoVersion, runtime.Version()),
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.time":
			v.Time = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}

// Line returns the description in one line.
func (v Info) Line() string {
	text := v.Version
	if v.Version == "(devel)" && v.Commit != "" {
		text += " " + v.Commit
	}
	return text + " " + v.Go
}

// String returns the description, one fact a line.
func (v Info) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "closetrace %s\n", v.Version)
	if v.Commit != "" {
		commit := v.Commit
		if v.Time != "" {
			commit += " of " + v.Time
		}
		if v.Modified {
			commit += ", modified"
		}
		fmt.Fprintf(&b, "commit:     %s\n", commit)
	}
	fmt.Fprintf(&b, "built with: %s, %s\n", v.Go, v.Platform)
	return b.String()
}
