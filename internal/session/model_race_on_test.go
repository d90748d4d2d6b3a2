//go:build race

package session_test

const playOps = 1_500 // of each Redis; -race makes them several times as slow, and the room runs without it as well
