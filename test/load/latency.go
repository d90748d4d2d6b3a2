//go:build linux

package main

import (
	"math/bits"
	"time"
)

// A latency counts durations in buckets whose width is 1/32 of their value, from 32 ns to hours, so that millions cost a few kilobytes.
type latency struct {
	buckets [64 << fineBits]uint32
	n       int
	most    time.Duration
}

const fineBits = 5

func (l *latency) add(d time.Duration) {
	d = max(d, 0)
	l.buckets[bucket(d)]++
	l.n++
	l.most = max(l.most, d)
}

func bucket(d time.Duration) int {
	shift := max(bits.Len64(uint64(d))-fineBits-1, 0)
	return shift<<fineBits + int(uint64(d)>>shift)
}

// upTo is the upper end of a bucket.
func upTo(i int) time.Duration {
	if i < 2<<fineBits {
		return time.Duration(i)
	}
	shift := i>>fineBits - 1
	return time.Duration((uint64(i-shift<<fineBits)+1)<<shift - 1)
}

// quantile is the duration that a share q of them does not pass; 0 where there is none.
func (l *latency) quantile(q float64) time.Duration {
	want, sum := int(q*float64(l.n)), 0
	for i, n := range l.buckets {
		if sum += int(n); n > 0 && sum >= want {
			return min(upTo(i), l.most)
		}
	}
	return l.most
}

// curve is the share of them up to each duration, in at most 200 points of milliseconds and share.
func (l *latency) curve() (points [][2]float64) {
	if l.n == 0 {
		return nil
	}
	step, sum, last := float64(l.n)/200, 0, -1.0
	for i, n := range l.buckets {
		sum += int(n)
		if n > 0 && (float64(sum)-last >= step || sum == l.n) {
			last = float64(sum)
			points = append(points, [2]float64{milliseconds(min(upTo(i), l.most)), last / float64(l.n)})
		}
	}
	return points
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
