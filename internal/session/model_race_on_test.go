//go:build race

package session_test

const playOps = 800 // of each Redis; -race makes them several times as slow, and the room runs without it as well
