//go:build race

package fanout

const schedules = 500
