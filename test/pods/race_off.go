//go:build !race

package pods

const raceBuilt = false
