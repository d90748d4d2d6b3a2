package programs

import (
	"strings"
	"testing"
)

const (
	goodSecret = `"7f3d1c9be05a4f2886d1b3a9c4e7f205"`
	goodKeys   = "keys: [{algorithm: HS256, secret: " + goodSecret + "}]\n"
	goodAPI    = "api_keys: [{id: a, key: " + goodSecret + "}]\n"
	goodURL    = "public_url: https://push.example.com\n"
	good       = goodURL + goodKeys + goodAPI // four lines
)

// A wrong setting, and all that is said about it.
type wrong struct {
	name    string
	program string // "": both say the same
	yaml    string // allim.yaml, when there is any
	args    []string
	env     []string
	files   map[string]string
	want    string // lines without the program's name
}

var wrongs = []wrong{
	// Names.
	{name: "an unknown name in the file", yaml: good + "redsi: x\n", want: "allim.yaml:4: redsi: unknown, did you mean redis?"},
	{name: "an unknown nested name", yaml: good + "redis:\n  ulr: x\n", want: "allim.yaml:5: redis.ulr: unknown, did you mean url?"},
	{name: "an unknown name in an element", yaml: good + "topics:\n  - {prefix: a/, histroy: 5}\n", want: "allim.yaml:5: topics[0].histroy: unknown, did you mean history?"},
	{name: "a name like no other", yaml: good + "zzz: 1\n", want: "allim.yaml:4: zzz: unknown"},
	{name: "a name given twice", yaml: good + "mode: production\nmode: production\n", want: "allim.yaml:5: mode: given twice"},
	{name: "an unknown flag", yaml: good, args: []string{"--redis-ulr=x"}, want: "flag --redis-ulr: unknown, did you mean --redis-url?"},
	{name: "two unknown flags", yaml: good, args: []string{"--foo", "x", "--bar=y"}, want: "2 mistakes in the settings:\n  flag --foo: unknown\n  flag --bar: unknown"},
	{name: "a flag of the other program", program: "gateway", yaml: good, args: []string{"--listen-grpc=:1"}, want: "flag --listen-grpc: unknown, did you mean --listen-ops?"},
	{name: "an unknown command", yaml: good, args: []string{"confg"}, want: "command line: unexpected argument confg, did you mean \"config\"?"},
	{name: "a flag without its value", yaml: good, args: []string{"--redis-url"}, want: "command line: --redis-url: missing value, expecting \"<arg>\""},
	{name: "an unknown variable", yaml: good, env: []string{"ALLIM_REDIS_ULR=x"}, want: "environment ALLIM_REDIS_ULR: unknown, did you mean ALLIM_REDIS_URL?"},
	{name: "a port of Redis, which is no setting", yaml: good, env: []string{"ALLIM_REDIS_PORT=1", "ALLIM_PORT=tcp://10.0.0.1:80"}, want: "environment ALLIM_REDIS_PORT: unknown, did you mean ALLIM_REDIS_URL?"},
	{name: "a secret that became a name", yaml: good + "redis:\n  password:hunter2: x\n", want: "allim.yaml:5: redis.password…: unknown"},

	// The file itself.
	{name: "no such file", args: []string{"--config=gone.yaml"}, want: "flag --config: gone.yaml: no such file or directory"},
	{name: "a bad URL beside files that are not there", yaml: good + "redis: {url: 7, password_file: p, ca_file: c}\n", want: "3 mistakes in the settings:\n" +
		"  allim.yaml:4: redis.url: expected a URL such as redis://host:6379/0 (its scheme is none of redis, rediss and unix)\n" +
		"  allim.yaml:4: redis.password_file: expected a file with one line (open p: no such file or directory)\n" +
		"  allim.yaml:4: redis.ca_file: expected a file with certificates (open c: no such file or directory)"},
	{name: "no YAML", yaml: "keys: [\n", want: "allim.yaml:1: did not find expected node content"},
	{name: "two documents", yaml: good + "---\nmode: production\n", want: "allim.yaml: expected one YAML document"},
	{name: "a list instead of names", yaml: "- a\n", want: "allim.yaml:1: expected names with values, not a list"},
	{name: "a value instead of a section", yaml: good + "redis: redis://h\n", want: "allim.yaml:4: redis: expected names with values, not a single value"},
	{name: "a section instead of a value", yaml: good + "mode: {a: b}\n", want: "allim.yaml:4: mode: expected production or development, not names with values"},
	{name: "a value instead of a list", yaml: good + "topics: feeds/\n", want: "allim.yaml:4: topics: expected a list, not a single value"},
	{name: "a secret that begins with a star", yaml: good + "redis: {password: *hunter2}\n", want: "allim.yaml: a value begins with * and is not quoted"},
	{name: "a settings file that is none", args: []string{"--config=/dev/null"}, want: "flag --config: /dev/null: expected a regular file"},
	{name: "nothing where a value belongs", yaml: good + "audience:\n", want: "allim.yaml:4: audience: expected text, not nothing"},

	// Values, from every place.
	{name: "a mode", yaml: good + "mode: prod\n", want: `allim.yaml:4: mode: expected production or development, not "prod"`},
	{name: "both modes", yaml: good + "mode: production,development\n", want: `allim.yaml:4: mode: expected production or development, not "production,development"`},
	{name: "a level by flag", yaml: good, args: []string{"--log-level=loud"}, want: `flag --log-level: log.level: expected debug, info, warn or error, not "loud"`},
	{name: "a number", yaml: good + "redis: {partitions: many}\n", want: `allim.yaml:4: redis.partitions: expected a whole number, from 1 to 1024, not "many"`},
	{name: "a number out of bounds, by the environment", yaml: good, env: []string{"ALLIM_REDIS_PARTITIONS=5000"},
		want: `environment ALLIM_REDIS_PARTITIONS: redis.partitions: expected a whole number, from 1 to 1024, not "5000"`},
	{name: "a duration without unit", yaml: good + "reload: {interval: 5}\n", want: `allim.yaml:4: reload.interval: expected a duration such as 5s, 10m, 36h or 90d, from 1s to 1d, not "5"`},
	{name: "a negative duration", yaml: good + "inbox: {retention: -1h}\n", want: `allim.yaml:4: inbox.retention: expected a duration such as 5s, 10m, 36h or 90d, from 1h to 3650d, not "-1h"`},
	{name: "a size with a unit of disks", yaml: good + "limits: {data: 64KB}\n", want: `allim.yaml:4: limits.data: expected a size such as 512, 64KiB or 4MiB, from 1KiB to 1MiB, not "64KB"`},
	{name: "a size out of bounds", yaml: good, program: "publisher", args: []string{"--limits-data=2MiB"}, want: `flag --limits-data: limits.data: expected a size such as 512, 64KiB or 4MiB, from 1KiB to 1MiB, not "2MiB"`},
	{name: "neither true nor false", yaml: good + "reflection: yes\n", want: `allim.yaml:4: reflection: expected true or false, not "yes"`},
	{name: "no YAML in a variable", yaml: good, env: []string{"ALLIM_TOPICS=[{"}, want: "environment ALLIM_TOPICS: topics: line 1: did not find expected node content"},
	{name: "an unknown name in a variable's YAML", yaml: good, env: []string{"ALLIM_TOPICS=[{prefix: a/, tll: 5m}]"}, want: "environment ALLIM_TOPICS: topics[0].tll: unknown, did you mean ttl?"},

	// Redis.
	{name: "no URL of Redis", yaml: good + "redis: {url: 'cache:6379'}\n", want: "allim.yaml:4: redis.url: expected a URL such as redis://host:6379/0 (its scheme is none of redis, rediss and unix)"},
	{name: "a certificate for a Redis without TLS", yaml: good + "redis: {ca_file: ca.pem}\n", files: map[string]string{"ca.pem": "x"}, want: "allim.yaml:4: redis.ca_file: expected nothing, since redis.url is not rediss:// and there is no TLS"},
	{name: "a password file that is not there", yaml: good + "redis: {password_file: gone}\n", want: "allim.yaml:4: redis.password_file: expected a file with one line (open gone: no such file or directory)"},
	{name: "a password beside its file, in one place", yaml: good, env: []string{"ALLIM_REDIS_PASSWORD=x", "ALLIM_REDIS_PASSWORD_FILE=p"}, files: map[string]string{"p": "x"},
		want: "environment ALLIM_REDIS_PASSWORD_FILE: redis.password_file: expected nothing, since redis.password is set"},
	{name: "Sentinels and a cluster", yaml: good + "redis: {sentinel: {master: allim, addresses: ['h:1']}, cluster: {addresses: ['h:2']}}\n",
		want: "allim.yaml:4: redis.cluster.addresses: expected nothing, since redis.sentinel.master is set: a cluster has no Sentinels"},
	{name: "Sentinels of nobody", yaml: good + "redis: {sentinel: {addresses: ['h:1']}}\n",
		want: "allim.yaml:4: redis.sentinel.master: expected what the Sentinels call the primary, since other settings of redis.sentinel are set"},
	{name: "a Sentinel without a port", yaml: good + "redis: {sentinel: {master: allim, addresses: ['h:1', h]}}\n", want: "allim.yaml:4: redis.sentinel.addresses[1]: expected host:port"},
	{name: "no Sentinel", yaml: good + "redis: {sentinel: {master: allim}}\n", want: "allim.yaml:4: redis.sentinel.addresses: expected host:port of one Sentinel or more"},
	{name: "a Sentinel's password twice", yaml: good + "redis: {sentinel: {master: allim, addresses: ['h:1'], password: hunter2, password_file: p}}\n", files: map[string]string{"p": "x"},
		want: "allim.yaml:4: redis.sentinel.password_file: expected nothing, since redis.sentinel.password is set"},
	{name: "a password file of the Sentinels that is not there", yaml: good + "redis: {sentinel: {master: allim, addresses: ['h:1'], password_file: gone}}\n",
		want: "allim.yaml:4: redis.sentinel.password_file: expected a file with one line (open gone: no such file or directory)"},
	{name: "a cluster behind a socket", yaml: good + "redis: {url: 'unix:///run/redis', cluster: {addresses: ['h:1']}}\n",
		want: "allim.yaml:4: redis.url: expected redis:// or rediss://, since redis.sentinel or redis.cluster says where Redis is"},
	{name: "a cluster with databases", yaml: good + "redis: {url: 'redis://h/3', cluster: {addresses: ['h:1']}}\n", want: "allim.yaml:4: redis.url: expected database 0: a cluster has no other"},
	{name: "a node as a URL", yaml: good + "redis: {cluster: {addresses: ['redis://me:hunter2@h:1']}}\n", want: "allim.yaml:4: redis.cluster.addresses[0]: expected host:port"},
	{name: "another fsync", yaml: good + "redis: {fsync: no}\n", want: `allim.yaml:4: redis.fsync: expected everysec or always, not "no"`},
	{name: "a password with a slash", yaml: good + "redis: {url: 'redis://me:12/hunter2@h/0'}\n", want: "allim.yaml:4: redis.url: expected a URL such as redis://host:6379/0 (what follows the host is no database number)"},
	{name: "a password with a question mark", yaml: good + "redis: {url: 'redis://me:12?hunter2@h/0'}\n", want: "allim.yaml:4: redis.url: expected no parameter of another form, but any of db, client_name, pool_size, pool_timeout, min_idle_conns, max_idle_conns, max_active_conns, conn_max_idle_time, conn_max_lifetime, conn_max_lifetime_jitter"},
	{name: "a password behind the host", yaml: good + "redis: {url: 'redis://h/hunter2'}\n", want: "allim.yaml:4: redis.url: expected a URL such as redis://host:6379/0 (what follows the host is no database number)"},

	// What browsers see.
	{name: "no address in production", program: "gateway", yaml: goodKeys,
		want: "public_url: expected the gateway's address as browsers see it, such as https://push.example.com (or mode: development on a machine of your own)"},
	{name: "a plain address in production", program: "gateway", yaml: goodKeys + "public_url: http://push.example.com\n", want: "allim.yaml:2: public_url: expected https in production (or mode: development)"},
	{name: "an address that is none", program: "gateway", yaml: goodKeys + "public_url: push.example.com\n",
		want: `allim.yaml:2: public_url: expected the gateway's address as browsers see it, such as https://push.example.com`},
	{name: "an address with a password", program: "gateway", yaml: goodKeys + "public_url: https://me:hunter2@push.example.com\n", want: `allim.yaml:2: public_url: expected the gateway's address as browsers see it, such as https://push.example.com`},
	{name: "an address for many", program: "gateway", yaml: goodKeys + "public_url: https://*.example.com\n", want: `allim.yaml:2: public_url: expected the gateway's address as browsers see it, such as https://push.example.com`},
	{name: "an address that only looks like loopback", program: "gateway", yaml: goodKeys + "public_url: http://127.evil.example.com\n", want: "allim.yaml:2: public_url: expected https in production (or mode: development)"},
	{name: "an origin that only looks like loopback", program: "gateway", yaml: good + "origins: ['http://127.0.0.1', 'http://127.evil.example.com']\n", want: "allim.yaml:4: origins[1]: expected https in production (or mode: development)"},
	{name: "an origin with the port that browsers leave out", program: "gateway", yaml: good + "origins: ['https://app.example.com:443']\n", want: "allim.yaml:4: origins[0]: expected an exact origin such as https://app.example.com"},
	{name: "a plain origin in production", program: "gateway", yaml: good + "origins: ['http://app.example.com']\n", want: "allim.yaml:4: origins[0]: expected https in production (or mode: development)"},
	{name: "every origin", program: "gateway", yaml: good + "origins: [\"*\"]\n", want: "allim.yaml:4: origins[0]: expected an exact origin such as https://app.example.com"},
	{name: "a host with a port", program: "gateway", yaml: good + "hosts: ['push.example.com:443']\n", want: "allim.yaml:4: hosts[0]: expected a host name without port, such as push.example.com"},

	// Who may.
	{name: "no key at all", program: "gateway", yaml: goodURL, want: "keys: expected at least one key for clients' tokens, or `anonymous`"},
	{name: "no credential at all", program: "publisher", yaml: goodURL, want: "api_keys: expected at least one API key, or one of `keys` for service tokens"},
	{name: "a short secret", yaml: goodURL + goodAPI + "keys: [{algorithm: HS256, secret: short}]\n", want: "allim.yaml:3: keys[0].secret: expected at least 32 bytes, not 5"},
	{name: "no secret", yaml: goodURL + goodAPI + "keys: [{algorithm: HS256}]\n", want: "allim.yaml:3: keys[0].secret: expected at least 32 bytes, not 0"},
	{name: "an algorithm that nobody should use", yaml: goodURL + goodAPI + "keys: [{algorithm: none}]\n", want: "allim.yaml:3: keys[0].algorithm: expected HS256, RS256, ES256 or EdDSA"},
	{name: "two algorithms of one issuer", yaml: goodURL + goodAPI + "keys:\n- {algorithm: HS256, secret: " + goodSecret + "}\n- {algorithm: EdDSA, public_key_file: k.jwk}\n",
		files: map[string]string{"k.jwk": `{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`},
		want:  "allim.yaml:5: keys[1].algorithm: expected HS256, as the other keys of this issuer"},
	{name: "a secret twice over", yaml: goodURL + goodAPI + "keys: [{algorithm: HS256, secret: " + goodSecret + ", secret_file: s}]\n", files: map[string]string{"s": "x"},
		want: "allim.yaml:3: keys[0].secret_file: expected none beside secret"},
	{name: "a secret file that is not there", yaml: goodURL + goodAPI + "keys: [{algorithm: HS256, secret_file: gone}]\n", want: "allim.yaml:3: keys[0].secret_file: gone: no such file or directory"},
	{name: "an empty secret file", yaml: goodURL + goodAPI + "keys: [{algorithm: HS256, secret_file: s}]\n", files: map[string]string{"s": "\n"}, want: "allim.yaml:3: keys[0].secret_file: s: expected something in it"},
	{name: "a secret file that is none", yaml: goodURL + goodAPI + "keys: [{algorithm: HS256, secret_file: /dev/null}]\n", want: "allim.yaml:3: keys[0].secret_file: /dev/null: expected a regular file"},
	{name: "a tenant's name", yaml: goodURL + goodAPI + "keys: [{algorithm: HS256, secret: " + goodSecret + ", tenants: [Acme]}]\n",
		want: "allim.yaml:3: keys[0].tenants[0]: expected 1 to 32 of a-z 0-9 -"},
	{name: "two lists of keys", yaml: good + "keys_file: k.yaml\n", files: map[string]string{"k.yaml": "[]\n"}, want: "allim.yaml:4: keys_file: expected none beside keys, which is given at allim.yaml:2"},
	{name: "two lists of keys as flags", yaml: goodURL + goodAPI, args: []string{"--keys-file=k.yaml", "--keys=[{algorithm: HS256, secret: " + goodSecret + "}]"}, files: map[string]string{"k.yaml": "[]\n"},
		want: "flag --keys-file: keys_file: expected none beside keys, which is given at flag --keys"},
	{name: "a private key where a public one belongs", yaml: goodURL + goodAPI + "keys: [{algorithm: ES256, public_key_file: k.pem}]\n", files: map[string]string{"k.pem": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"},
		want: `allim.yaml:3: keys[0].public_key_file: expected PEM, a JWK or a JWK Set: parse public key: PEM block 1: "PRIVATE KEY": a private key stays where tokens are signed; expected its "PUBLIC KEY" (openssl pkey -pubout)`},
	{name: "a short API key", program: "publisher", yaml: goodURL + "api_keys: [{id: a, key: short}]\n", want: "allim.yaml:2: api_keys[0].key: expected at least 32 printable ASCII characters, or sha256: and 64 hex digits"},
	{name: "a right that there is not", program: "publisher", yaml: goodURL + "api_keys: [{id: a, key: " + goodSecret + ", allow: [everything]}]\n",
		want: "allim.yaml:2: api_keys[0].allow[0]: expected publish:<pattern>, notify:user:<pattern>, notify:segment:<pattern>, notify:*, refresh:<pattern>, inbox, events or admin"},
	{name: "two API keys of one name", program: "publisher", yaml: goodURL + "api_keys:\n- {id: a, key: " + goodSecret + "}\n- {id: a, key: another-key-of-more-than-32-characters}\n",
		want: "allim.yaml:4: api_keys[1].id: expected one that no other API key has"},
	{name: "a mistake in a file of its own", program: "publisher", yaml: goodURL + "api_keys_file: a.yaml\n", files: map[string]string{"a.yaml": "- id: a\n  kye: x\n"},
		want: "2 mistakes in the settings:\n  a.yaml:1: api_keys[0].key: expected at least 32 printable ASCII characters, or sha256: and 64 hex digits\n  a.yaml:2: api_keys[0].kye: unknown, did you mean key?"},
	{name: "the publisher's audience", program: "gateway", yaml: good + "audience: allim-publisher\n", want: "allim.yaml:4: audience: expected one of your own: allim-publisher is for service tokens"},
	{name: "an anonymous who hears a pattern", program: "gateway", yaml: good + "anonymous: {hear: ['a/*']}\n", want: "allim.yaml:4: anonymous.hear[0]: expected only A-Z a-z 0-9 . _ ~ / : @ = + , - (byte 3 is \"*\")"},

	// Topics and TLS.
	{name: "a prefix that no topic can have", yaml: good + "topics: [{prefix: 'a b'}]\n", want: "allim.yaml:4: topics[0].prefix: expected a topic, or a prefix that ends in * (byte 2 is \" \")"},
	{name: "a prefix of users", yaml: good + "topics: [{prefix: 'user:'}]\n", want: "allim.yaml:4: topics[0].prefix: expected the prefix of event or page topics: user: is none"},
	{name: "two classes of one prefix", yaml: good + "topics: [{prefix: a/}, {prefix: a/}]\n", want: `allim.yaml:4: topics[1].prefix: expected one that no other class has: topics[0] has "a/" too`},
	{name: "too long a history", yaml: good + "topics: [{prefix: a/, history: 20000}]\n", want: `allim.yaml:4: topics[0].history: expected a whole number, from 0 to 10000, not "20000"`},
	{name: "a request that never fits", program: "publisher", yaml: good + "limits: {request: 8MiB, calls_bytes: 4MiB}\n", want: "allim.yaml:4: limits.calls_bytes: expected at least limits.request, which is 8MiB"},
	{name: "compressing what does not get smaller", program: "gateway", yaml: good + "websocket: {deflate: 10}\n", want: "allim.yaml:4: websocket.deflate: expected 0 for no compression, or at least 64: shorter messages do not get smaller"},
	{name: "a certificate without its key", program: "gateway", yaml: good + "tls: {public: {cert_file: c.pem}}\n", want: "allim.yaml:4: tls.public.key_file: expected the private key of tls.public.cert_file"},
	{name: "a certificate that is not there", program: "publisher", yaml: good + "tls: {publisher: {cert_file: c.pem, key_file: k.pem}}\n", want: "allim.yaml:4: tls.publisher: expected a certificate and its key: read certificate: open c.pem: no such file or directory, read its key: open k.pem: no such file or directory"},

	// All of them at once.
	{name: "one of each", program: "gateway", yaml: "redsi: 1\nkeys: [{algorithm: HS256, secret: short}]\n", args: []string{"--log-level=loud", "--nope"}, env: []string{"ALLIM_PUBLIC_URL=x", "ALLIM_MODES=a"},
		want: "6 mistakes in the settings:\n  flag --nope: unknown, did you mean --mode?\n  environment ALLIM_MODES: unknown, did you mean ALLIM_MODE?\n  allim.yaml:1: redsi: unknown, did you mean redis?\n" +
			"  allim.yaml:2: keys[0].secret: expected at least 32 bytes, not 5\n  flag --log-level: log.level: expected debug, info, warn or error, not \"loud\"\n" +
			"  environment ALLIM_PUBLIC_URL: public_url: expected the gateway's address as browsers see it, such as https://push.example.com"},
}

func TestEveryWrongSettingIsToldExactly(t *testing.T) {
	if len(wrongs) < 40 {
		t.Fatalf("%d wrong settings, want 40 at least", len(wrongs))
	}
	for _, w := range wrongs {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			programs := []string{w.program}
			if w.program == "" {
				programs = []string{"gateway", "publisher"}
			}
			for _, program := range programs {
				dir := folder(t, w.files)
				args := w.args
				if w.yaml != "" {
					put(t, dir, "allim.yaml", w.yaml)
					args = append([]string{"--config=allim.yaml"}, args...)
				}
				got := run(t, program, dir, args, w.env)
				if want := program + ": " + w.want + "\n"; got.code != 2 || got.stderr != want || got.stdout != "" {
					t.Errorf("exit code %d, stdout %q\n got %s\nwant %s", got.code, got.stdout, got.stderr, want)
				}
				// `config check` says the same, without what a start would do.
				if len(w.args) == 0 || strings.HasPrefix(w.args[0], "--") && w.args[0] != "--redis-url" {
					if checked := run(t, program, dir, append([]string{"config", "check"}, args...), w.env); checked.code != 2 || checked.stderr != got.stderr {
						t.Errorf("config check: exit code %d\n%s", checked.code, checked.stderr)
					}
				}
			}
		})
	}
}
