package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	allimv1 "allim/proto/allim/v1"
)

const (
	linesUnanswered = 512     // as many as a publisher reads
	lineMost        = 4 << 20 // bytes
	againPause      = 200 * time.Millisecond
)

// A line is one of the input: a message, or why it is none.
type line struct {
	number  int
	message *allimv1.PublishStreamRequest
	bad     error
}

// lines are the messages of an input on their way, on one stream after the other: what has no reply when one ends goes on the next, under its id.
type lines struct {
	out  io.Writer
	next chan line     // of the input; closed at its end
	room chan struct{} // has one for each that is left

	mu     sync.Mutex // guards the fields below
	left   []line     // read, and without a reply, in order
	failed int
	ended  error // why the input could not be read to its end
	unsaid error // why what became of one could not be printed
}

// lines publishes what it reads and prints what became of each. Its error says that something failed.
func (c *publishCommand) lines(ctx context.Context, in io.Reader, out io.Writer) error {
	conn, err := c.connect()
	if err != nil {
		return err
	}
	defer conn.Close()
	l := &lines{out: out, next: make(chan line), room: make(chan struct{}, linesUnanswered)}
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.Key))
	defer cancel()
	go l.read(ctx, in) // it ends with the input, or with the program
	client, patience := allimv1.NewPublisherClient(conn), time.Now().Add(c.Timeout)
	for {
		began := time.Now()
		some, err := l.stream(ctx, client)
		if err == nil {
			break
		}
		if some || time.Since(began) > c.Timeout { // long without a line to send
			patience = time.Now().Add(c.Timeout)
		}
		if status.Code(err) != codes.Unavailable || time.Now().After(patience) {
			return errors.Join(c.said(err), l.rest())
		}
		select {
		case <-time.After(againPause):
		case <-ctx.Done():
			return errors.Join(ctx.Err(), l.rest())
		}
	}
	return l.rest()
}

// rest says what is wrong besides the last stream: what was not read, not printed, refused, and not answered.
func (l *lines) rest() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := errors.Join(l.ended, l.unsaid)
	if l.failed > 0 {
		err = errors.Join(err, fmt.Errorf("%d failed", l.failed))
	}
	if n := len(l.left); n > 0 {
		err = errors.Join(err, fmt.Errorf("%d have no reply, from line %d on: what became of them is unknown", n, l.left[0].number))
	}
	return err
}

func (l *lines) read(ctx context.Context, in io.Reader) {
	defer close(l.next)
	text := bufio.NewScanner(in)
	text.Buffer(nil, lineMost)
	n := 1
	for ; text.Scan(); n++ {
		if len(text.Bytes()) == 0 {
			continue
		}
		m, err := messageOf(text.Bytes())
		select {
		case l.next <- line{n, m, err}:
		case <-ctx.Done():
			return
		}
	}
	err := text.Err()
	if errors.Is(err, bufio.ErrTooLong) {
		err = fmt.Errorf("expected at most %d bytes: this line and what follows was not sent", lineMost)
	}
	if err != nil {
		l.mu.Lock()
		l.ended = fmt.Errorf("read line %d: %w", n, err)
		l.mu.Unlock()
	}
}

// messageOf reads a line: the body of a publish or a notify over HTTP.
func messageOf(text []byte) (*allimv1.PublishStreamRequest, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, fmt.Errorf("expected a JSON object: %w", err)
	}
	data := append([]byte(nil), fields["data"]...)
	delete(fields, "data")
	rest, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	if _, ok := fields["to"]; ok {
		n := &allimv1.NotifyRequest{}
		if err := protojson.Unmarshal(rest, n); err != nil {
			return nil, err
		}
		n.Id, n.Data = orNew(n.Id), data
		return &allimv1.PublishStreamRequest{Call: &allimv1.PublishStreamRequest_Notify{Notify: n}}, nil
	}
	p := &allimv1.PublishRequest{}
	if err := protojson.Unmarshal(rest, p); err != nil {
		return nil, err
	}
	p.Id, p.Data = orNew(p.Id), data
	return &allimv1.PublishStreamRequest{Call: &allimv1.PublishStreamRequest_Publish{Publish: p}}, nil
}

// stream sends what is left and what comes, until all is answered, or the stream ends before that: then its error says why. some: there were replies.
func (l *lines) stream(ctx context.Context, p allimv1.PublisherClient) (some bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	out, err := p.PublishStream(ctx)
	if err != nil {
		cancel()
		return false, err
	}
	sent := make(chan struct{})
	go func() { defer close(sent); l.send(out) }()
	defer func() { cancel(); <-sent }()
	for {
		got, err := out.Recv()
		if errors.Is(err, io.EOF) {
			return some, nil
		} else if err != nil {
			return some, err
		}
		some = true
		for _, r := range got.Replies {
			l.answered(r)
		}
	}
}

// send ends when the input does, or the stream.
func (l *lines) send(out allimv1.Publisher_PublishStreamClient) {
	l.mu.Lock()
	again := append([]line(nil), l.left...)
	l.mu.Unlock()
	for _, a := range again {
		if a.message != nil && out.Send(a.message) != nil {
			return // Recv says why
		}
	}
	for {
		select {
		case l.room <- struct{}{}:
		case <-out.Context().Done():
			return
		}
		select {
		case a, ok := <-l.next:
			if !ok {
				<-l.room
				_ = out.CloseSend()
				return
			}
			l.mu.Lock()
			l.left = append(l.left, a)
			l.badLocked()
			l.mu.Unlock()
			if a.message != nil && out.Send(a.message) != nil {
				return
			}
		case <-out.Context().Done():
			<-l.room
			return
		}
	}
}

// good tells whether a reply or a result is OK.
func good[C ~int32](r interface{ GetCode() C }) bool { return r.GetCode() == C(codes.OK) }

// badLocked prints those at the front that are no messages.
func (l *lines) badLocked() {
	for len(l.left) > 0 && l.left[0].bad != nil {
		l.printLocked("line %d: %v\n", l.left[0].number, l.left[0].bad)
		l.failed++
		l.doneLocked()
	}
}

func (l *lines) printLocked(format string, args ...any) {
	if _, err := fmt.Fprintf(l.out, format, args...); err != nil && l.unsaid == nil {
		l.unsaid = fmt.Errorf("print: %w", err)
	}
}

func (l *lines) doneLocked() { l.left = l.left[1:]; <-l.room }

// answered prints what became of the first that is left.
func (l *lines) answered(r *allimv1.StreamReply) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.left) == 0 {
		return // no publisher answers more than it was sent
	}
	said := r.GetCode().String()
	if !good(r) {
		said += ": " + r.GetMessage()
		l.failed++
	}
	if all := r.GetResults(); len(all) == 1 && good(all[0]) {
		said += fmt.Sprintf(", position %s, %d receivers%s", or(all[0].GetPos(), "none"), all[0].GetReceivers(), again(all[0].GetDuplicate()))
	}
	for _, one := range r.GetNotified() {
		if !good(one) && good(r) {
			said += fmt.Sprintf(", %s: %s", one.GetUser(), one.GetCode())
			l.failed++
		}
	}
	l.printLocked("%s: %s\n", or(r.GetId(), fmt.Sprint("line ", l.left[0].number)), said)
	l.doneLocked()
	l.badLocked()
}
