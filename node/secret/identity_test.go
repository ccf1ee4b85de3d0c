package secret

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	nodeA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	nodeB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	nodeC = "cccccccccccccccccccccccccccccccc"
)

func identity(t testing.TB, set Set, nodeID string) *Identity {
	t.Helper()
	return identityAt(t, set, nodeID, time.Now)
}

func identityAt(t testing.TB, set Set, nodeID string, now func() time.Time) *Identity {
	t.Helper()
	i, err := NewIdentity(set, "snakes", nodeID, now)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// outcome is what both sides of a handshake got.
type outcome struct {
	clientErr, serverErr error
	client, server       tls.ConnectionState
}

// handshake has a client and a server shake hands and send each other a byte: in TLS 1.3 the client is done before the
// server has seen its certificate.
func handshake(t testing.TB, client, server *tls.Config) outcome {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	near, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	var o outcome
	var both sync.WaitGroup
	end := func(c *tls.Conn, state *tls.ConnectionState, err *error) {
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		if *err = c.Handshake(); *err == nil {
			if _, *err = c.Write([]byte("x")); *err == nil {
				_, *err = c.Read(make([]byte, 1))
			}
		}
		*state = c.ConnectionState()
	}
	both.Go(func() { end(tls.Server(far, server), &o.server, &o.serverErr) })
	both.Go(func() { end(tls.Client(near, client), &o.client, &o.clientErr) })
	both.Wait()
	return o
}

func (o outcome) String() string {
	return fmt.Sprintf("client %v, server %v", o.clientErr, o.serverErr)
}

func TestNodesOfOneSecretKnowEachOther(t *testing.T) {
	a, b := identity(t, parse(t, first), nodeA), identity(t, parse(t, first), nodeB)
	o := handshake(t, a.Client(nodeB), b.Server())
	if o.clientErr != nil || o.serverErr != nil {
		t.Fatal(o)
	}
	if o.client.Version != tls.VersionTLS13 || o.client.NegotiatedProtocol != Protocol {
		t.Errorf("got version %x, protocol %q; want TLS 1.3 and %q", o.client.Version, o.client.NegotiatedProtocol, Protocol)
	}
	if id, err := b.Peer(&o.server); id != nodeA || err != nil {
		t.Errorf("the server's Peer = %q, %v; want %q", id, err, nodeA)
	}
	if id, err := a.Peer(&o.client); id != nodeB || err != nil {
		t.Errorf("the client's Peer = %q, %v; want %q", id, err, nodeB)
	}
}

func TestClientRefusesANodeThatItDoesNotMean(t *testing.T) {
	a, b := identity(t, parse(t, first), nodeA), identity(t, parse(t, first), nodeB)
	if o := handshake(t, a.Client(nodeC), b.Server()); !errors.Is(o.clientErr, ErrOtherNode) {
		t.Errorf("got %v, want the client to fail with %v", o, ErrOtherNode)
	}
}

func TestOtherSecretsAndClustersAreKeptOutOnBothSides(t *testing.T) {
	a := identity(t, parse(t, first), nodeA)
	otherCluster, err := NewIdentity(parse(t, first), "snakes2", nodeB, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]*Identity{
		"another secret":                      identity(t, parse(t, second), nodeB),
		"our secret accepted, another in use": identity(t, parse(t, second, first), nodeB),
		"another cluster":                     otherCluster,
	} {
		if o := handshake(t, a.Client(nodeB), b.Server()); !errors.Is(o.clientErr, ErrOtherSecret) {
			t.Errorf("%s, asked: got %v, want the client to fail with %v", name, o, ErrOtherSecret)
		}
		if o := handshake(t, trusting(b.Client(nodeA)), a.Server()); !errors.Is(o.serverErr, ErrOtherSecret) || o.clientErr == nil {
			t.Errorf("%s, asking: got %v, want the server to fail with %v", name, o, ErrOtherSecret)
		}
	}
}

// trusting is c of an attacker, who does not care whom he talks to.
func trusting(c *tls.Config) *tls.Config {
	c.VerifyConnection = nil
	return c
}

// What an attacker can show without the secret.
func TestForgedCertificatesAreRefused(t *testing.T) {
	b := identity(t, parse(t, first), nodeB)
	authority, err := newAuthority(parse(t, first).all()[0], "snakes")
	if err != nil {
		t.Fatal(err)
	}
	other, err := newAuthority(parse(t, second).all()[0], "snakes")
	if err != nil {
		t.Fatal(err)
	}
	// It claims to be signed by the key of the right authority, down to the id of that key.
	*other.certificate = *authority.certificate
	other.certificate.PublicKey = other.key.Public()
	forged, err := other.sign(nodeA, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(forged.Certificate.Certificate[0])
	if err != nil || string(leaf.AuthorityKeyId) != string(authority.certificate.SubjectKeyId) {
		t.Fatalf("the forged certificate does not name the authority: %v", err)
	}
	show := func(c tls.Certificate) *tls.Config {
		return &tls.Config{
			MinVersion: tls.VersionTLS13, NextProtos: []string{Protocol}, InsecureSkipVerify: true,
			Certificates: []tls.Certificate{c},
		}
	}
	for name, client := range map[string]*tls.Config{
		"signed by another key":       show(forged.Certificate),
		"no certificate":              {NextProtos: []string{Protocol}, InsecureSkipVerify: true},
		"the authority's certificate": show(tls.Certificate{Certificate: [][]byte{authority.certificate.Raw}, PrivateKey: other.key}),
	} {
		if o := handshake(t, client, b.Server()); o.serverErr == nil || o.clientErr == nil {
			t.Errorf("%s: got %v, want both to fail", name, o)
		}
	}
	// The right certificate, but not as a node.
	a := identity(t, parse(t, first), nodeA)
	plain := a.Client(nodeB)
	plain.NextProtos, plain.VerifyConnection = nil, nil
	if o := handshake(t, plain, b.Server()); !errors.Is(o.serverErr, ErrNoNode) {
		t.Errorf("no protocol: got %v, want %v", o, ErrNoNode)
	}
	old := a.Client(nodeB)
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if o := handshake(t, old, b.Server()); o.serverErr == nil {
		t.Errorf("TLS 1.2: got %v, want it refused", o)
	}
}

func TestCertificatesExpireAndClocksMayDifferByHours(t *testing.T) {
	now := time.Date(2026, time.November, 1, 12, 0, 0, 0, time.UTC)
	a := identityAt(t, parse(t, first), nodeA, func() time.Time { return now })
	for _, test := range []struct {
		skew time.Duration
		ok   bool
	}{
		{-11 * time.Hour, true},
		{0, true},
		{11 * time.Hour, true},
		{-13 * time.Hour, false},
		{25 * time.Hour, false},
		{-30 * 365 * 24 * time.Hour, false},
	} {
		b := identityAt(t, parse(t, first), nodeB, func() time.Time { return now.Add(test.skew) })
		o := handshake(t, a.Client(nodeB), b.Server())
		if ok := o.clientErr == nil && o.serverErr == nil; ok != test.ok {
			t.Errorf("clocks that differ by %v: got %v, want success: %v", test.skew, o, test.ok)
		}
		if !test.ok && !strings.Contains(fmt.Sprint(o.serverErr, o.clientErr), "clocks") {
			t.Errorf("clocks that differ by %v: got %v, want an error that speaks of clocks", test.skew, o)
		}
	}
}

func TestCertificatesAreRenewedInTime(t *testing.T) {
	now := time.Date(2026, time.November, 1, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	a, b := identityAt(t, parse(t, first), nodeA, clock), identityAt(t, parse(t, first), nodeB, clock)
	server, made := b.Server(), map[string]bool{}
	for range 200 { // for 50 days
		now = now.Add(6 * time.Hour)
		o := handshake(t, a.Client(nodeB), server)
		if o.clientErr != nil || o.serverErr != nil {
			t.Fatalf("at %v: %v", now, o)
		}
		leaf := o.client.PeerCertificates[0]
		made[leaf.SerialNumber.String()] = true
		if left := leaf.NotAfter.Sub(now); left < lifetime-renewal {
			t.Fatalf("at %v: the certificate holds for %v only", now, left)
		}
	}
	now = now.Add(-90 * 24 * time.Hour) // somebody sets the clocks right
	if o := handshake(t, a.Client(nodeB), server); o.clientErr != nil || o.serverErr != nil {
		t.Fatalf("with clocks set back: %v", o)
	}
	if len(made) != 200 {
		t.Errorf("got %d certificates in 50 days, want one each six hours", len(made))
	}
	before := b.trust.Load().mine.Load()
	now = now.Add(renewal - time.Second)
	if handshake(t, a.Client(nodeB), server); b.trust.Load().mine.Load() != before {
		t.Error("a young certificate was made anew")
	}
}

// Each of two nodes accepts what the other uses as long as their files are at most one step of a rotation apart.
func TestRotationKeepsNodesOneStepApartTogether(t *testing.T) {
	steps := []Set{parse(t, first), parse(t, first, second), parse(t, second, first), parse(t, second)}
	a, b := identity(t, steps[0], nodeA), identity(t, steps[0], nodeB)
	meet := func() {
		t.Helper()
		for _, o := range []outcome{handshake(t, a.Client(nodeB), b.Server()), handshake(t, b.Client(nodeA), a.Server())} {
			if o.clientErr != nil || o.serverErr != nil {
				t.Error(o)
			}
		}
	}
	for _, step := range steps[1:] {
		for _, i := range []*Identity{a, b} {
			if err := i.Use(step); err != nil {
				t.Fatal(err)
			}
			meet()
		}
	}
}

func TestPeerCountsOnlyWhileItsSecretIsAccepted(t *testing.T) {
	a, b := identity(t, parse(t, first), nodeA), identity(t, parse(t, first), nodeB)
	o := handshake(t, a.Client(nodeB), b.Server())
	if err := b.Use(parse(t, second, first)); err != nil {
		t.Fatal(err)
	}
	if id, err := b.Peer(&o.server); id != nodeA || err != nil {
		t.Errorf("while it is accepted: Peer = %q, %v; want %q", id, err, nodeA)
	}
	if err := b.Use(parse(t, second)); err != nil {
		t.Fatal(err)
	}
	if id, err := b.Peer(&o.server); !errors.Is(err, ErrOtherSecret) {
		t.Errorf("once it is removed: Peer = %q, %v; want %v", id, err, ErrOtherSecret)
	}
	for name, state := range map[string]*tls.ConnectionState{
		"no TLS": nil, "no handshake": {NegotiatedProtocol: Protocol}, "a client's TLS": {HandshakeComplete: true},
	} {
		if id, err := b.Peer(state); !errors.Is(err, ErrNoNode) {
			t.Errorf("%s: Peer = %q, %v; want %v", name, id, err, ErrNoNode)
		}
	}
}

// A ticket from before a rotation must not get in after it.
func TestSessionsAreNotResumed(t *testing.T) {
	a, b := identity(t, parse(t, first), nodeA), identity(t, parse(t, first), nodeB)
	server, client := b.Server(), a.Client(nodeB)
	client.ClientSessionCache, client.ServerName = tls.NewLRUClientSessionCache(8), "b"
	for range 3 {
		if o := handshake(t, client, server); o.clientErr != nil || o.serverErr != nil || o.server.DidResume {
			t.Fatalf("got %v, resumed: %v; want full handshakes", o, o.server.DidResume)
		}
	}
}
