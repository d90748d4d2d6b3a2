// Package session is one client's life on any transport: who it is, what it hears, what it asks for. Frames go down through
// an outbox that the transport pulls from when its socket can take them; commands go up as plain calls and are the only door
// to the store.
//
// Locks: Session.mu guards a session and its subs. It is taken by the transport's goroutines and, in the Sink methods of sub, by the hub's
// loops; while it is held only methods of fanout.Subscription, fanout.Hub.Attach and Conn are called, which never block. Sessions.mu is a
// leaf: nothing is locked while it is held.
package session

import "allim/internal/wire"

// A Conn is what a transport is to its session. Its methods never block and may be called with the session's lock held.
type Conn interface {
	// Wake says that Fill has something. It may come more often than needed.
	Wake()
	// Ping asks the peer for a sign of life; a transport that gets none within Limits.Pong ends the connection.
	Ping()
	// Abort cuts the connection without a word.
	Abort()
}

// A Hello is what a client says by opening its connection.
type Hello struct {
	Topics    []string // of the URL, unchecked
	Inbox     int      // items to begin with; 0: none
	Cursor    string
	HasCursor bool // every frame that moves a position carries a cursor
	Origin    string
}

// An End is why a connection ends.
type End = wire.Close
