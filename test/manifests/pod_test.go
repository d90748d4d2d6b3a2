package manifests

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"allim/test/pods"
)

// An object is one of Kubernetes, as far as this test looks at it.
type object struct {
	Kind     string
	Metadata struct{ Name string }
	Data     map[string]string
	Spec     struct {
		Template struct{ Spec podSpec }
		Metrics  []struct {
			Pods struct{ Metric struct{ Name string } }
		}
	}
}

type podSpec struct {
	TerminationGracePeriodSeconds int `yaml:"terminationGracePeriodSeconds"`
	Containers                    []container
	Volumes                       []struct {
		Name      string
		ConfigMap struct{ Name string } `yaml:"configMap"`
		Secret    struct {
			SecretName string `yaml:"secretName"`
		}
	}
}

type container struct {
	Name  string
	Args  []string
	Env   []struct{ Name, Value string }
	Ports []struct {
		Name          string
		ContainerPort int `yaml:"containerPort"`
	}
	StartupProbe   probe `yaml:"startupProbe"`
	LivenessProbe  probe `yaml:"livenessProbe"`
	ReadinessProbe probe `yaml:"readinessProbe"`
	Lifecycle      struct {
		PreStop struct{ Sleep struct{ Seconds int } } `yaml:"preStop"`
	}
	VolumeMounts []struct {
		Name      string
		MountPath string `yaml:"mountPath"`
	} `yaml:"volumeMounts"`
}

type probe struct {
	HTTPGet struct {
		Port string
		Path string
	} `yaml:"httpGet"`
}

// build is what `kubectl apply -k` would send for an overlay.
func build(t *testing.T, overlay string) (all []object) {
	t.Helper()
	root, err := pods.Root()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "run", "-C", filepath.Join(root, "tools/deploy"), "./manifests", "build", filepath.Join(root, "deploy/k8s/overlays", overlay))
	cmd.Env = append(os.Environ(), "GOFLAGS=-buildvcs=false")
	var faults bytes.Buffer
	cmd.Stderr = &faults
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("build overlay %s: %v\n%s", overlay, err, &faults)
	}
	for dec := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var o object
		if err := dec.Decode(&o); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, o)
	}
}

func find(t *testing.T, all []object, kind, name string) object {
	t.Helper()
	for _, o := range all {
		if o.Kind == kind && o.Metadata.Name == name {
			return o
		}
	}
	t.Fatalf("no %s %s", kind, name)
	return object{}
}

// mount puts the files of a pod's volumes under root and returns the container's environment with the paths that it then has. Secrets that
// are not in the overlay come from secrets, by name; those in fixed replace what the overlay has, file by file.
func mount(t *testing.T, all []object, spec podSpec, root string, secrets, fixed map[string]map[string]string) (env []string) {
	t.Helper()
	c := spec.Containers[0]
	var places []string // "/etc/allim" and where that is, for the replacer
	for _, m := range c.VolumeMounts {
		dir := filepath.Join(root, m.MountPath)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		places = append(places, m.MountPath+"/", dir+"/")
		files := content(t, all, spec, m.Name, secrets)
		for name, text := range files {
			if other, ok := fixed[m.Name][name]; ok {
				text = other
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	moved := strings.NewReplacer(places...)
	for _, e := range c.Env {
		env = append(env, e.Name+"="+moved.Replace(e.Value))
	}
	return env
}

func content(t *testing.T, all []object, spec podSpec, volume string, secrets map[string]map[string]string) map[string]string {
	t.Helper()
	for _, v := range spec.Volumes {
		switch {
		case v.Name != volume:
		case v.ConfigMap.Name != "":
			return find(t, all, "ConfigMap", v.ConfigMap.Name).Data
		case secrets[v.Secret.SecretName] != nil:
			return secrets[v.Secret.SecretName]
		default:
			files := map[string]string{}
			for name, coded := range find(t, all, "Secret", v.Secret.SecretName).Data {
				text, err := base64.StdEncoding.DecodeString(coded)
				if err != nil {
					t.Fatal(err)
				}
				files[name] = string(text)
			}
			return files
		}
	}
	t.Fatal(fmt.Errorf("volume %s is mounted, but there is none", volume))
	return nil
}
