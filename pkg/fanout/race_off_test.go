//go:build !race

package fanout

const schedules = 2000
