//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// centrifugo is a rival: its JSON protocol, history and recovery off, the Redis engine, topics as server-side subscriptions of the token, published to
// by its HTTP API.
var centrifugo = product{"centrifugo", func(ctx context.Context, o setup) (s *served, err error) {
	s = &served{dialect: dialect{welcome: []byte(`"connect":{`), ping: []byte("{}")}}
	defer func() {
		if err != nil {
			_ = s.close() // the first error says why
			s = nil
		}
	}()
	for n := range o.gateways {
		addr, err := freeAddr()
		if err != nil {
			return s, err
		}
		config := filepath.Join(o.dir, fmt.Sprintf("centrifugo-%d.json", n+1))
		if err := os.WriteFile(config, centrifugoConfig(o, addr), 0o600); err != nil {
			return s, fmt.Errorf("write settings: %w", err)
		}
		p, err := launch(o.dir, fmt.Sprintf("centrifugo-%d", n+1), o.cores.servers, "centrifugo", "--config="+config)
		if err != nil {
			return s, err
		}
		s.gateways, s.clients = append(s.gateways, p), append(s.clients, addr)
		if err := p.ready("http://" + addr + "/health"); err != nil {
			return s, err
		}
	}
	s.hello = func(user string, topics []string) hello { return centrifugoHello(user, topics, o.compress) }
	s.own = centrifugoOwn
	client := &http.Client{Timeout: startWithin, Transport: &http.Transport{MaxIdleConnsPerHost: 256}}
	s.free = client.CloseIdleConnections
	s.publish = func(ctx context.Context, topic, _ string, data []byte) error {
		return centrifugoPublish(ctx, client, s.clients[0], topic, data)
	}
	s.unicast = func(ctx context.Context, user, id string, data []byte) error {
		return s.publish(ctx, s.own(user), id, data)
	}
	s.stream = func(context.Context) (stream, error) { return nil, errLacks("it has no streamed publish") }
	return s, nil
}}

// centrifugoConfig are settings of version 6. History is off where nothing asks for it.
func centrifugoConfig(o setup, addr string) []byte {
	at := netip.MustParseAddrPort(addr) // of freeAddr
	type set = map[string]any
	b, err := json.Marshal(set{
		"http_server": set{"address": at.Addr().String(), "port": at.Port()},
		"health":      set{"enabled": true},
		"http_api":    set{"key": apiKey},
		"client":      set{"token": set{"hmac_secret_key": secret}, "allowed_origins": []string{"*"}, "ping_interval": o.ping.String(), "pong_timeout": (o.ping / 2).String()},
		"websocket":   set{"compression": o.compress, "compression_min_size": 64},
		"engine":      set{"type": "redis", "redis": set{"address": []string{"redis://" + o.redis}}},
		"log":         set{"level": "error"},
	})
	if err != nil {
		panic(err) // of texts and numbers
	}
	return b
}

// centrifugoOwn has no colon: what stands before one would be a namespace.
func centrifugoOwn(user string) string { return "user_" + user }

func centrifugoHello(user string, topics []string, compress bool) hello {
	all := append(append([]string{}, topics...), centrifugoOwn(user))
	connect, err := json.Marshal(map[string]any{"id": 1, "connect": map[string]any{"token": token(user, map[string]any{"channels": all})}})
	if err != nil {
		panic(err) // of texts
	}
	h := hello{path: "/connection/websocket", first: connect}
	if compress {
		h.headers = []string{offer}
	}
	return h
}

func centrifugoPublish(ctx context.Context, client *http.Client, addr, topic string, data []byte) error {
	body, err := json.Marshal(map[string]any{"channel": topic, "data": json.RawMessage(data)})
	if err != nil {
		return fmt.Errorf("encode publication: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/api/publish", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	r.Header.Set("X-API-Key", apiKey)
	answer, err := client.Do(r)
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK || bytes.Contains(text, []byte(`"error"`)) {
		return fmt.Errorf("publish: %d %.200q %v", answer.StatusCode, text, err)
	}
	return nil
}
