//go:build linux

package main

import (
	"bytes"
	"compress/flate"
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

// server is a frame as a server sends it.
func server(first byte, payload string) []byte {
	b := masked(first&0xf, []byte(payload))
	b[0], b[1] = first, b[1]&0x7f
	return bytes.Replace(b, []byte{0, 0, 0, 0}, nil, 1)
}

func TestFramesAreCutWhereverTheyAreBroken(t *testing.T) {
	long := strings.Repeat("x", 300)
	var stream []byte
	want := []string{"a", "", long, "ping"}
	for i, first := range []byte{0x81, 0x82, 0xc1, 0x89} {
		stream = append(stream, server(first, want[i])...)
	}
	for step := 1; step < len(stream); step++ {
		var held []byte
		var got []string
		for from := 0; from < len(stream); from += step {
			held = append(held, stream[from:min(from+step, len(stream))]...)
			for {
				f, size, err := cut(held)
				if err != nil {
					t.Fatal(err)
				}
				if size == 0 {
					break
				}
				if f.compressed != (len(f.payload) == 300) || !f.fin {
					t.Fatalf("got %+v", f)
				}
				got, held = append(got, string(f.payload)), held[size:]
			}
		}
		if strings.Join(got, "|") != strings.Join(want, "|") || len(held) > 0 {
			t.Fatalf("in steps of %d: got %q, %d bytes left", step, got, len(held))
		}
	}
}

func TestFramesThatNoServerMaySendAreRefused(t *testing.T) {
	for name, b := range map[string][]byte{
		"masked": masked(opText, []byte("x")), "reserved bits": {0xa1, 0}, "a fragment of a ping": {0x09, 0}, "a long ping": {0x89, 126, 0, 200},
		"a compressed close": {0xc8, 0}, "too long": {0x82, 127, 0, 0, 0, 1, 0, 0, 0, 0},
	} {
		if _, _, err := cut(b); !errors.Is(err, errFrame) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func FuzzCut(f *testing.F) {
	f.Add(server(0x81, "hello"))
	f.Add([]byte{0x82, 127, 0, 0, 0, 0, 0, 0, 0, 1, 7})
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, size, err := cut(b)
		if size > len(b) || size == 0 && frame.payload != nil || err != nil && size != 0 {
			t.Errorf("got %+v, %d of %d bytes, %v", frame, size, len(b), err)
		}
	})
}

func TestMarksAreReadFromAnyTextAroundThem(t *testing.T) {
	want := []mark{{3, 4, 5}, {math.MaxUint32, 0, time.Hour}}
	text := `{"type":"message","data":` + string(want[0].data(small)) + "}\n{" + `"data":` + string(want[1].data(large)) + `}`
	if n := len(want[1].data(large)); n < large || n > large+20 {
		t.Errorf("the data has %d bytes, want about %d", n, large)
	}
	var got []mark
	if !marks([]byte(text), func(m mark) { got = append(got, m) }) || len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %v", got)
	}
	for _, bad := range []string{`"_m":[1,2,3`, `"_m":[1,2]`, `"_m":[1,-2,3]`, `"_m":[1,2,3,4]`} {
		if marks([]byte(bad), func(mark) {}) {
			t.Errorf("%s was taken", bad)
		}
	}
}

func TestCompressedMessagesAreReadAndRemembered(t *testing.T) {
	var z inflater
	for i := range 3 * knownTexts {
		text := mark{1, uint32(i / 2), 3}.data(large)
		var packed bytes.Buffer
		w, _ := flate.NewWriter(&packed, 1)
		_, _ = w.Write(text)
		_ = w.Flush()
		got, err := z.inflate(bytes.TrimSuffix(packed.Bytes(), tail[:4]))
		if err != nil || !bytes.Equal(got, text) {
			t.Fatalf("got %q, %v, want %q", got, err, text)
		}
		if len(z.known) > knownTexts {
			t.Fatalf("%d texts are remembered", len(z.known))
		}
	}
	if _, err := z.inflate([]byte{0xff, 0xff}); err == nil {
		t.Error("what is not compressed was read")
	}
}

func TestQuantilesAreCloseToTheTruth(t *testing.T) {
	var l latency
	for i := range 1000 {
		l.add(time.Duration(i+1) * time.Millisecond)
	}
	for q, want := range map[float64]time.Duration{.5: 500 * time.Millisecond, .99: 990 * time.Millisecond, 1: time.Second} {
		if got := l.quantile(q); math.Abs(float64(got-want)) > float64(want)/30 {
			t.Errorf("%v: got %v, want %v", q, got, want)
		}
	}
	curve := l.curve()
	if last := curve[len(curve)-1]; len(curve) > 201 || last[0] != 1000 || last[1] != 1 {
		t.Errorf("got %d points, the last %v", len(curve), last)
	}
	for _, d := range []time.Duration{0, 1, 63, 64, 65, 12345, time.Hour, math.MaxInt64} {
		if i := bucket(d); upTo(i) < d || i > 0 && upTo(i-1) >= d {
			t.Errorf("%d is in bucket %d, up to %d, after %d", d, i, upTo(i), upTo(i-1))
		}
	}
	if (&latency{}).quantile(.5) != 0 {
		t.Error("the median of nothing")
	}
}
