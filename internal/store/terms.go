package store

import (
	"sync"

	"allim/pkg/notify"
)

const termsMost = 32_768 // streams of a half

// A known remembers some of the streams that have terms, those that were added last: between 32,768 and twice as many. The zero value knows none. That one is not
// known costs a call that writes nothing; that one has none any more costs what terms do.
type known struct {
	mu           sync.Mutex // guards the fields below; nothing is locked while it is held
	newer, older map[notify.Stream]struct{}
}

func (k *known) add(st notify.Stream) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.newer) == termsMost || k.newer == nil {
		k.newer, k.older = map[notify.Stream]struct{}{}, k.newer
	}
	k.newer[st] = struct{}{}
}

func (k *known) has(st notify.Stream) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.newer[st]; ok {
		return true
	}
	_, ok := k.older[st]
	return ok
}
