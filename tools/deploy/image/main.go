// Command image packs the programs that scripts/image built into an OCI layout, without a container engine: a directory that skopeo, crane, podman or
// containerd take as it is. The same programs at the same time (-epoch) are the same bytes.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// An order is what to pack.
type order struct {
	bin       string   // directory with <os>-<arch>/<program>
	out       string   // of the layout; must not be there
	programs  []string // gateway, publisher
	platforms []string // linux/amd64, linux/arm64
	version   string
	commit    string
	epoch     int64 // Unix seconds of everything in the image
}

// ports are what the programs listen on, as in the Dockerfile: for people, nothing is opened by it.
var ports = map[string][]string{"gateway": {"8080/tcp", "9090/tcp"}, "publisher": {"50051/tcp", "8081/tcp", "9091/tcp"}}

func main() {
	var o order
	flag.StringVar(&o.bin, "bin", "", "directory with `os-arch/program`")
	flag.StringVar(&o.out, "out", "", "directory of the layout, which is made")
	programs := flag.String("programs", "gateway,publisher", "what to pack")
	platforms := flag.String("platforms", "linux/amd64,linux/arm64", "for what")
	flag.StringVar(&o.version, "version", "devel", "tag, and label")
	flag.StringVar(&o.commit, "commit", "unknown", "label")
	flag.Int64Var(&o.epoch, "epoch", 0, "time of everything, in Unix seconds")
	flag.Parse()
	o.programs, o.platforms = strings.Split(*programs, ","), strings.Split(*platforms, ",")
	lines, err := pack(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
	fmt.Print(lines)
}

// pack writes the layout and says the digest of each image.
func pack(o order) (lines string, err error) {
	if _, err := os.Stat(o.out); err == nil {
		return "", fmt.Errorf("%s is there already", o.out)
	}
	to, err := layout.Write(o.out, empty.Index)
	if err != nil {
		return "", fmt.Errorf("write %s: %w", o.out, err)
	}
	for _, program := range o.programs {
		index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
		for _, platform := range o.platforms {
			p, err := v1.ParsePlatform(platform)
			if err != nil {
				return "", err
			}
			image, err := o.image(program, *p)
			if err != nil {
				return "", fmt.Errorf("pack %s for %s: %w", program, platform, err)
			}
			index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: p}})
		}
		name := "allim-" + program + ":" + o.version
		if err := to.AppendIndex(index, layout.WithAnnotations(map[string]string{
			"org.opencontainers.image.ref.name": name,                        // skopeo, podman
			"io.containerd.image.name":          "docker.io/library/" + name, // ctr images import, kind load
		})); err != nil {
			return "", fmt.Errorf("write %s: %w", o.out, err)
		}
		digest, err := index.Digest()
		if err != nil {
			return "", err
		}
		lines += fmt.Sprintf("%s %s\n", name, digest)
	}
	return lines, nil
}

// image is one program for one platform: nothing but itself, roots of trust and a user who is not root.
func (o order) image(program string, p v1.Platform) (v1.Image, error) {
	binary, err := os.ReadFile(filepath.Join(o.bin, p.OS+"-"+p.Architecture, program))
	if err != nil {
		return nil, err
	}
	at := time.Unix(o.epoch, 0).UTC()
	system, err := layer(at, systemFiles())
	if err != nil {
		return nil, err
	}
	own, err := layer(at, []file{{name: program, mode: 0o755, body: binary}})
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	history := func(what string) v1.History { return v1.History{Created: v1.Time{Time: at}, CreatedBy: what} }
	image, err = mutate.Append(image,
		mutate.Addendum{Layer: system, MediaType: types.OCILayer, History: history("roots of trust, users")},
		mutate.Addendum{Layer: own, MediaType: types.OCILayer, History: history(program)})
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Variant = p.OS, p.Architecture, p.Variant
	config.Created = v1.Time{Time: at}
	config.Config = v1.Config{
		User:         "65532:65532",
		Entrypoint:   []string{"/" + program},
		WorkingDir:   "/",
		ExposedPorts: map[string]struct{}{},
		Labels: map[string]string{
			"org.opencontainers.image.title":    "allim-" + program,
			"org.opencontainers.image.version":  o.version,
			"org.opencontainers.image.revision": o.commit,
			"org.opencontainers.image.created":  at.Format(time.RFC3339),
			"org.opencontainers.image.licenses": "Apache-2.0",
		},
	}
	for _, port := range ports[program] {
		config.Config.ExposedPorts[port] = struct{}{}
	}
	return mutate.ConfigFile(image, config)
}
