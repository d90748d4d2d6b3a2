// Package archtest is the table of doors: who may import whom. Its tests fail on
// an import that no row allows and on a room that no row names, and hold the
// house rules that no general linter knows: file length, no bare sleep in a test,
// a leak check in every room that could leak.
//
// A new room or door is a change of this table in the same commit, with its
// reason in the message.
package archtest

// A room is one package of ours, by its path under the module.
type room struct {
	path string
	// ours are the rooms that its production code may import. Every room may
	// import pkg/notify, the nouns, unless it is marked standalone.
	ours []string
	// outside are the modules it may use; a name covers what is below it.
	outside []string
	// never are packages of the standard library that it must not import.
	never []string
	// tests are rooms and modules that its tests may use beyond what inTests
	// and the rooms it reaches allow.
	tests      []string
	standalone bool
}

const (
	module = "allim"
	nouns  = "pkg/notify"
	protos = "proto/allim/v1"

	coderWS    = "github.com/coder/websocket"
	goRedis    = "github.com/redis/go-redis/v9"
	goJWT      = "github.com/golang-jwt/jwt/v5"
	grpc       = "google.golang.org/grpc"
	protobuf   = "google.golang.org/protobuf"
	rpcErrors  = "google.golang.org/genproto/googleapis/rpc" // error details, and the type of a field of ours
	prometheus = "github.com/prometheus"
	rate       = "golang.org/x/time/rate"
	xsync      = "golang.org/x/sync"
	xsys       = "golang.org/x/sys"
	xxhash     = "github.com/cespare/xxhash/v2"
	miniredis  = "github.com/alicebob/miniredis/v2"
	goleak     = "go.uber.org/goleak"
	kong       = "github.com/alecthomas/kong"
	yaml       = "go.yaml.in/yaml/v3"
)

// inTests is open to the tests of every room. Each may also import any room that
// it reaches through the doors of its production code.
var inTests = []string{
	"internal/testkit", "internal/embedded",
	goRedis, "github.com/google/go-cmp", "pgregory.net/rapid",
}

// The two banks of the river. Neither may be linked into the other's program.
var (
	writingBank = []string{"pkg/auth", "internal/keyspace", "internal/store", "internal/publish", "internal/due", "internal/webhook", "internal/webpush", "internal/presence", protos}

	deliveryBank = []string{"pkg/auth", "internal/keyspace", "internal/store", "internal/presence", "pkg/fanout", "internal/wire",
		"internal/session", "internal/transport/ws", "internal/transport/rest", "internal/gateway", "client"}

	process = []string{"internal/lifecycle", "internal/settings", "internal/boot", "internal/ops", "internal/certs"} // what every program is made of
)

var rooms = []room{
	// What others may import, and what we promise them.
	{path: nouns, standalone: true},
	{path: protos, outside: []string{grpc, protobuf, rpcErrors}, standalone: true},
	{path: "client", standalone: true},
	{path: "pkg/auth", outside: []string{goJWT}},
	{path: "pkg/fanout", ours: []string{"internal/keyspace"}, outside: []string{goRedis, prometheus, xsync, xxhash},
		tests: []string{"internal/store", protos}}, // its history, in the tests where the two meet

	// The ground: Redis and its map.
	{path: "internal/keyspace", ours: []string{protos}, outside: []string{protobuf, xxhash}},
	{path: "internal/tcp", outside: []string{xsys}, standalone: true},
	{path: "internal/audience"}, // segments without I/O: who has seen what, and how many
	{path: "internal/store", ours: []string{"internal/keyspace", "internal/audience", "internal/tcp"}, outside: []string{goRedis, prometheus, xsync}},

	{path: "internal/presence", ours: []string{"internal/store"}, outside: []string{prometheus}}, // of both banks: who is told of, and who is told to be gone

	// The writing bank.
	{path: "internal/publish", ours: []string{"pkg/auth", "internal/store", protos},
		outside: []string{grpc, protobuf, rpcErrors, prometheus, rate}},
	{path: "internal/due", ours: []string{"internal/store", "internal/webhook", "internal/webpush"}, outside: []string{prometheus}},
	{path: "internal/webhook"},
	{path: "internal/webpush", tests: []string{goJWT}},

	// The delivery bank.
	{path: "internal/wire", never: []string{"net"}},
	{path: "internal/session", ours: []string{"pkg/auth", "pkg/fanout", "internal/store", "internal/audience", "internal/wire"},
		outside: []string{prometheus, rate}, never: []string{"net/http"}},
	{path: "internal/transport/ws", ours: []string{"pkg/auth", "pkg/fanout", "internal/session", "internal/wire"}, // fanout: Delivery alone
		outside: []string{coderWS, xsys, prometheus, rate}},
	{path: "internal/transport/rest", ours: []string{"pkg/auth", "internal/session", "internal/wire"}},
	{path: "internal/gateway", ours: []string{"pkg/auth", "internal/session", "internal/transport/ws", "internal/transport/rest", "internal/wire", "internal/tcp", "client"}, // wire: a refusal's body is a frame
		outside: []string{rate}, tests: []string{coderWS, prometheus}},

	{path: "internal/deliver", ours: join(deliveryBank, process), // the bank put together, for gateway and demo
		outside: []string{goRedis, prometheus}, tests: []string{coderWS}},

	// What every program is made of.
	{path: "internal/boot", ours: []string{"pkg/auth", "internal/keyspace", "internal/store", "internal/settings", "internal/certs", "internal/webhook", "internal/webpush"}, outside: []string{goRedis, prometheus}}, // goRedis: its logger
	{path: "internal/certs", outside: []string{prometheus}, standalone: true},
	{path: "internal/ops", outside: []string{prometheus}, standalone: true},
	{path: "internal/lifecycle", standalone: true},
	{path: "internal/settings", outside: []string{kong, yaml}, standalone: true},
	{path: "internal/embedded", outside: []string{miniredis}, standalone: true},
	{path: "internal/testkit", outside: []string{goRedis, goleak, prometheus}, standalone: true},
	{path: "internal/archtest", standalone: true},

	// The programs.
	{path: "cmd/gateway", ours: join(deliveryBank, process, []string{"internal/deliver"}), outside: []string{goRedis, prometheus, kong, xsys},
		tests: []string{coderWS}},
	{path: "cmd/publisher", ours: join(writingBank, process), outside: []string{goRedis, grpc, protobuf, prometheus, kong, xsys}},
	{path: "cmd/allim", ours: join(writingBank, deliveryBank, process, []string{"internal/deliver", "internal/embedded", "examples/inbox"}),
		outside: []string{goRedis, grpc, protobuf, prometheus, kong, goJWT, xsys}, tests: []string{coderWS}},

	// Strangers: they see what is public.
	{path: "examples/inbox", ours: []string{"pkg/auth", "client", protos}, outside: []string{grpc, protobuf, rpcErrors}},
	{path: "examples/inbox/cmd", ours: []string{"pkg/auth", "client", "examples/inbox", protos}, outside: []string{grpc, protobuf, rpcErrors}},
	{path: "examples/backend", ours: []string{protos}, outside: []string{grpc, protobuf, rpcErrors}},
	{path: "test/pods", ours: []string{"pkg/auth", "internal/wire", "internal/testkit", protos},
		outside: []string{coderWS, grpc, protobuf, rpcErrors, goRedis, goJWT}},
	{path: "test/programs", ours: []string{"pkg/auth", "internal/testkit", "test/pods", protos}, outside: []string{grpc, protobuf, goRedis, yaml}},
	{path: "test/manifests", ours: []string{"internal/testkit", "test/pods"}, outside: []string{yaml}},
	{path: "test/load", ours: []string{"pkg/auth", protos}, outside: []string{grpc, goRedis, xsys}},
	{path: "test/load/naive", outside: []string{coderWS, goRedis, goJWT}, standalone: true}, // the baseline, of others' libraries alone
	{path: "test/fault", ours: []string{"internal/testkit", "test/pods", protos}, outside: []string{grpc, goRedis}},
	{path: "test/e2e", ours: []string{"pkg/auth", "internal/wire", "internal/testkit", "test/pods", protos},
		outside: []string{coderWS, grpc, protobuf, rpcErrors, goRedis, goJWT}},
}

// withoutLeakCheck are packages that start goroutines or open descriptors and
// have no test that could find a leak, each with the reason.
var withoutLeakCheck = map[string]string{
	"examples/backend":   "a program of forty lines to read; what it opens ends with it",
	"test/load/naive":    "the baseline, a program of the tests of test/load; what it opens ends with it",
	"examples/inbox/cmd": "a main of a few lines around examples/inbox, which is tested",
}

func join(lists ...[]string) (all []string) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}
