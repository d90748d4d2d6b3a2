package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestWhatCanBeAppliedIsRight(t *testing.T) {
	for _, path := range kustomizations {
		objects, err := build(under(path))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range check(objects, path) {
			t.Errorf("%s: %s", path, m)
		}
		want := map[string][]string{
			"base":          {"Deployment/gateway", "Deployment/publisher", "Service/gateway", "Service/publisher", "PodDisruptionBudget/gateway", "NetworkPolicy/default-deny"},
			"overlays/dev":  {"Deployment/redis", "Service/redis"},
			"overlays/prod": {"HorizontalPodAutoscaler/gateway", "HorizontalPodAutoscaler/publisher", "HTTPRoute/gateway"},
		}[path]
		for _, name := range want {
			if !slices.ContainsFunc(objects, func(o object) bool { return o.String() == name }) {
				t.Errorf("%s: no %s", path, name)
			}
		}
	}
}

func TestProductionHasNoSecretAndNamedImages(t *testing.T) {
	objects, err := build(under("overlays/prod"))
	if err != nil {
		t.Fatal(err)
	}
	if secrets := objects.of("Secret"); len(secrets) > 0 {
		t.Errorf("secrets in the repository: %v", secrets)
	}
	image := regexp.MustCompile(`^[a-z0-9.-]+\.[a-z]+/[^:@]+(:v[0-9.]+|@sha256:[0-9a-f]{64})$`)
	for _, d := range objects.of("Deployment") {
		for _, c := range containers(d) {
			if got := text(c, "image"); !image.MatchString(got) {
				t.Errorf("%s: image %q has no registry and version", d, got)
			}
		}
	}
}

// The components are in no overlay of ours, so prod is built with them here.
func TestTheComponentsFitProduction(t *testing.T) {
	dir := copied(t)
	file := filepath.Join(dir, "overlays/prod/kustomization.yaml")
	was, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(was, "components: [../../components/gateway-tls, ../../components/escalate, ../../components/monitoring]\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	told(t, dir)
	objects, err := build(filepath.Dir(file))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range check(objects, "") {
		t.Error(m)
	}
	for _, kind := range []string{"BackendTLSPolicy", "PodMonitor", "PrometheusRule"} {
		if len(objects.of(kind)) != 1 {
			t.Errorf("no %s", kind)
		}
	}
	for _, m := range objects.of("PodMonitor") {
		for _, d := range (&house{all: objects}).selected(fields(m, "spec", "selector", "matchLabels")) {
			for _, e := range items(m, "spec", "podMetricsEndpoints") {
				if !slices.Contains(portNames(d), text(e, "port")) {
					t.Errorf("%s: %s has no port %s", m, d, text(e, "port"))
				}
			}
		}
	}
}

// told says in the settings of prod where publishers tell of what nobody looked at.
func told(t *testing.T, dir string) {
	t.Helper()
	file := filepath.Join(dir, "overlays/prod/allim.yaml")
	was, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(was, "webhooks_file: /etc/allim/keys/webhooks.yaml\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestWhoTellsSomebodyNeedsAWayThere(t *testing.T) {
	dir := copied(t)
	told(t, dir)
	objects, err := build(filepath.Join(dir, "overlays/prod"))
	if err != nil {
		t.Fatal(err)
	}
	if got := check(objects, ""); len(got) != 1 || !strings.Contains(got[0], "publisher: no network policy lets it out to port 443 (webhooks_file)") {
		t.Errorf("without the component: %v", got)
	}
}

// withRedis takes the # from the lines of prod that are for Redis of one kind, as its README says.
func withRedis(t *testing.T, dir, kind string) {
	t.Helper()
	for file, line := range map[string]string{"allim.yaml": "  # " + kind + ": {", "kustomization.yaml": "# components: [../../components/redis-" + kind + "]"} {
		file = filepath.Join(dir, "overlays/prod", file)
		was, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		now := strings.Replace(string(was), line, strings.Replace(line, "# ", "", 1), 1)
		if now == string(was) {
			t.Fatalf("%s has no line %q", file, line)
		}
		if err := os.WriteFile(file, []byte(now), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestProductionReachesSentinelsAndClusters(t *testing.T) {
	const keep = "10.0.0.0/8"
	for kind, port := range map[string]string{"sentinel": "26379", "cluster": "6379"} {
		dir := copied(t)
		withRedis(t, dir, kind)
		objects, err := build(filepath.Join(dir, "overlays/prod"))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range check(objects, "") {
			t.Errorf("%s: %s", kind, m)
		}
		i := slices.IndexFunc(objects, func(o object) bool { return o.String() == "NetworkPolicy/redis-"+kind })
		if i < 0 {
			t.Fatalf("no NetworkPolicy/redis-%s", kind)
		}
		for _, rule := range items(objects[i], "spec", "egress") {
			if got := at(items(rule, "ports")[0], "port"); len(items(rule, "to")) != 1 || text(items(rule, "to")[0], "ipBlock", "cidr") != keep || got != json.Number(port) {
				t.Errorf("%s lets out to %v, port %v; want %s alone, port %s", objects[i], items(rule, "to"), got, keep, port)
			}
		}
		for _, program := range []string{"gateway", "publisher"} {
			want := map[string]string{"sentinel": "allim-" + program}[kind]
			got := ""
			for _, d := range objects.of("Deployment") {
				for _, e := range items(containers(d)[0], "env") {
					if d.name() == program && text(e, "name") == "ALLIM_REDIS_SENTINEL_USERNAME" {
						got = text(e, "value")
					}
				}
			}
			if got != want {
				t.Errorf("%s: %s is %q at the Sentinels, want %q", kind, program, got, want)
			}
		}
	}
}

// A component without its settings, and settings without their component, are slips.
func TestHalfASwitchIsFound(t *testing.T) {
	for _, c := range []struct{ file, want string }{
		{"overlays/prod/kustomization.yaml", "Deployment/gateway: no network policy lets it out to port 26379 (redis.sentinel.addresses)"},
		{"overlays/prod/allim.yaml", "Deployment/publisher: a network policy lets it out to port 26379, which ConfigMap/allim-"},
	} {
		dir := copied(t)
		undone, err := os.ReadFile(filepath.Join(dir, c.file))
		if err != nil {
			t.Fatal(err)
		}
		withRedis(t, dir, "sentinel")
		if err := os.WriteFile(filepath.Join(dir, c.file), undone, 0o600); err != nil {
			t.Fatal(err)
		}
		objects, err := build(filepath.Join(dir, "overlays/prod"))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(check(objects, ""), "\n"); !strings.Contains(got, c.want) {
			t.Errorf("without %s: got %q, want it to say %q", c.file, got, c.want)
		}
	}
}

// copied is a copy of deploy/k8s, with what it refers to beside it.
func copied(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, part := range []string{"k8s", "redis"} {
		if err := os.CopyFS(filepath.Join(dir, part), os.DirFS(filepath.Join(root(), "..", part))); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "k8s")
}

// A newcomer must know which Secrets to make.
func TestTheReadmeNamesEverySecretThatProductionExpects(t *testing.T) {
	readme, err := os.ReadFile(under("README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for name, files := range external {
		for _, word := range append(files, name) {
			if !bytes.Contains(readme, []byte(word)) {
				t.Errorf("deploy/k8s/README.md says nothing of %s (%s)", word, name)
			}
		}
	}
}

// Each row is one slip of the hand in one file, and what must be said of it.
func TestASlipIsFound(t *testing.T) {
	const gateway, publisher, services = "base/gateway.yaml", "base/publisher.yaml", "base/services.yaml"
	for _, c := range []struct {
		name, of, file, old, new string
		want                     string
	}{
		// against the API
		{"a misspelt field of the pod", "base", gateway, "terminationGracePeriodSeconds:", "terminationGracePeriodSecond:", "Deployment/gateway: /spec/template/spec: additional properties 'terminationGracePeriodSecond' not allowed"},
		{"a misspelt probe", "base", publisher, "readinessProbe:", "readinesProbe:", "Deployment/publisher: /spec/template/spec/containers/0: additional properties 'readinesProbe' not allowed"},
		{"a field of another place", "base", gateway, "revisionHistoryLimit: 3", "runAsNonRoot: true", "Deployment/gateway: /spec: additional properties 'runAsNonRoot' not allowed"},
		{"a string where a number belongs", "base", gateway, "containerPort: 8080", `containerPort: "8080"`, "Deployment/gateway: /spec/template/spec/containers/0/ports/0/containerPort: got string, want integer"},
		{"a number where a string belongs", "base", gateway, "value: 870MiB", "value: 870", "Deployment/gateway: /spec/template/spec/containers/0/env/4/value: got number, want string"},
		{"a number too big", "base", gateway, "revisionHistoryLimit: 3", "revisionHistoryLimit: 3000000000", "Deployment/gateway: /spec/revisionHistoryLimit: maximum: got 3"},
		{"a missing field", "base", gateway, "  selector: { matchLabels: *labels }\n", "", "Deployment/gateway: /spec: missing property 'selector'"},
		{"a word that is none", "base", "base/disruption.yaml", "unhealthyPodEvictionPolicy: AlwaysAllow", "unhealthyPodEvictionPolicy: Always", "PodDisruptionBudget/gateway: /spec/unhealthyPodEvictionPolicy: value must be one of"},
		{"another word that is none", "base", gateway, "type: RuntimeDefault", "type: Runtime", "Deployment/gateway: /spec/template/spec/securityContext/seccompProfile/type: value must be one of"},
		{"a protocol that is none", "base", "base/network.yaml", "protocol: UDP", "protocol: DNS", "NetworkPolicy/egress: /spec/egress/0/ports/0/protocol: value must be one of"},
		{"a kind of target that is none", "overlays/prod", "overlays/prod/scale.yaml", "type: AverageValue", "type: Average", "HorizontalPodAutoscaler/gateway: /spec/metrics/0/pods/target/type: value must be one of"},
		{"an amount that is none", "base", gateway, "memory: 1Gi }\n            limits", "memory: 1GB }\n            limits", "Deployment/gateway: /spec/template/spec/containers/0/resources/requests/memory: '1GB' does not match pattern"},
		{"an unknown field of the autoscaler", "overlays/prod", "overlays/prod/scale.yaml", "stabilizationWindowSeconds: 600", "stabilisationWindowSeconds: 600", "HorizontalPodAutoscaler/gateway: /spec/behavior/scaleDown: additional properties 'stabilisationWindowSeconds' not allowed"},
		{"an unknown field of the route", "overlays/prod", "overlays/prod/route.yaml", "backendRequest: 0s", "backend: 0s", "HTTPRoute/gateway: /spec/rules/0/timeouts: additional properties 'backend' not allowed"},
		{"a duration of the route", "overlays/prod", "overlays/prod/route.yaml", "backendRequest: 0s", "backendRequest: never", "HTTPRoute/gateway: /spec/rules/0/timeouts/backendRequest: 'never' does not match pattern"},
		{"an unknown kind", "base", "base/disruption.yaml", "apiVersion: policy/v1\n", "apiVersion: policy/v1beta1\n", "no schema for policy/v1beta1 PodDisruptionBudget"},
		// against each other
		{"a service that finds nobody", "base", services, "labels: &gateway { app.kubernetes.io/name: allim, app.kubernetes.io/component: gateway }", "labels: &gateway { app.kubernetes.io/component: gate }", "Service/gateway: selects 0 Deployments"},
		{"a service's port that leads nowhere", "base", services, "targetPort: grpc", "targetPort: rpc", `Service/publisher: port "grpc" leads to "rpc"`},
		{"operations for everybody", "base", services, "targetPort: public", "targetPort: ops", `Service/gateway: port "public" leads to the operations port`},
		{"a probe of a port nobody named", "base", gateway, "startupProbe: # the process answers at once, with or without Redis\n            httpGet: { port: ops", "startupProbe:\n            httpGet: { port: opps", `Deployment/gateway: startupProbe asks port "opps"`},
		{"a liveness that asks for Redis", "base", publisher, "livenessProbe:\n            httpGet: { port: ops, path: /healthz/live", "livenessProbe:\n            httpGet: { port: ops, path: /healthz/ready", "Deployment/publisher: livenessProbe asks /healthz/ready, want /healthz/live"},
		{"a path that is none", "base", publisher, "path: /healthz/ready", "path: /healthz/redy", "Deployment/publisher: readinessProbe asks /healthz/redy"},
		{"a pod that is killed too early", "base", publisher, "terminationGracePeriodSeconds: 60", "terminationGracePeriodSeconds: 37", "Deployment/publisher: grace period of 37 s"},
		{"a gateway that is killed while it drains", "base", gateway, "terminationGracePeriodSeconds: 45", "terminationGracePeriodSeconds: 44", "Deployment/gateway: grace period of 44 s"},
		{"two pauses before the end", "base", gateway, "          # No preStop", "          lifecycle: { preStop: { sleep: { seconds: 1 } } }\n          # No preStop", "Deployment/gateway: grace period of 45 s"},
		{"no sleep before the end", "base", publisher, "          lifecycle:\n            preStop: { sleep: { seconds: 5 } } # callers", "          # callers", "Deployment/publisher: grace period"},
		{"a sleep that is too long", "base", publisher, "sleep: { seconds: 5 }", "sleep: { seconds: 27 }", "Deployment/publisher: grace period of 60 s"},
		{"Go without a bound", "base", gateway, "value: 870MiB", "value: 1024MiB", "Deployment/gateway: GOMEMLIMIT is 100 %"},
		{"a limit of CPU", "base", gateway, "limits: { memory: 1Gi }", "limits: { memory: 1Gi, cpu: 1 }", "want requests, a limit of memory, none of CPU"},
		{"a token of the cluster", "base", gateway, "automountServiceAccountToken: false", "automountServiceAccountToken: true", "automountServiceAccountToken is not false"},
		{"service links", "base", publisher, "enableServiceLinks: false", "enableServiceLinks: true", "enableServiceLinks is not false"},
		{"a root that can be written", "base", publisher, "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "readOnlyRootFilesystem is false, want true"},
		{"root", "base", gateway, "runAsNonRoot: true", "runAsNonRoot: false", "runAsNonRoot is false, want true"},
		{"rights of the kernel", "base", gateway, "drop: [ALL]", "drop: [ALL], add: [NET_ADMIN]", "capabilities are not dropped"},
		{"no seccomp", "base", gateway, "seccompProfile: { type: RuntimeDefault }", "seccompProfile: { type: Unconfined }", "seccompProfile.type is Unconfined"},
		{"a mount of nothing", "base", gateway, "- { name: keys, mountPath", "- { name: kees, mountPath", `mounts "kees", which is no volume`},
		{"a volume for nothing", "base", gateway, "            - { name: redis, mountPath: /run/secrets/allim/redis, readOnly: true }\n", "", `volume "redis" is mounted nowhere`},
		{"a mount in a mount", "base", gateway, "mountPath: /run/secrets/allim/keys", "mountPath: /etc/allim/keys", "/etc/allim/keys is mounted inside of /etc/allim"},
		{"a file by itself", "base", gateway, "mountPath: /run/secrets/allim/keys, ", "mountPath: /run/secrets/allim/keys, subPath: x, ", "is mounted by subPath"},
		{"a Secret nobody makes", "base", gateway, "secretName: allim-keys", "secretName: allim-kees", "there is no Secret/allim-kees"},
		{"a Secret that dev does not make", "overlays/dev", "overlays/dev/kustomization.yaml", "- name: allim-api-keys", "- name: allim-apikeys", "there is no Secret/allim-api-keys"},
		{"a file that is not in the Secret", "base", gateway, "keys/keys.yaml", "keys/keys.yml", "ALLIM_KEYS_FILE: keys.yml is not among the files [keys.yaml]"},
		{"a file that is nowhere", "base", publisher, "/run/secrets/allim/api-keys/api_keys.yaml", "/run/secrets/allim/api_keys.yaml", "ALLIM_API_KEYS_FILE: nothing is mounted at /run/secrets/allim"},
		{"a settings file of another name", "base", gateway, "/etc/allim/allim.yaml", "/etc/allim/settings.yaml", "ALLIM_CONFIG: settings.yaml is not among the files [allim.yaml]"},
		{"a password for all to see", "base", gateway, "name: ALLIM_REDIS_PASSWORD_FILE, value: /run/secrets/allim/redis/password", "name: ALLIM_REDIS_PASSWORD, value: hunter2", "ALLIM_REDIS_PASSWORD is a secret in the environment"},
		{"a budget that protects nobody", "base", "base/disruption.yaml", "component: publisher", "component: publishers", "PodDisruptionBudget/publisher: selects 0 Deployments"},
		{"a policy for nobody", "base", "base/network.yaml", "podSelector: { matchLabels: { app.kubernetes.io/name: allim, app.kubernetes.io/component: gateway } }", "podSelector: { matchLabels: { app: gateway } }", "NetworkPolicy/gateway: selects no pods"},
		{"no way to Redis", "base", "base/network.yaml", "port: 6379", "port: 6380", "Deployment/gateway: no network policy lets it out to port 6379 (redis.url)"},
		{"a way to everywhere", "base", "base/network.yaml", "    - ports: [{ port: 6379 }] # Redis", "    - to: [{ ipBlock: { cidr: 0.0.0.0/0 } }]\n    - ports: [{ port: 6379 }] # Redis", "NetworkPolicy/egress: lets out to every port"},
		{"a Redis without a port", "overlays/prod", "overlays/prod/allim.yaml", "internal:6379/0", "internal/0", "redis.url: want host and port"},
		{"a policy for a port that is not there", "base", "base/network.yaml", "{ port: grpc }", "{ port: rpc }", `NetworkPolicy/publisher: lets in to port "rpc"`},
		{"spread by other pods", "base", gateway, "labelSelector: { matchLabels: *labels }", "labelSelector: { matchLabels: { app: gateway } }", "counts other pods"},
		{"an autoscaler of nothing", "overlays/prod", "overlays/prod/scale.yaml", "kind: Deployment, name: gateway", "kind: Deployment, name: gateways", "scales Deployment/gateways, which is not there"},
		{"replicas that fight the autoscaler", "overlays/prod", gateway, "revisionHistoryLimit: 3", "replicas: 2", "says replicas"},
		{"one pod is no service", "overlays/prod", "overlays/prod/scale.yaml", "minReplicas: 3", "minReplicas: 1", "HorizontalPodAutoscaler/gateway: 1 to 30 pods"},
		{"a route to nowhere", "overlays/prod", "overlays/prod/route.yaml", "port: 8080", "port: 80", "leads to gateway:80, which no Service has"},
		{"a route that cuts", "overlays/prod", "overlays/prod/route.yaml", "{ request: 0s", "{ request: 30s", `timeout request is "30s"`},
		{"a namespace that lets root in", "base", "base/namespace.yaml", "enforce: restricted", "enforce: privileged", `pod security is "privileged"`},
		{"an object elsewhere", "overlays/dev", "overlays/dev/kustomization.yaml", "namespace: allim-dev\n", "", "is in namespace"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := copied(t)
			file := filepath.Join(dir, c.file)
			was, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			slipped := strings.Replace(string(was), c.old, c.new, 1)
			if slipped == string(was) {
				t.Fatalf("%s has no %q any more", c.file, c.old)
			}
			if err := os.WriteFile(file, []byte(slipped), 0o600); err != nil {
				t.Fatal(err)
			}
			objects, err := build(filepath.Join(dir, c.of))
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(check(objects, c.of), "\n"); got == "" || !strings.Contains(got, c.want) {
				t.Errorf("got %q, want it to say %q", got, c.want)
			}
		})
	}
}

func TestBuildPrintsWhatKubectlWouldApply(t *testing.T) {
	var out bytes.Buffer
	if err := run([]string{"build", "overlays/prod"}, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"kind: Deployment\n", "terminationGracePeriodSeconds: 45\n", "image: registry.example.com/allim-gateway:v", "\n---\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("nothing of %q", want)
		}
	}
	out.Reset()
	if err := run([]string{"check"}, &out); err != nil || strings.Count(out.String(), ", 0 mistakes\n") != len(kustomizations) {
		t.Errorf("check: %v, %s", err, out.String())
	}
	for _, args := range [][]string{nil, {"build"}, {"build", "overlays/none"}, {"chekc"}} {
		if run(args, &out) == nil {
			t.Errorf("%q: no error", args)
		}
	}
}
