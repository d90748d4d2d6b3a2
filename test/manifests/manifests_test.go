// Package manifests holds deploy/k8s against the programs that it runs: the arguments, environment, files, ports and probes of every overlay are
// given to the programs as a node would give them.
package manifests

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"allim/internal/testkit"
	"allim/test/pods"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// The Secrets that production brings itself, as deploy/k8s/README.md lists them.
func external(t *testing.T, a *testkit.Authority) map[string]map[string]string {
	t.Helper()
	read := func(path string) string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	cert, key := a.Pair("publisher")
	password := func(role string) map[string]string {
		_, pass := testkit.User(t, role)
		return map[string]string{"password": pass, "ca.crt": read(a.CAFile)}
	}
	return map[string]map[string]string{
		"allim-keys":            {"keys.yaml": "- {algorithm: HS256, secret: 7f3d1c9be05a4f2886d1b3a9c4e7f205}\n"},
		"allim-api-keys":        {"api_keys.yaml": "- {id: shop, key: 7f3d1c9be05a4f2886d1b3a9c4e7f205, allow: ['publish:*']}\n"},
		"allim-redis-gateway":   password("gateway"),
		"allim-redis-publisher": password("publisher"),
		"allim-publisher-tls":   {"tls.crt": read(cert), "tls.key": read(key)},
	}
}

// Where the programs listen, by the names of the containers' ports.
var ports = map[string]map[string]string{
	"gateway":   {"public": "listen.public", "ops": "listen.ops"},
	"publisher": {"grpc": "listen.grpc", "http": "listen.http", "ops": "listen.ops"},
}

func TestTheManifestsAreTrueOfThePrograms(t *testing.T) {
	authority := testkit.NewAuthority(t)
	plain, secure := testkit.Redis(t), testkit.RedisTLS(t, authority, "--tls-auth-clients", "no")
	for overlay, redis := range map[string]string{"dev": "redis://" + plain.Addr, "prod": "rediss://" + secure.Addr} {
		t.Run(overlay, func(t *testing.T) {
			all := build(t, overlay)
			fixed := map[string]map[string]string{}
			for program := range ports {
				t.Run(program, func(t *testing.T) {
					spec := find(t, all, "Deployment", program).Spec.Template.Spec
					_, pass := testkit.User(t, program)
					fixed["redis"] = map[string]string{"password": pass} // the server's of this test
					env := mount(t, all, spec, t.TempDir(), external(t, authority), fixed)
					portsAreTrue(t, program, spec.Containers[0], env)
					p := start(t, program, spec.Containers[0], env, redis)
					probesAreTrue(t, spec.Containers[0], p)
					graceIsEnough(t, spec, p)
					if program == "gateway" {
						scaledByWhatExists(t, all, p)
					}
					p.Stop() // fails the test unless it ends well
				})
			}
		})
	}
}

func start(t *testing.T, program string, c container, env []string, redis string) *pods.Pod {
	t.Helper()
	args := append(c.Args, "--redis-url="+redis) // of the cluster, this is the one thing that is not here; and the ports are taken
	for _, setting := range ports[program] {
		args = append(args, "--"+strings.ReplaceAll(setting, ".", "-")+"=127.0.0.1:0")
	}
	return pods.Launch(t, program, pods.Program(t, program), args, env)
}

// portsAreTrue compares the container's ports with what the program would listen on.
func portsAreTrue(t *testing.T, program string, c container, env []string) {
	t.Helper()
	cmd := exec.Command(pods.Program(t, program), append([]string{"config", "print"}, c.Args...)...)
	cmd.Env = env
	var faults bytes.Buffer
	cmd.Stderr = &faults
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("config print: %v\n%s", err, &faults)
	}
	var says struct{ Listen map[string]string }
	if err := yaml.Unmarshal(text, &says); err != nil {
		t.Fatal(err)
	}
	if len(c.Ports) != len(ports[program]) {
		t.Errorf("%d ports, want %v", len(c.Ports), ports[program])
	}
	for _, p := range c.Ports {
		_, name, _ := strings.Cut(ports[program][p.Name], ".")
		if got, want := says.Listen[name], fmt.Sprintf(":%d", p.ContainerPort); got != want {
			t.Errorf("port %s: it listens on %q, the manifest says %q", p.Name, got, want)
		}
	}
}

func probesAreTrue(t *testing.T, c container, p *pods.Pod) {
	t.Helper()
	for name, probe := range map[string]probe{"startup": c.StartupProbe, "liveness": c.LivenessProbe, "readiness": c.ReadinessProbe} {
		if probe.HTTPGet.Port != "ops" {
			t.Errorf("%s probe asks port %q", name, probe.HTTPGet.Port)
		}
		url := "http://" + p.Addr("ops") + probe.HTTPGet.Path
		testkit.EventuallyNil(t, 30*time.Second, func() error {
			r, err := http.Get(url)
			if err != nil {
				return err
			}
			defer r.Body.Close()
			if r.StatusCode != http.StatusOK {
				return fmt.Errorf("%s answers %d", url, r.StatusCode)
			}
			return nil
		}, name+" probe")
	}
	http.DefaultClient.CloseIdleConnections()
}

var stopBudget = regexp.MustCompile(`"stop_budget":"([^"]+)"`)

// graceIsEnough compares the grace period with the pause before the signal and the budgets that the program says it has.
func graceIsEnough(t *testing.T, spec podSpec, p *pods.Pod) {
	t.Helper()
	found := stopBudget.FindStringSubmatch(p.Log())
	if found == nil {
		t.Fatal("it does not say its stop_budget")
	}
	budget, err := time.ParseDuration(found[1])
	if err != nil {
		t.Fatal(err)
	}
	grace := time.Duration(spec.TerminationGracePeriodSeconds) * time.Second
	pause := time.Duration(spec.Containers[0].Lifecycle.PreStop.Sleep.Seconds) * time.Second
	if grace <= pause+budget {
		t.Errorf("the grace period is %v, and %v before the signal with %v after it need more", grace, pause, budget)
	}
	if own := spec.Containers[0].Name == "gateway"; own != (pause == 0) {
		t.Errorf("a pause of %v before the signal: a gateway pauses by itself (drain.pause), a publisher does not", pause)
	}
}

// scaledByWhatExists asks the program for the metrics that the autoscalers go by.
func scaledByWhatExists(t *testing.T, all []object, p *pods.Pod) {
	t.Helper()
	r, err := http.Get("http://" + p.Addr("ops") + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	http.DefaultClient.CloseIdleConnections()
	for _, o := range all {
		for _, m := range o.Spec.Metrics {
			if name := m.Pods.Metric.Name; name != "" && !strings.Contains(string(text), "\n"+name+" ") {
				t.Errorf("autoscaler %s goes by %s, which is no metric of the gateway", o.Metadata.Name, name)
			}
		}
	}
}

// What the tests above look for must be there to be found: a manifest with another port, path, name or too short a grace is not true.
func TestAWrongManifestIsFound(t *testing.T) {
	all := build(t, "prod")
	spec := find(t, all, "Deployment", "gateway").Spec.Template.Spec
	env := mount(t, all, spec, t.TempDir(), external(t, testkit.NewAuthority(t)), nil)
	for i, e := range env {
		if strings.HasPrefix(e, "ALLIM_KEYS_FILE=") {
			env[i] = "ALLIM_KEY_FILE=" + filepath.Base(e)
		}
	}
	cmd := exec.Command(pods.Program(t, "gateway"), "config", "check")
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "environment ALLIM_KEY_FILE: unknown, did you mean ALLIM_KEYS_FILE?") {
		t.Errorf("a misspelt variable: %v\n%s", err, out)
	}
}
