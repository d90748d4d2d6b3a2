package publish

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "allim/proto/allim/v1"
)

// What is acknowledged stays acknowledged: only Redis knows whether a call comes again or late.
func TestWhatHasJustEndedIsPastUnlessItIsARepeat(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	q := &pb.NotifyRequest{Id: "n1", To: &pb.Audience{Users: []string{"ann"}}, Data: []byte("1")}
	first, err := b.publisher().Notify(b.as("all"), q)
	if err != nil {
		t.Fatal(err)
	}
	q.ExpiresAt = timestamppb.New(time.Now().Add(-time.Minute))
	again, err := b.publisher().Notify(b.as("all"), q)
	if err != nil || !again.Results[0].Duplicate || again.Results[0].Pos != first.Results[0].Pos {
		t.Errorf("the same id again: got %v, %v", again, err)
	}
	q.Id = "n2"
	_, err = b.publisher().Notify(b.as("all"), q)
	if status.Code(err) != codes.FailedPrecondition || detail[*errdetails.ErrorInfo](err).GetReason() != "PAST" {
		t.Errorf("a new one: got %v", err)
	}
	q.To.Users = []string{"ann", "bob"}
	q.Id, q.ExpiresAt = "n3", timestamppb.New(time.Now().Add(time.Hour))
	if all, err := b.publisher().Notify(b.as("all"), q); err != nil || all.Results[0].Unread != 2 { // n2 is nowhere
		t.Errorf("got %v, %v", all, err)
	}
}

// A change of many users comes in chunks, and each of them has its own result.
func TestChangesOfManyUsersAnswerInTheirOrder(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	const n = 3*notifyChunk + 7
	has := func(i int) bool { return i%3 != 0 }
	var some []string
	for i := range n {
		if has(i) {
			some = append(some, fmt.Sprintf("u%d", i))
		}
	}
	if _, err := b.publisher().Notify(b.as("all"), &pb.NotifyRequest{Id: "n1", To: &pb.Audience{Users: some}, Data: []byte("1")}); err != nil {
		t.Fatal(err)
	}
	everybody := &pb.Audience{Users: names(n, "u%d")}
	updated, err := b.publisher().Update(b.as("all"), &pb.UpdateRequest{Id: "n1", To: everybody, Data: []byte("2")})
	if err != nil || len(updated.GetResults()) != n {
		t.Fatalf("got %d results, %v", len(updated.GetResults()), err)
	}
	for i, r := range updated.Results {
		if want := has(i); r.User != everybody.Users[i] || r.Changed != want || (r.Pos != "") != want || (r.Code == code.Code_OK) != want || r.Code == code.Code_NOT_FOUND == want {
			t.Fatalf("update %d: %v", i, r)
		}
	}
	retracted, err := b.publisher().Retract(b.as("all"), &pb.RetractRequest{Id: "n1", To: everybody})
	if err != nil || len(retracted.GetResults()) != n {
		t.Fatalf("got %d results, %v", len(retracted.GetResults()), err)
	}
	for i, r := range retracted.Results {
		if r.User != everybody.Users[i] || r.Changed != has(i) || r.Code != code.Code_OK {
			t.Fatalf("retract %d: %v", i, r)
		}
	}
}

// A right is needed for each user, and one that is missing keeps all of it from being done.
func TestNobodyIsChangedWhereOneMayNotBe(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if _, err := b.publisher().Notify(b.as("all"), &pb.NotifyRequest{Id: "n1", To: &pb.Audience{Users: []string{"ann", "bob"}}, Data: []byte("1")}); err != nil {
		t.Fatal(err)
	}
	both := &pb.Audience{Users: []string{"ann", "bob"}}
	_, err := b.publisher().Update(b.as("ann"), &pb.UpdateRequest{Id: "n1", To: both, Data: []byte("2")})
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("update: %v", err)
	}
	if _, err = b.publisher().Retract(b.as("ann"), &pb.RetractRequest{Id: "n1", To: both}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("retract: %v", err)
	}
	if _, err = b.publisher().Retract(b.as("ann"), &pb.RetractRequest{Id: "n1", To: &pb.Audience{Segment: "org-7"}}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("retract from a segment: %v", err)
	}
	list, err := b.inbox().List(b.as("all"), &pb.ListRequest{User: "ann"})
	if err != nil || len(list.Items) != 1 || string(list.Items[0].Data) != "1" {
		t.Errorf("ann has %v, %v", list, err)
	}
	if got, err := b.publisher().Update(b.as("ann"), &pb.UpdateRequest{Id: "n1", To: &pb.Audience{Users: []string{"ann"}}, Data: []byte("2")}); err != nil || !got.Results[0].Changed {
		t.Errorf("ann alone: %v, %v", got, err)
	}
}
