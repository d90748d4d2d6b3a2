// Package audience says what one of many readers has of a stream that is written once for all of them: a segment. A Board is the stream's newest items, one for all;
// a Member is what one reader has done to them: two watermarks and the exceptions. From both follow the reader's counts and lists, by a walk over a few hundred
// items in memory. It calls nobody: store reads and writes what stands in Redis, session shows it.
package audience

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"allim/pkg/notify"
)

// ErrCorrupt is text that no Allim wrote.
var ErrCorrupt = errors.New("corrupt text")

// Bits say how one item is an exception.
type Bits uint8

// The bits, as Redis holds their sum.
const (
	ReadDiffers Bits = 1 << iota // unread, though the watermark covers it; or read, though it does not
	SeenDiffers                  // the same of seen
	Archived
	Deleted
)

// A Mark is one exception.
type Mark struct {
	Offset uint64
	Bits   Bits // never 0
}

// A Member is one user's part in one segment. Its positions are of the epoch in which they were written; what they mean in a later one a Board knows.
type Member struct {
	Segment  string
	Joined   notify.Position // what is up to it is none of the user's; zero: everything is
	Left     int64           // since when the user's tokens do not name the segment, in ms of Unix time; 0: they do
	IssuedAt int64           // of the newest token that said so, in seconds of Unix time; of an older one nothing is believed
	Read     notify.Position // up to it everything is read, but for the exceptions
	Seen     notify.Position
	Epoch    string // of Marks; "" where there are none
	Marks    []Mark // by offset, ascending
}

// In Redis a Member is a field of each of two hashes of the user, under the segment's name:
//
//	:g  <joined> <left> <issued at> <read> <seen> <when>
//	:q  <epoch> <offset>=<bits, a hexadecimal digit>@<when>,<when> …
//
// <when> is a Stamp: of the last mark that raised <read>; of exceptions two, with a comma between them, of reading and of archiving, left out with their '@' where there
// is nothing to say. An exception may have no bits and only a <when>. There is no :q without exceptions. Fields behind these are of later builds.
const memberFields = 5

// ParseMember reads a Member; q is "" where it has no exceptions. The error is ErrCorrupt.
func ParseMember(segment, g, q string) (Member, error) {
	m := Member{Segment: strings.Clone(segment)}
	f := strings.Fields(strings.Clone(g)) // the member keeps parts of it, and must not keep the whole reply
	if len(f) < memberFields {
		return m, fmt.Errorf("member of %q: %w", segment, ErrCorrupt)
	}
	var errs [6]error
	m.Joined, errs[0] = notify.ParsePosition(f[0])
	m.Left, errs[1] = strconv.ParseInt(f[1], 10, 64)
	m.IssuedAt, errs[2] = strconv.ParseInt(f[2], 10, 64)
	m.Read, errs[3] = notify.ParsePosition(f[3])
	m.Seen, errs[4] = notify.ParsePosition(f[4])
	m.Epoch, m.Marks, errs[5] = parseMarks(q)
	if errors.Join(errs[:]...) != nil {
		return m, fmt.Errorf("member of %q: %w", segment, ErrCorrupt)
	}
	return m, nil
}

func parseMarks(q string) (epoch string, marks []Mark, err error) {
	if q == "" {
		return "", nil, nil
	}
	epoch, rest, _ := strings.Cut(q, " ")
	if p, err := notify.ParsePosition(epoch + ".0"); err != nil || p.Epoch != epoch {
		return "", nil, ErrCorrupt
	}
	last := uint64(0)
	for rest != "" {
		var one string
		one, rest, _ = strings.Cut(rest, " ")
		one, _, _ = strings.Cut(one, "@")
		offset, bits, _ := strings.Cut(one, "=")
		o, err1 := strconv.ParseUint(offset, 10, 53)
		b, err2 := strconv.ParseUint(bits, 16, 4)
		if err1 != nil || err2 != nil || o <= last {
			return "", nil, ErrCorrupt
		}
		if last = o; b != 0 {
			marks = append(marks, Mark{Offset: o, Bits: Bits(b)})
		}
	}
	if len(marks) == 0 {
		return "", nil, nil
	}
	return strings.Clone(epoch), marks, nil
}

// Lines are what Redis holds of a Member that is new there. Of one that was read there they lack when it was marked.
func (m *Member) Lines() (g, q string) {
	g = fmt.Sprintf("%s %d %d %s %s -", m.Joined, m.Left, m.IssuedAt, m.Read, m.Seen)
	if len(m.Marks) == 0 {
		return g, ""
	}
	b := []byte(m.Epoch)
	for _, k := range m.Marks {
		b = append(strconv.AppendUint(append(b, ' '), k.Offset, 10), '=')
		b = strconv.AppendUint(b, uint64(k.Bits), 16)
	}
	return g, string(b)
}

// ParseMembers reads all that a user is or was a member of, by segment. g and q are the fields of the two hashes and their values in turns.
func ParseMembers(g, q []string) ([]Member, error) {
	if len(g)%2+len(q)%2 != 0 {
		return nil, fmt.Errorf("members: %w", ErrCorrupt)
	}
	marks := make(map[string]string, len(q)/2)
	for i := 0; i < len(q); i += 2 {
		marks[q[i]] = q[i+1]
	}
	all := make([]Member, 0, len(g)/2)
	for i := 0; i < len(g); i += 2 {
		m, err := ParseMember(g[i], g[i+1], marks[g[i]])
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b Member) int { return strings.Compare(a.Segment, b.Segment) })
	return all, nil
}

// Of is the member of a segment among all; nil: the user never was one.
func Of(all []Member, segment string) *Member {
	i, there := slices.BinarySearchFunc(all, segment, func(m Member, name string) int { return strings.Compare(m.Segment, name) })
	if !there {
		return nil
	}
	return &all[i]
}
