//go:build race

package pods

const raceBuilt = true
