package store

import (
	"time"

	"github.com/redis/go-redis/v9"

	"allim/internal/audience"
	"allim/pkg/notify"
)

// The scripts of segments: those of users' streams, without anybody's read state.
var (
	noticeSegmentScript  = script("lib", "write", "many", "items", "segment", "keep", "deliver", "notice")
	changeSegmentScript  = script("lib", "write", "items", "segment", "keep", "fence", "change")
	dueSegmentScript     = script("lib", "write", "many", "items", "segment", "keep", "deliver", "due")
	recoverSegmentScript = script("lib", "items", "segment", "recover")
	segmarkScript        = script("lib", "write", "items", "inbox", "keep", "fence", "events", "segmark")
)

// Segments bounds the segments.
type Segments struct {
	Size      int           // newest items kept, at most audience.MaxItems; 0: as many
	Start     int           // newest items that are for who joins later; 0: what comes from then on
	Retention time.Duration // age of the oldest, life of a segment after its last write, and of what members did there; 0: 90 days
	OnlyMine  bool          // of notify.All are those who were seen there; false: every user
}

func (s Segments) withDefaults() Segments {
	if s.Size == 0 {
		s.Size = audience.MaxItems
	}
	if s.Retention == 0 {
		s.Retention = 90 * 24 * time.Hour
	}
	return s
}

// listed tells whether a stream holds items: that of a user, or of a segment.
func listed(st notify.Stream) bool {
	k := st.Topic.Kind()
	return k == notify.KindUser || k == notify.KindSegment
}

// allKeys are all keys of a stream of items, and boundsOf what it keeps: items, ids beside theirs, and for how long.
func (s *Store) allKeys(st notify.Stream) []string {
	if st.Topic.Kind() == notify.KindSegment {
		return s.keys.Segment(st).WithTerms()
	}
	return s.keys.Inbox(st).WithTerms()
}

func (s *Store) boundsOf(st notify.Stream) (items, ids int, retention time.Duration) {
	if st.Topic.Kind() == notify.KindSegment {
		return s.segments.Size, dedupeIDs, s.segments.Retention
	}
	return s.inbox.Size, s.inboxIDs(), s.inbox.Retention
}

// forKind is the script for a stream of items.
func forKind(st notify.Stream, users, segments *redis.Script) *redis.Script {
	if st.Topic.Kind() == notify.KindSegment {
		return segments
	}
	return users
}
