package programs

import (
	"strings"
	"testing"

	"allim/internal/testkit"
)

func TestPeopleCallAPublisherWithAndWithoutTLSAndAreToldWhatFailed(t *testing.T) {
	t.Parallel()
	s, authority := newSite(t, ending), testkit.NewAuthority(t)
	cert, key := authority.Pair("publisher")
	plain := s.start("publisher", "plain").Addr("grpc")
	secure := s.start("publisher", "secure", "--tls-publisher-cert-file="+cert, "--tls-publisher-key-file="+key).Addr("grpc")
	const known = "ALLIM_KEY=the-credential-of-the-backend-ending"
	for _, c := range []struct {
		to   string
		args []string
		env  []string
		code int
		says string // on either output
	}{
		{plain, nil, []string{known}, 0, "load/1: OK, position "},
		{secure, []string{"--ca-file=" + authority.CAFile}, []string{known}, 0, "load/1: OK, position "},
		{secure, nil, []string{known, "ALLIM_PUBLISHER_CA_FILE=" + authority.CAFile}, 0, "load/1: OK, position "},
		{secure, nil, []string{known}, 1, "(is that port gRPC? If it speaks TLS: --tls or --ca-file)"},
		{secure, []string{"--tls"}, []string{known}, 1, "certificate signed by unknown authority"},
		{plain, []string{"--ca-file=" + authority.CAFile}, []string{known}, 1, "(the publisher speaks no TLS: leave out --tls and --ca-file)"},
		{plain, []string{"--ca-file=" + key}, []string{known}, 2, "--ca-file: expected a file with certificates in PEM"},
		{"127.0.0.1:1", nil, []string{known}, 1, "(does the publisher run there? --publisher says where)"},
		{plain, nil, nil, 2, "no key: expected ALLIM_KEY, or --key"},
		{plain, []string{"--key=wrong"}, nil, 1, "Unauthenticated"},
	} {
		args := append([]string{"publish", "--publisher=" + c.to, "--topic=load/1", "--data=1"}, c.args...)
		got := run(t, "allim", t.TempDir(), args, c.env)
		if said := got.stdout + got.stderr; got.code != c.code || !strings.Contains(said, c.says) {
			t.Errorf("%q with %q ended with %d, want %d, and said\n%s\nwant %q in it", args, c.env, got.code, c.code, said, c.says)
		}
	}
}
