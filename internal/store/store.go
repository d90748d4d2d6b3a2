// Package store is what Allim does to Redis on both banks: atomic scripts that write streams and inboxes, and the reads that recover them. It
// knows commands and scripts; names and bytes are keyspace's.
package store

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"allim/internal/keyspace"
	"allim/pkg/notify"
)

// Options say where and how a Store keeps things.
type Options struct {
	Redis   redis.UniversalClient // its commands are bounded by their context (ContextTimeoutEnabled); the Store does not close it
	Keys    *keyspace.Map
	Classes []Class // history by topic prefix: the longest prefix wins; none: DefaultHistory
	Inbox   Inbox
	Metrics *Metrics      // nil: nothing is counted
	Lease   time.Duration // of a claim (Due): who holds one and says nothing for so long is dead; 0: 30 s
	Events  Events        // what backends are told (Watch)

	Segments    Segments
	FsyncAlways bool         // the server answers a write only when the append file has it on disk (appendfsync always)
	Log         *slog.Logger // faults; nil: nowhere
}

// A Class is the history of the event topics whose names begin with Prefix.
type Class struct {
	Prefix string
	History
}

// A History bounds what an event topic keeps for those who come back.
type History struct {
	Size int           // messages; 0: DefaultHistory's
	TTL  time.Duration // after the last write, at least; 0: DefaultHistory's
}

// DefaultHistory is kept by event topics without a class.
var DefaultHistory = History{Size: 100, TTL: 5 * time.Minute}

// Inbox bounds the inboxes.
type Inbox struct {
	Size      int           // newest items kept per user; 0: 200
	Retention time.Duration // life of an inbox after its last write; 0: 90 days
}

// An Ack says what became of one write.
type Ack struct {
	Position  notify.Position // zero for ephemeral messages; a duplicate has the first call's
	Duplicate bool
	Muted     bool // its user does not want its category: it is not in the inbox, and has no place
	Scheduled bool // it waits for its time, and has no place yet
	Receivers int  // subscriptions that Redis handed it to, on one node
	Unread    int  // of a user's stream, after the write
}

// A Result is an Ack or an error: notify.ErrUnavailable, ErrBusy (Redis is out of memory), ErrInvalid, or ErrPast: it would have expired before it came; of Update
// ErrNotFound and ErrConflict, too.
type Result struct {
	Ack
	Changed bool // of Update and Retract
	Err     error
}

// A Mark changes the state of items of the own stream and of segments, named by exactly one of IDs, All, and Upto and Within.
type Mark struct {
	Change notify.Change    // one of notify.Marks
	IDs    []string         // at most 500
	Upto   *notify.Position // every item up to this position of the user's stream
	Within []Joined         // and every one up to these of segments
	All    bool
	Origin string
}

// Marked says what a Mark changed.
type Marked struct {
	Changed  int
	Unknown  []string        // IDs that are neither in the inbox nor in a segment of the user's
	Position notify.Position // of the mark's last event; zero when nothing changed
}

// A Status selects items by their state.
type Status byte

// The statuses, in the order of the public enum.
const (
	Active Status = iota
	Unread
	Unseen
	Archived
	All
)

// A Query asks for one page of an inbox.
type Query struct {
	Status   Status
	Category string // "" for all
	Limit    int    // 1 to 100; 0 is 50
	Before   string // of the previous page, with the same filters
}

// A Page is one page of what a user has, of the own stream and of segments in the order of time, newest first.
type Page struct {
	Items    []notify.Item
	Before   string          // "" when there is no more; a page with filters may be short, or empty, and go on all the same
	At       notify.Position // of the own stream: what the page has of it
	Within   []Joined        // the same of segments that there are
	Badge    notify.Badge
	Own      notify.Badge // of the own stream alone
	Audience *Members     // what was counted with; nil where no segment was looked at
}

const programLen = 8 // characters of 5 bits: two of the few programs that mark one inbox have the same name once in a hundred billion times

// New makes a Store. It does not call Redis: Open does.
func New(o Options) (*Store, error) {
	if o.Redis == nil || o.Keys == nil {
		return nil, fmt.Errorf("store: options need Redis and Keys")
	}
	s := &Store{redis: o.Redis, keys: o.Keys, classes: o.Classes, inbox: o.Inbox, publishCmd: "PUBLISH", metrics: o.Metrics, log: o.Log, fsyncAlways: o.FsyncAlways, lease: o.Lease, events: o.Events.withDefaults(),
		program: rand.Text()[:programLen], remarks: map[*entry]remark{}}
	if _, s.cluster = o.Redis.(*redis.ClusterClient); s.cluster {
		s.publishCmd = "SPUBLISH"
	}
	if s.lease == 0 {
		s.lease = claimLease
	}
	s.dueMost = dueMost
	s.disk = make([]atomic.Int32, 1)
	if s.cluster {
		s.disk = make([]atomic.Int32, o.Keys.Partitions())
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.ring = newRing(o.Keys.Partitions(), o.Metrics)
	s.writer = newWriter(s, s.cluster)
	if s.inbox.Size == 0 {
		s.inbox.Size = 200
	}
	if s.inbox.Retention == 0 {
		s.inbox.Retention = 90 * 24 * time.Hour
	}
	s.segments = o.Segments.withDefaults()
	s.boards = newBoards(s.segments)
	s.marking = make([]chan struct{}, o.Keys.Partitions())
	for i := range s.marking {
		s.marking[i] = make(chan struct{}, 1)
	}
	return s, nil
}

// Divided tells whether a part of Redis can be away alone, as a master of a cluster can: no part takes the room of the others then.
func (s *Store) Divided() bool { return s.cluster }

// A Store reads and writes Redis. It is safe for concurrent use. What it holds are writes that wait for their turn, and for a while those that were
// acknowledged (ring).
type Store struct {
	redis       redis.UniversalClient
	cluster     bool
	keys        *keyspace.Map
	classes     []Class
	inbox       Inbox
	segments    Segments
	boards      *boards
	marking     []chan struct{} // by partition: buffered 1, held by who marks items of segments there; never closed
	publishCmd  string          // PUBLISH on one Redis, SPUBLISH on a cluster
	fsyncAlways bool
	lease       time.Duration
	dueMost     time.Duration // dueMost
	events      Events
	metrics     *Metrics
	log         *slog.Logger

	program string        // this one among all that mark
	marks   atomic.Uint64 // the last number of a mark

	writer *writer
	ring   *ring
	terms  known
	putOff putOff
	disk   []atomic.Int32 // what is known of how Disk is reached, in a cluster by partition
	hidden atomic.Bool    // it was said that Redis does not tell its history

	remarksMu   sync.Mutex        // guards the fields below; nothing is locked while it is held
	remarks     map[*entry]remark // no more than the ring had marks
	remarksGone int               // those that came to their end since that was logged
}

// Open checks that Redis answers and that its schema and partition count are this Store's; the first one to open an empty Redis writes them.
func (s *Store) Open(ctx context.Context) error {
	start, pipe := time.Now(), s.redis.Pipeline()
	pipe.HSetNX(ctx, keyspace.SchemaKey, "schema", keyspace.Schema)
	pipe.HSetNX(ctx, keyspace.SchemaKey, "partitions", s.keys.Partitions())
	got := pipe.HMGet(ctx, keyspace.SchemaKey, "schema", "partitions")
	if _, err := pipe.Exec(ctx); err != nil {
		err = classify(err)
		s.metrics.done(opOpen, start, err)
		return fmt.Errorf("open store: %w", err)
	}
	s.metrics.done(opOpen, start, nil)
	v := got.Val()
	if want := fmt.Sprint(keyspace.Schema); v[0] != want {
		return fmt.Errorf("open store: this Redis holds schema %v, this build speaks %s", v[0], want)
	}
	if want := fmt.Sprint(s.keys.Partitions()); v[1] != want {
		return fmt.Errorf("open store: this Redis was set up with %v partitions, the setting says %s: the number is fixed for its life", v[1], want)
	}
	return nil
}

// OpenWriter is Open for who publishes: it finds out, too, that the user of Redis may not. What it asks for changes nothing.
func (s *Store) OpenWriter(ctx context.Context) error {
	if err := s.Open(ctx); err != nil {
		return err
	}
	start, nobodys := time.Now(), s.keys.Event(notify.Stream{Tenant: "default", Topic: "rights"}).Dedupe
	err := s.redis.ZRemRangeByRank(ctx, nobodys, 1, 0).Err()
	if redis.HasErrorPrefix(err, "NOPERM") {
		err = fmt.Errorf("redis: this user may not publish: expected a publisher's rights, as allim-publisher in deploy/redis/users.acl has them (%w)", err)
	} else if err != nil {
		err = classify(err)
	}
	s.metrics.done(opOpen, start, err)
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	return nil
}
