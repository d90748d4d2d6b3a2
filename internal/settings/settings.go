// Package settings is every setting of both programs, under the same name everywhere: `redis.url` in the settings file, --redis-url as a flag,
// ALLIM_REDIS_URL in the environment. Flag beats environment beats file beats default. Every mistake is found at once and names where it stands.
//
// The tree of types in this file is the reference: help, `config defaults` and docs/configuration.md are made of its tags. Whether a value makes
// sense beside the others is checked by whoever it is for.
package settings

import "log/slog"

// Programs that a setting may be for.
const (
	Gateway   = "gateway"
	Publisher = "publisher"
	Both      = "" // of every setting without the tag `of`, and of who reads the settings of both
)

// Modes.
const (
	Production  = "production"
	Development = "development"
)

// Settings is what a program is told. Tags: name; of (one program, else both); default; help; min and max (numbers, sizes, durations);
// enum; hint (what stands for the value in help).
type Settings struct {
	Mode      string    `name:"mode" default:"production" enum:"production,development" help:"In production what is unsafe is refused: see public_url, origins and keys. development is for a machine of your own."`
	Log       Log       `name:"log"`
	Listen    Listen    `name:"listen"`
	TLS       TLS       `name:"tls"`
	Redis     Redis     `name:"redis"`
	PublicURL string    `name:"public_url" of:"gateway" hint:"URL" help:"The gateway's address as browsers see it, such as https://push.example.com. Its host is answered to and its origin let in. Needed in production, and https there."`
	Origins   []string  `name:"origins" of:"gateway" hint:"ORIGIN" help:"Where else pages may come from, exactly: https://app.example.com. Loopback is always let in; * is not accepted."`
	Hosts     []string  `name:"hosts" of:"gateway" hint:"NAME" help:"Host names without port that the gateway answers to, besides that of public_url and loopback."`
	Audience  string    `name:"audience" of:"gateway" hint:"NAME" help:"The aud that every client's token must name. Empty: any but allim-publisher."`
	Keys      []Key     `name:"keys" hint:"YAML" help:"Keys that sign tokens: the clients' for the gateway, the services' for the publisher. For each issuer one algorithm and up to 16 keys, so that a new one can come before the old one goes. Read again while running."`
	KeysFile  string    `name:"keys_file" hint:"FILE" help:"A YAML file with the list of keys, such as a mounted secret. Read again while running."`
	APIKeys   []APIKey  `name:"api_keys" of:"publisher" hint:"YAML" help:"Backends' credentials. Read again while running."`
	APIFile   string    `name:"api_keys_file" of:"publisher" hint:"FILE" help:"A YAML file with the list of API keys, such as a mounted secret. Read again while running."`
	Webhooks  []Webhook `name:"webhooks" of:"publisher" hint:"YAML" help:"Where a backend is told of notifications that no device showed in time (escalate, via WEBHOOK): one for each tenant. Read again while running."`
	HooksFile string    `name:"webhooks_file" of:"publisher" hint:"FILE" help:"A YAML file with the list of webhooks, such as a mounted secret. Read again while running."`
	Push      Push      `name:"push"`
	Anonymous *Grant    `name:"anonymous" of:"gateway" hint:"YAML" help:"What clients without a token may do, in the tenant default. Absent: everybody needs a token."`
	Topics    []Class   `name:"topics" hint:"YAML" help:"Classes of topics by prefix; the longest prefix counts. The same for both programs."`
	Inbox     Inbox     `name:"inbox"`
	Segments  Segments  `name:"segments"`
	Presence  Presence  `name:"presence"`
	Reflect   bool      `name:"reflection" of:"publisher" default:"true" help:"Tell gRPC callers the services' descriptions, so that grpcurl works without the .proto files."`
	Reload    Reload    `name:"reload"`
	Drain     Drain     `name:"drain"`
	WebSocket Sockets   `name:"websocket"`
	Limits    Limits    `name:"limits"`
}

// Log is what is logged.
type Log struct {
	Level slog.Level `name:"level" default:"info" help:"debug, info, warn or error. While running: PUT /log/level on the operations port."`
}

// Listen is where the ports are. "127.0.0.1:0" takes a free one and logs it.
type Listen struct {
	Public string `name:"public" of:"gateway" default:":8080" hint:"ADDR" help:"Where browsers connect."`
	GRPC   string `name:"grpc" of:"publisher" default:":50051" hint:"ADDR" help:"Where backends call by gRPC."`
	HTTP   string `name:"http" of:"publisher" default:":8081" hint:"ADDR" help:"Where backends call with JSON over HTTP."`
	Ops    string `name:"ops" default:":9090" publisher:":9091" hint:"ADDR" help:"Health, metrics, profiles and the log level, for the inner network only."`
}

// TLS is the certificates of the ports that strangers reach.
type TLS struct {
	Public    Pair `name:"public" of:"gateway"`
	Publisher Pair `name:"publisher" of:"publisher"`
}

// A Pair is a certificate with its key. Both files, or neither.
type Pair struct {
	CertFile string `name:"cert_file" hint:"FILE" help:"Certificate chain in PEM; read again while running. Empty: no TLS on this program's ports."`
	KeyFile  string `name:"key_file" hint:"FILE" help:"Its private key in PEM; read again while running."`
}

// Redis is how Redis is reached.
type Redis struct {
	URL          URL    `name:"url" default:"redis://localhost:6379/0" hint:"URL" help:"redis://host:port/db, or rediss:// for TLS."`
	Username     string `name:"username" hint:"NAME" help:"ACL user, where the URL names none."`
	UsernameFile string `name:"username_file" hint:"FILE" help:"File with the ACL user; read for every new connection."`
	Password     Secret `name:"password" hint:"SECRET" help:"Its password. A flag can be seen by everybody on the machine: prefer the file."`
	PasswordFile string `name:"password_file" hint:"FILE" help:"File with the password; read for every new connection, so that it can change while running."`
	CAFile       string `name:"ca_file" hint:"FILE" help:"Certificates in PEM that Redis' own must lead to. Empty: the system's."`
	CertFile     string `name:"cert_file" hint:"FILE" help:"Client certificate in PEM, where Redis asks for one."`
	KeyFile      string `name:"key_file" hint:"FILE" help:"Its private key in PEM."`
	Partitions   int    `name:"partitions" default:"128" min:"1" max:"1024" help:"Into how many parts keys and channels are spread. Fixed for the life of a Redis: a program that is told another number does not start."`
	FSync        string `name:"fsync" of:"publisher" default:"everysec" enum:"everysec,always" help:"Redis' own setting appendfsync: with always, an acknowledgement of level DISK needs no Redis 7.2."`
	PoolSize     int    `name:"pool_size" default:"0" min:"0" max:"10000" help:"Most connections for commands. 0: ten for each CPU."`

	Sentinel Sentinel `name:"sentinel"`
	Cluster  Cluster  `name:"cluster"`
}

// Sentinel is who knows which Redis is the primary, where Sentinels watch over it. Then the URL says everything but its address.
type Sentinel struct {
	Master       string   `name:"master" hint:"NAME" help:"What Sentinels call the primary. Empty: there are none."`
	Addresses    []string `name:"addresses" hint:"HOST:PORT" help:"Some of the Sentinels; they know the others."`
	Username     string   `name:"username" hint:"NAME" help:"ACL user at the Sentinels."`
	UsernameFile string   `name:"username_file" hint:"FILE" help:"File with it; read for every new connection."`
	Password     Secret   `name:"password" hint:"SECRET" help:"Its password. Prefer the file."`
	PasswordFile string   `name:"password_file" hint:"FILE" help:"File with the password; read for every new connection."`
}

// Cluster is a Redis Cluster. Then the URL says everything but its address.
type Cluster struct {
	Addresses []string `name:"addresses" hint:"HOST:PORT" help:"Some of its nodes; they know the others. Empty: it is no cluster."`
}

// A Key verifies tokens: with a secret, or with public keys.
type Key struct {
	ID            string   `name:"id" help:"The token's kid. Empty: for tokens that name none, or one of no other key."`
	Issuer        string   `name:"issuer" help:"The token's iss. Empty: for issuers that no other key names, and tokens without."`
	Algorithm     string   `name:"algorithm" help:"HS256, RS256, ES256 or EdDSA; one for each issuer."`
	Secret        Secret   `name:"secret" help:"Of HS256: at least 32 bytes of randomness."`
	SecretFile    string   `name:"secret_file" help:"A file with the secret instead; line ends after it do not count."`
	PublicKey     string   `name:"public_key" help:"Of the others: PEM, a JWK or a JWK Set."`
	PublicKeyFile string   `name:"public_key_file" help:"A file with it instead."`
	Tenants       []string `name:"tenants" help:"Tenants that its tokens may speak for. Empty: default only."`
}

// An APIKey is a backend's credential.
type APIKey struct {
	ID      string   `name:"id" help:"Names it in logs; no two alike."`
	Key     Secret   `name:"key" help:"At least 32 printable ASCII characters of randomness, or sha256: and the 64 hex digits of their hash."`
	KeyFile string   `name:"key_file" help:"A file with it instead."`
	Tenant  string   `name:"tenant" help:"Whose streams it writes. Empty: default."`
	Allow   []string `name:"allow" help:"Its rights: publish:<pattern>, notify:user:<pattern>, notify:segment:<pattern>, notify:*, refresh:<pattern>, inbox, events, admin. Empty: none."`
}

// A Webhook is where a tenant's backend is told something, by requests signed as Standard Webhooks says.
type Webhook struct {
	Tenant     string `name:"tenant" help:"Whose notifications it tells of; no two alike. Empty: default."`
	URL        URL    `name:"url" help:"Where they are posted to: https in production, this machine excepted."`
	Secret     Secret `name:"secret" help:"whsec_ and the base64 of 24 to 64 random bytes. Two with a blank between them, the new one first, while one replaces the other: both sign."`
	SecretFile string `name:"secret_file" help:"A file with it instead."`
}

// Push is how browsers are told of notifications that no device showed in time: Web Push (escalate, via WEB_PUSH).
type Push struct {
	Subject        string   `name:"subject" of:"publisher" hint:"URL" help:"Where those who run push services reach you: mailto:ops@example.com, or an https URL. Needed with the keys."`
	PublicKey      string   `name:"public_key" hint:"KEY" help:"The key that pages subscribe with, as allim push-keys prints it; the same for both programs. Empty: nothing is pushed."`
	PrivateKey     Secret   `name:"private_key" of:"publisher" hint:"SECRET" help:"Its private key. A flag can be seen by everybody on the machine: prefer the file."`
	PrivateKeyFile string   `name:"private_key_file" of:"publisher" hint:"FILE" help:"A file with it instead."`
	Hosts          []string `name:"hosts" hint:"NAME" help:"Push services that browsers may name: a host, or *.example.com for all below one, on port 443 or the one that is given; an IP address may be a private one. Empty: those of Chrome, Edge, Firefox and Safari."`
}

// A Class is what holds for the topics whose names begin with Prefix.
type Class struct {
	Prefix  string   `name:"prefix" help:"What their names begin with, such as feeds/."`
	History int      `name:"history" min:"0" max:"10000" help:"Messages that are kept for those who come back. 0: 100."`
	TTL     Duration `name:"ttl" min:"0s" max:"8760h" help:"How long at least, after the last one. 0: 5m."`
	Public  bool     `name:"public" help:"Whether every connection may subscribe to them, without its token naming them."`
}

// Inbox bounds the inboxes.
type Inbox struct {
	Size      int      `name:"size" default:"200" min:"1" max:"10000" help:"Newest notifications that are kept for each user."`
	Retention Duration `name:"retention" default:"90d" min:"1h" max:"87600h" help:"How long an inbox is kept after its last write."`
}

// Segments is what holds for notifications to named audiences.
type Segments struct {
	Size      int      `name:"size" default:"200" min:"1" max:"200" help:"Newest notifications that are kept for each segment."`
	Retention Duration `name:"retention" default:"90d" min:"1h" max:"87600h" help:"How long a notification is kept at most, a segment after its last write, and what a member did there."`
	Start     int      `name:"start" default:"0" min:"0" max:"200" help:"Newest notifications of a segment that are for who joins it: 0 for those alone that come later. Of the segment all they are 20 at least."`
	All       bool     `name:"all" default:"true" help:"Whether every user hears the segment all without a token that names it."`
}

// Presence is how backends are told who is online.
type Presence struct {
	Debounce Duration `name:"debounce" default:"10s" min:"0s" max:"1h" help:"How long a user without a connection has to come back before backends are told that he is gone (Events.Watch). The same for both programs."`
}

// A Grant is what clients without a token may do.
type Grant struct {
	Subscribe []string `name:"subscribe" help:"Patterns of topics that they may subscribe to, such as public/*."`
	Hear      []string `name:"hear" help:"Topics that they hear without asking."`
	Send      []string `name:"send" help:"Names of events that they may send to the backends."`
}

// Reload is how files are read again.
type Reload struct {
	Interval Duration `name:"interval" default:"10s" min:"1s" max:"24h" help:"How often keys, API keys and certificates are read again; SIGHUP does it at once. What is wrong is logged and the old ones stay."`
}

// Drain is how a gateway that is asked to end lets its clients go.
type Drain struct {
	Pause  Duration `name:"pause" of:"gateway" default:"5s" min:"0s" max:"1m" help:"How long it goes on taking connections while it already says that it is not ready, so that nobody is sent here any more."`
	Window Duration `name:"window" of:"gateway" default:"20s" min:"0s" max:"10m" help:"Over how long clients are asked to connect elsewhere, before those that did not are closed with 1012. 0s: all are closed at once."`
}

// Sockets is how frames go to browsers.
type Sockets struct {
	Deflate Size `name:"deflate" of:"gateway" default:"0" min:"0" max:"64KiB" help:"Messages of so many bytes to 64 KiB are compressed, once for all who hear them (permessage-deflate without context takeover). 64 at least; 0: compression is never offered."`
}

// Limits are bounds that can be tuned; each is counted when it is met.
type Limits struct {
	Sessions    int      `name:"sessions" of:"gateway" default:"100000" min:"1" max:"10000000" help:"Connections at once; more are refused with 503."`
	Upgrades    int      `name:"upgrades" of:"gateway" default:"0" min:"0" max:"1000000" help:"New connections in a second; more are refused with 503 and come again after seconds. 0: 500 for each CPU."`
	Topics      int      `name:"topics" of:"gateway" default:"100" min:"2" max:"1000" help:"Topics of a connection, those it never asked for included."`
	Frame       Size     `name:"frame" of:"gateway" default:"16KiB" min:"1KiB" max:"1MiB" help:"A client's frame; a larger one closes with 1009."`
	Queue       Size     `name:"queue" of:"gateway" default:"256KiB" min:"16KiB" max:"64MiB" help:"Bytes that wait for a connection that reads slowly."`
	QueueFrames int      `name:"queue_frames" of:"gateway" default:"512" min:"16" max:"100000" help:"Frames that wait for it."`
	MarkIDs     int      `name:"mark_ids" default:"500" min:"1" max:"500" help:"Ids in one mark."`
	Header      Size     `name:"header" of:"gateway" default:"8KiB" min:"1KiB" max:"8KiB" help:"Request line and headers of a request."`
	Token       Size     `name:"token" of:"gateway" default:"4KiB" min:"256" max:"4KiB" help:"A client's token."`
	AuthTimeout Duration `name:"auth_timeout" of:"gateway" default:"5s" min:"100ms" max:"1m" help:"For a connection without a token to show one."`
	Ping        Duration `name:"ping" of:"gateway" default:"25s" min:"1s" max:"10m" help:"Between two pings of a connection, ± 20 %. Below the idle timeout of every proxy on the way."`
	Pong        Duration `name:"pong" of:"gateway" default:"10s" min:"100ms" max:"1m" help:"For its answer."`
	Requests    int      `name:"requests" of:"gateway" default:"50" min:"1" max:"100000" help:"Requests of a user over HTTP in a second, four times as many at once; a list, and a mark of all, are worth ten. More get 429."`

	Data          Size     `name:"data" of:"publisher" default:"64KiB" min:"1KiB" max:"1MiB" help:"Data of a message on topics."`
	Notification  Size     `name:"notification" of:"publisher" default:"16KiB" min:"1KiB" max:"1MiB" help:"Data of a notification."`
	Request       Size     `name:"request" of:"publisher" default:"4MiB" min:"64KiB" max:"64MiB" help:"One request, or one message of a stream."`
	PublishTopics int      `name:"publish_topics" of:"publisher" default:"100" min:"1" max:"1000" help:"Topics of one Publish."`
	NotifyUsers   int      `name:"notify_users" of:"publisher" default:"10000" min:"1" max:"100000" help:"Users of one Notify."`
	Calls         int      `name:"calls" of:"publisher" default:"1024" min:"1" max:"100000" help:"Calls at work at once; more get RESOURCE_EXHAUSTED."`
	CallsBytes    Size     `name:"calls_bytes" of:"publisher" default:"64MiB" min:"4MiB" max:"4GiB" help:"Bytes of their requests."`
	Receiving     int      `name:"receiving" of:"publisher" default:"32" min:"2" max:"10000" help:"Requests that are read at once; others wait."`
	Streams       int      `name:"streams" of:"publisher" default:"64" min:"2" max:"10000" help:"Open streams of PublishStream; more are refused. One may hold twice a request of the largest size."`
	Watchers      int      `name:"watchers" of:"publisher" default:"256" min:"2" max:"10000" help:"Open streams of Events.Watch; more are refused."`
	Connections   int      `name:"connections" of:"publisher" default:"1024" min:"1" max:"1000000" help:"Connections on each port; more are closed."`
	Deadline      Duration `name:"deadline" of:"publisher" default:"10s" min:"100ms" max:"10m" help:"Of calls that name none."`
}
