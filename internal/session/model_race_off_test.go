//go:build !race

package session_test

const playOps = 10_000 // of each Redis
