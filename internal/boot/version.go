package boot

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Version and Commit are set by the linker: -X allim/internal/boot.Version=v1.2.3 -X allim/internal/boot.Commit=0123abc.
var (
	Version = "devel"
	Commit  = ""
)

// revision is the commit that this was built from, as far as anybody knows.
func revision() string {
	if Commit != "" {
		return Commit
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value[:min(12, len(s.Value))]
			}
		}
	}
	return "unknown"
}

// About is the one line of --version.
func About(program string) string {
	return fmt.Sprintf("%s %s (commit %s, %s, %s/%s)", program, cmp.Or(Version, "devel"), revision(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// Registry is the metrics of a program: its build, the Go runtime and the process are in it.
func Registry(program string) *prometheus.Registry {
	r := prometheus.NewRegistry()
	g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "allim", Name: "build_info", Help: "Always 1.",
		ConstLabels: prometheus.Labels{"version": Version, "commit": revision(), "go": runtime.Version(), "program": program}})
	g.Set(1)
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), g)
	return r
}
