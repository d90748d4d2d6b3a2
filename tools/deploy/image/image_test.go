package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"allim/tools/deploy/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const (
	repository = "../../.." // seen from this package
	version    = "v1.2.3-test"
	commit     = "0123456789ab"
	epoch      = 1_700_000_000
)

// script runs scripts/image for this machine's platform.
func script(t *testing.T, out string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute) // the whole product may have to be compiled
	defer cancel()
	c := exec.CommandContext(ctx, "bash", filepath.Join(repository, "scripts/image"), out)
	c.Env = append(os.Environ(), "VERSION="+version, "COMMIT="+commit, "SOURCE_DATE_EPOCH=1700000000", "PLATFORMS=linux/"+runtime.GOARCH)
	text, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("scripts/image: %v\n%s", err, text)
	}
	return strings.TrimSuffix(string(text), "written to "+out+"\n")
}

func TestTheSameSourcesAreTheSameImagesAndTheyRun(t *testing.T) {
	dir := t.TempDir()
	first, second := script(t, filepath.Join(dir, "a")), script(t, filepath.Join(dir, "b"))
	if first != second || !strings.Contains(first, "allim-gateway:"+version+" sha256:") || !strings.Contains(first, "allim-publisher:"+version+" sha256:") {
		t.Errorf("got %s and then %s", first, second)
	}
	index, err := layout.ImageIndexFromPath(filepath.Join(dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	for _, program := range []string{"gateway", "publisher"} {
		image := only(t, named(t, index, "allim-"+program+":"+version))
		wantConfig(t, image, program)
		files := unpack(t, image)
		wantFiles(t, files, program)
		path := filepath.Join(dir, program)
		if err := os.WriteFile(path, files[program].body, 0o700); err != nil {
			t.Fatal(err)
		}
		said, err := exec.CommandContext(t.Context(), path, "--version").CombinedOutput()
		if err != nil {
			t.Errorf("%s --version: %v\n%s", program, err, said)
		}
		for _, want := range []string{program, version, commit, runtime.Version()} {
			if !strings.Contains(string(said), want) {
				t.Errorf("%s --version: got %q, nothing of %s", program, said, want)
			}
		}
		if bytes.Contains(files[program].body, []byte(mustAbs(t, repository))) {
			t.Errorf("%s says where it was built", program)
		}
	}
}

// named is the index of one program.
func named(t *testing.T, index v1.ImageIndex, name string) v1.ImageIndex {
	t.Helper()
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(m.Manifests, func(d v1.Descriptor) bool { return d.Annotations["org.opencontainers.image.ref.name"] == name })
	if i < 0 {
		t.Fatalf("no %s in %+v", name, m.Manifests)
	}
	found, err := index.ImageIndex(m.Manifests[i].Digest)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// only is the one image of an index, for this machine.
func only(t *testing.T, index v1.ImageIndex) v1.Image {
	t.Helper()
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Manifests) != 1 || m.Manifests[0].Platform == nil || m.Manifests[0].Platform.String() != "linux/"+runtime.GOARCH {
		t.Fatalf("got %+v", m.Manifests)
	}
	image, err := index.Image(m.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func wantConfig(t *testing.T, image v1.Image, program string) {
	t.Helper()
	c, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if c.Config.User != "65532:65532" || !slices.Equal(c.Config.Entrypoint, []string{"/" + program}) || c.Created.Unix() != epoch || c.OS != "linux" || c.Architecture != runtime.GOARCH {
		t.Errorf("%s: got %+v", program, c)
	}
	if l := c.Config.Labels; l["org.opencontainers.image.version"] != version || l["org.opencontainers.image.revision"] != commit || l["org.opencontainers.image.title"] != "allim-"+program {
		t.Errorf("%s: labels %v", program, l)
	}
	for port := range c.Config.ExposedPorts {
		if !slices.Contains(ports[program], port) {
			t.Errorf("%s: exposes %s", program, port)
		}
	}
	if len(c.Config.ExposedPorts) != len(ports[program]) {
		t.Errorf("%s: exposes %v, want %v", program, c.Config.ExposedPorts, ports[program])
	}
}

func wantFiles(t *testing.T, files map[string]unpacked, program string) {
	t.Helper()
	for name, f := range files {
		h := f.header
		if h.ModTime.Unix() != epoch || h.Uid != 0 || h.Gid != 0 || h.Mode&0o7022 != 0 {
			t.Errorf("%s: %s has %v, %d:%d, %o", program, name, h.ModTime, h.Uid, h.Gid, h.Mode)
		}
		if h.Typeflag == tar.TypeReg && !slices.Contains([]string{program, "etc/passwd", "etc/group", "etc/ssl/certs/ca-certificates.crt"}, name) {
			t.Errorf("%s: what is %s for?", program, name)
		}
	}
	if files[program].header.Mode != 0o755 {
		t.Errorf("%s can not be run: %+v", program, files[program].header)
	}
	if !strings.Contains(string(files["etc/passwd"].body), "nonroot:x:65532:65532:") {
		t.Errorf("users: %s", files["etc/passwd"].body)
	}
	roots := files["etc/ssl/certs/ca-certificates.crt"].body
	if n := bytes.Count(roots, []byte("BEGIN CERTIFICATE")); n < 50 || !x509.NewCertPool().AppendCertsFromPEM(roots) {
		t.Errorf("%d roots of trust", n)
	}
}

type unpacked struct {
	header tar.Header
	body   []byte
}

func unpack(t *testing.T, image v1.Image) map[string]unpacked {
	t.Helper()
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]unpacked{}
	for _, l := range layers {
		r, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		for tr := tar.NewReader(r); ; {
			h, err := tr.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(tr)
			if err != nil {
				t.Fatal(err)
			}
			files[h.Name] = unpacked{*h, body}
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func mustAbs(t *testing.T, path string) string {
	t.Helper()
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}

func TestAnotherTimeIsAnotherImageAndAMissingProgramAnError(t *testing.T) {
	dir := t.TempDir()
	bin := filepath.Join(dir, "bin")
	if err := os.MkdirAll(filepath.Join(bin, "linux-amd64"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "linux-amd64/gateway"), []byte("program"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := order{bin: bin, out: filepath.Join(dir, "a"), programs: []string{"gateway"}, platforms: []string{"linux/amd64"}, version: version}
	at0, err := pack(o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pack(o); err == nil {
		t.Error("written over what is there")
	}
	o.out, o.epoch = filepath.Join(dir, "b"), 1
	if at1, err := pack(o); err != nil || at1 == at0 {
		t.Errorf("got %s and %s, %v", at0, at1, err)
	}
	o.out, o.platforms = filepath.Join(dir, "c"), []string{"linux/arm64"}
	if _, err := pack(o); err == nil {
		t.Error("packed a program that is not there")
	}
}

// The Dockerfile and scripts/image are two ways to one thing.
func TestTheDockerfileBuildsTheSame(t *testing.T) {
	read := func(path string) string {
		text, err := os.ReadFile(filepath.Join(repository, path))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	dockerfile, sh, mod := read("deploy/Dockerfile"), read("scripts/image"), read("go.mod")
	words := func(s string) string { return strings.Join(strings.Fields(strings.ReplaceAll(s, "\\\n", " ")), " ") }
	build := func(s string) string {
		_, s, _ = strings.Cut(words(s), "GOFLAGS=''")
		s, _, _ = strings.Cut(s, " -o ")
		return strings.ReplaceAll(s, "${COMMIT:-unknown}", "$COMMIT")
	}
	if got, want := build(dockerfile), build(sh); got != want || !strings.Contains(got, "CGO_ENABLED=0 go build -trimpath") {
		t.Errorf("Dockerfile: %q\nscripts/image: %q", got, want)
	}
	_, goVersion, _ := strings.Cut(mod, "\ngo ")
	goVersion, _, _ = strings.Cut(goVersion, "\n")
	for _, want := range []string{"ARG GO=golang:" + goVersion + "\n", "ARG BASE=gcr.io/distroless/static:nonroot\n", "\nUSER 65532:65532\n", "\nFROM ${CMD}-image\n"} {
		if !strings.Contains(dockerfile, want) {
			t.Errorf("Dockerfile: no %q", want)
		}
	}
	for program, list := range ports {
		_, stage, _ := strings.Cut(dockerfile, "FROM base AS "+program+"-image\n")
		stage, _, _ = strings.Cut(stage, "\n\n")
		want := "COPY --from=build /out/" + program + " /" + program + "\nEXPOSE " + strings.ReplaceAll(strings.Join(list, " "), "/tcp", "") + "\nENTRYPOINT [\"/" + program + "\"]"
		if stage != want {
			t.Errorf("Dockerfile: got %q, want %q", stage, want)
		}
	}
}
