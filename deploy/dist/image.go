package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// writeImage writes an image with nothing but the program, for the platforms of all builds, as an OCI archive.
func writeImage(dir string, builds []build) (string, error) {
	work, err := os.MkdirTemp("", "closetrace-image-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	image := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, b := range builds {
		platform, err := b.image()
		if err != nil {
			return "", err
		}
		image = mutate.AppendManifests(image, mutate.IndexAddendum{
			Add: platform, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: b.arch}},
		})
	}
	at, err := layout.Write(work, empty.Index)
	if err != nil {
		return "", err
	}
	tag := builds[0].version.String()
	if err := at.AppendIndex(image, layout.WithAnnotations(map[string]string{
		"org.opencontainers.image.ref.name": tag, // the tag, for skopeo and podman
		// Docker does not find an image whose name has no host.
		"io.containerd.image.name": "localhost/closetrace:" + tag,
	})); err != nil {
		return "", err
	}
	files, err := filesBelow(work)
	if err != nil {
		return "", err
	}
	archive, err := tarOf(files, builds[0].time)
	if err != nil {
		return "", err
	}
	name := fmt.Sprintf("closetrace_%s_image.tar", tag)
	return name, os.WriteFile(filepath.Join(dir, name), archive, 0o644)
}

// image returns the image for one platform.
func (b build) image() (v1.Image, error) {
	text, err := tarOf([]file{{path: "/closetrace", mode: 0o755, from: b.program}}, b.time)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(text)), nil
	}, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err := mutate.Append(base, mutate.Addendum{
		Layer: layer, History: v1.History{Created: v1.Time{Time: b.time}, CreatedBy: "deploy/dist"},
	})
	if err != nil {
		return nil, err
	}
	return mutate.ConfigFile(image, b.imageConfig(image))
}

// imageConfig returns the configuration of an image: its program, and what it is.
func (b build) imageConfig(image v1.Image) *v1.ConfigFile {
	layers, err := image.ConfigFile()
	if err != nil {
		panic(err) // it was just written
	}
	c := layers.DeepCopy()
	c.OS, c.Architecture, c.Created = "linux", b.arch, v1.Time{Time: b.time}
	c.Config = v1.Config{
		Entrypoint: []string{"/closetrace"},
		Labels: map[string]string{
			"org.opencontainers.image.title":       "closetrace",
			"org.opencontainers.image.description": strings.SplitN(description, "\n", 2)[0],
			"org.opencontainers.image.source":      homepage,
			"org.opencontainers.image.licenses":    "Apache-2.0",
			"org.opencontainers.image.version":     b.version.String(),
			"org.opencontainers.image.revision":    b.setting("vcs.revision"),
		},
	}
	return c
}

// filesBelow returns the files of a directory with the paths that they have in it.
func filesBelow(dir string) (files []file, err error) {
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			files = append(files, file{path: strings.TrimPrefix(path, dir), mode: 0o644, from: path})
		}
		return err
	})
	return files, err
}
