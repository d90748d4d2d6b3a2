package inbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	allimv1 "allim/proto/allim/v1"
)

const (
	tellWithin = 3 * time.Second        // for all tries together: a person waits for the button
	tryWithin  = time.Second            // for one
	tryAgainIn = 150 * time.Millisecond // doubled after each try
	mostTries  = 4
)

// A teller carries what happened in the shop to Allim. Every call has an id and is repeated with the same one when its
// outcome is unknown: Allim takes each id once, so a repetition is never shown twice.
type teller struct {
	to  allimv1.PublisherClient
	log *slog.Logger
}

// A notice is the data of a notification; these names are the conventional ones, and url is relative to the page.
type notice struct {
	Title string `json:"title"`
	Body  string `json:"body,omitempty"`
	URL   string `json:"url,omitempty"`
	From  string `json:"from,omitempty"` // user id of who caused it
}

// publish sends something to every page that listens to a topic.
func (t teller) publish(ctx context.Context, id, topic, event string, what any) error {
	data, err := json.Marshal(what)
	if err != nil {
		return fmt.Errorf("encode %s: %w", id, err)
	}
	req := &allimv1.PublishRequest{Id: id, Topics: []string{topic}, Event: event, Data: data}
	err = t.tries(ctx, func(ctx context.Context) error {
		_, err := t.to.Publish(ctx, req)
		return err
	})
	if err != nil {
		return fmt.Errorf("publish %s: %w", req.Id, err)
	}
	return nil
}

// notify puts a notification into the inbox of each user that req names, or of everybody in its segment; n is its data. A reply can be good for
// some and not for others: only those that are left are tried again. muted is how many of the users do not want to hear of that category.
func (t teller) notify(ctx context.Context, req *allimv1.NotifyRequest, n notice) (muted int, err error) {
	users := len(req.To.Users)
	if users == 0 && req.To.Segment == "" {
		return 0, nil
	}
	if req.Data, err = json.Marshal(n); err != nil {
		return 0, fmt.Errorf("encode notification %s: %w", req.Id, err)
	}
	left := req.To.Users
	err = t.tries(ctx, func(ctx context.Context) error {
		once := proto.CloneOf(req)
		if users > 0 {
			once.To.Users = left
		}
		reply, err := t.to.Notify(ctx, once)
		if err != nil {
			return err
		}
		for _, r := range reply.GetResults() {
			if r.GetMuted() {
				muted++
			}
		}
		left, err = remaining(reply)
		return err
	})
	if err != nil {
		if users == 0 {
			return 0, fmt.Errorf("notify %s to segment %s: %w", req.Id, req.To.Segment, err)
		}
		return muted, fmt.Errorf("notify %s to %d of %d users: %w", req.Id, len(left), users, err)
	}
	return muted, nil
}

// remaining are the users whom a reply did not reach, with the reason of the last of them.
func remaining(reply *allimv1.NotifyResponse) (left []string, err error) {
	for _, r := range reply.GetResults() {
		if r.GetCode() != code.Code_OK {
			left = append(left, r.GetUser())
			err = status.Error(codes.Code(r.GetCode()), r.GetMessage())
		}
	}
	return left, err
}

// tries calls until it works, the time is over, or the answer says that repeating is of no use.
func (t teller) tries(ctx context.Context, call func(context.Context) error) error {
	pause := tryAgainIn
	for n := 1; ; n++ {
		once, cancel := context.WithTimeout(ctx, tryWithin)
		err := call(once)
		cancel()
		if err == nil || !repeatable(err) || n == mostTries {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
			pause *= 2
		}
	}
}

func repeatable(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Aborted:
		return true
	}
	return false
}

// changed tells of a change of an order: the row to all pages, a notification to the colleagues. It tries both, whatever
// becomes of the first. The change itself stands, so it is not given up when the person closes the page.
func (t teller) changed(ctx context.Context, event string, row order, colleagues []string, n notice) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tellWithin)
	defer cancel()
	_, missed := t.notify(ctx, &allimv1.NotifyRequest{Id: orderID(row), To: &allimv1.Audience{Users: colleagues}, Category: "order"}, n)
	err := errors.Join(t.publish(ctx, orderID(row), Topic, event, row), missed)
	if err != nil {
		t.log.Error("tell of a changed order", "order", row.ID, "error", err)
	}
	return err
}

// orderID names one change of one order, and never another one (see openShop).
func orderID(row order) string { return fmt.Sprintf("order-%d-%d", row.ID, row.Version) }
