package publish

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "allim/proto/allim/v1"
)

func TestWhatIsNotBuiltIsRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for field, r := range map[string]*pb.NotifyRequest{
		"collapse_key": {CollapseKey: "k"}, "expires_at": {ExpiresAt: timestamppb.Now()}, "not_before": {NotBefore: timestamppb.Now()}, "mandatory": {Mandatory: true},
		"escalate": {Escalate: &pb.NotifyRequest_Escalate{}}, "to.segment": {To: &pb.Audience{Users: []string{"ann"}, Segment: "all"}},
	} {
		r.Id, r.Data = "n1", []byte("1")
		if r.To == nil {
			r.To = &pb.Audience{Users: []string{"ann"}}
		}
		_, err := b.publisher().Notify(b.as("all"), r)
		if s := status.Convert(err); s.Code() != codes.InvalidArgument || s.Message() != field+": expected none: it is not built yet" {
			t.Errorf("%s: %v", field, err)
		}
	}
	for call, err := range map[string]error{
		"Update":      second(b.publisher().Update(b.as("all"), &pb.UpdateRequest{})),
		"Retract":     second(b.publisher().Retract(b.as("all"), &pb.RetractRequest{})),
		"Preferences": second(b.inbox().Preferences(b.as("all"), &pb.PreferencesRequest{})),
	} {
		if status.Code(err) != codes.Unimplemented {
			t.Errorf("%s: %v", call, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }
