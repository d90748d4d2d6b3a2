package boot

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"allim/internal/keyspace"
	"allim/internal/settings"
	"allim/internal/testkit"
)

func TestTheSettingsReachSentinelsAndClusters(t *testing.T) {
	watched, cluster := testkit.Sentinel(t, testkit.SentinelOptions{}), testkit.Cluster(t, 3, 0)
	name, pass := testkit.User(t, "publisher")
	dir := t.TempDir()
	password := filepath.Join(dir, "password")
	for path, text := range map[string]string{password: pass, filepath.Join(dir, "name"): name} {
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for what, c := range map[string]struct {
		args []string
		at   *testkit.RedisServer // has the schema then
	}{
		"Sentinels": {[]string{"--redis-sentinel-master=" + testkit.WatchedName, "--redis-sentinel-addresses=" + strings.Join(watched.Addresses(), ","),
			"--redis-sentinel-username-file=" + filepath.Join(dir, "name"), "--redis-sentinel-password-file=" + password}, watched.Primary()},
		"Sentinels by name": {[]string{"--redis-sentinel-master=" + testkit.WatchedName, "--redis-sentinel-addresses=" + strings.Join(watched.Addresses(), ","),
			"--redis-sentinel-username=" + name, "--redis-sentinel-password=" + pass}, watched.Primary()},
		"a cluster": {[]string{"--redis-cluster-addresses=" + strings.Join(cluster.Addresses(), ",")}, cluster.Owner(int(keyspace.Slot(keyspace.SchemaKey)))},
	} {
		t.Run(what, func(t *testing.T) {
			args := append(c.args, "--redis-url=redis://nobody-dials-this", "--redis-username="+name, "--redis-password-file="+password, "--redis-fsync=always")
			l, err := settings.Load(settings.Publisher, args, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := Reachable(l.Redis); err != nil {
				t.Fatal(err)
			}
			keys, err := keyspace.NewMap(0)
			if err != nil {
				t.Fatal(err)
			}
			rdb, st, err := Store(l, keys, nil, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			defer rdb.Close()
			ctx := testkit.Context(t, 20*time.Second)
			if err := st.OpenWriter(ctx); err != nil {
				t.Fatal(err)
			}
			if n := c.at.Client().Exists(ctx, keyspace.SchemaKey).Val(); n != 1 {
				t.Errorf("%s has no schema", c.at.Addr)
			}
		})
	}
}
