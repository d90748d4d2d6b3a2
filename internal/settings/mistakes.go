package settings

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Mistake is one thing that is wrong: where it stands, in which setting, and what was expected.
type Mistake struct {
	Source string // "allim.yaml:7", "flag --redis-url", "environment ALLIM_REDIS_URL"; "": nowhere, something is missing
	Path   string // "keys[0].secret"; "": the source itself
	Want   string
}

// Error is one line.
func (m Mistake) Error() string {
	var parts []string
	for _, p := range []string{m.Source, m.Path, m.Want} {
		if p != "" {
			parts = append(parts, p)
		}
	}
	return strings.Join(parts, ": ")
}

// Mistakes is every mistake of a set of settings.
type Mistakes struct {
	List   []Mistake
	Unread bool // a file or the command line could not be read at all: what seems to be missing may stand there
}

// unread adds that source could not be read.
func (m *Mistakes) unread(source, why string) {
	m.add(source, "", why)
	m.Unread = true
}

func (m *Mistakes) add(source, path, want string) {
	m.List = append(m.List, Mistake{source, path, want})
}

// Sort puts the mistakes of one file into the order of its lines, where its first one stands. All others stay where they are.
func (m *Mistakes) Sort() {
	type place struct{ file, line int }
	at, first := make(map[Mistake]place, len(m.List)), map[string]int{}
	for i, one := range m.List {
		file, line := one.Source, 0
		if cut := strings.LastIndexByte(file, ':'); cut >= 0 {
			if n, err := strconv.Atoi(file[cut+1:]); err == nil {
				file, line = file[:cut], n
			}
		}
		if line == 0 { // of no file
			file = fmt.Sprint("\x00", i)
		}
		if _, known := first[file]; !known {
			first[file] = i
		}
		at[one] = place{first[file], line}
	}
	slices.SortStableFunc(m.List, func(a, b Mistake) int {
		return cmp.Or(cmp.Compare(at[a].file, at[b].file), cmp.Compare(at[a].line, at[b].line))
	})
}

// Error is one line for each.
func (m *Mistakes) Error() string {
	if len(m.List) == 1 {
		return m.List[0].Error()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d mistakes in the settings:", len(m.List))
	for _, one := range m.List {
		b.WriteString("\n  " + one.Error())
	}
	return b.String()
}

// meant suggests the name that is nearest to what was written, where one is near.
func meant(wrote string, names []string) string {
	if len(wrote) > 128 {
		return "" // nobody meant that
	}
	best, distance := "", min(3, 1+len(wrote)/4)+1
	for _, n := range names {
		if d := edits(wrote, n); d < distance {
			best, distance = n, d
		}
	}
	if best == "" {
		return ""
	}
	return ", did you mean " + best + "?"
}

// edits is how many letters were left out, put in, mistaken or swapped with the next (Damerau and Levenshtein), in bytes.
func edits(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			mistaken := 1
			if a[i-1] == b[j-1] {
				mistaken = 0
			}
			n := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+mistaken)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				n = min(n, rows[i-2][j-2]+1)
			}
			rows[i][j] = n
		}
	}
	return rows[len(a)][len(b)]
}
