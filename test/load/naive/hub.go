package main

import (
	"context"
	"sync"

	"github.com/redis/go-redis/v9"
)

// A hub knows who hears what. Redis is asked for a topic while somebody hears it.
type hub struct {
	feed *redis.PubSub

	mu     sync.RWMutex // guards topics; held while Redis is told, so that it hears of subscriptions in their order
	topics map[string]map[*conn]bool
}

func newHub(feed *redis.PubSub) *hub { return &hub{feed: feed, topics: map[string]map[*conn]bool{}} }

// run hands out what Redis says, until the feed is closed.
func (h *hub) run() {
	for m := range h.feed.Channel() {
		text := []byte(m.Payload)
		h.mu.RLock()
		for c := range h.topics[m.Channel] {
			c.offer(text)
		}
		h.mu.RUnlock()
	}
}

func (h *hub) add(ctx context.Context, c *conn, topics []string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, topic := range topics {
		if h.topics[topic] == nil {
			h.topics[topic] = map[*conn]bool{}
			if err := h.feed.Subscribe(ctx, topic); err != nil {
				return err
			}
		}
		h.topics[topic][c] = true
	}
	return nil
}

func (h *hub) remove(c *conn, topics []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, topic := range topics {
		delete(h.topics[topic], c)
		if len(h.topics[topic]) == 0 {
			delete(h.topics, topic)
			_ = h.feed.Unsubscribe(context.Background(), topic) // what still comes finds nobody
		}
	}
}
