package secret

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// Protocol is what nodes agree on by ALPN. It tells them from clients on the same port.
const Protocol = "snakes-peer/1"

const (
	// lifetime is how long a certificate is good for after it was made.
	lifetime = 24 * time.Hour
	// renewal is the age at which a certificate is made anew.
	renewal = lifetime / 4
	// backdating is how long before it was made a certificate is good for, on machines whose clocks are behind.
	backdating = lifetime / 2
)

var (
	// ErrOtherSecret is in what the handshake with a node returns that uses a secret which is not accepted here.
	ErrOtherSecret = errors.New("the other side uses a secret that is not accepted here")
	// ErrOtherNode is in what the handshake with a node returns that is not the one that was meant.
	ErrOtherNode = errors.New("another node answers")
	// ErrNoNode is what Identity.Peer returns for a connection on which the other side has not proven to be a node.
	ErrNoNode = errors.New("the other side has not proven to be a node")
)

// Identity is one node in TLS with others. It is safe for concurrent use.
type Identity struct {
	nodeID, cluster string
	now             func() time.Time
	trust           atomic.Pointer[trust]
}

// trust is what follows from one Set.
type trust struct {
	// accepted are the authorities, by the id of their key.
	accepted map[string]*x509.CertPool
	used     authority
	mine     atomic.Pointer[certificate]
}

// authority signs the certificates of all nodes that use one secret.
type authority struct {
	certificate *x509.Certificate
	key         ed25519.PrivateKey
}

// certificate is one of this node, and when it was made.
type certificate struct {
	tls.Certificate
	made time.Time
}

// NewIdentity returns what a node, by its id, is in a cluster, by its name. secrets is not zero. now tells the time; nil
// means time.Now.
func NewIdentity(secrets Set, cluster, nodeID string, now func() time.Time) (*Identity, error) {
	if now == nil {
		now = time.Now
	}
	i := &Identity{nodeID: nodeID, cluster: cluster, now: now}
	return i, i.Use(secrets)
}

// Use has i show and accept other secrets from now on. Connections stay as they are, but see Peer. After an error i is
// what it was.
func (i *Identity) Use(secrets Set) error {
	if secrets.IsZero() {
		return errors.New("no secret")
	}
	t := &trust{accepted: make(map[string]*x509.CertPool)}
	for n, secret := range secrets.all() {
		a, err := newAuthority(secret, i.cluster)
		if err != nil {
			return fmt.Errorf("derive the keys of a secret: %w", err)
		}
		if n == 0 {
			t.used = a
		}
		pool := x509.NewCertPool()
		pool.AddCert(a.certificate)
		t.accepted[string(a.certificate.SubjectKeyId)] = pool
	}
	if _, err := t.current(i.nodeID, i.now()); err != nil {
		return err
	}
	i.trust.Store(t)
	return nil
}

// newAuthority returns the same key on every node. The certificates around it need not be the same.
func newAuthority(secret pseudorandom, cluster string) (authority, error) {
	seed, err := secret.expand("nodes", cluster)
	if err != nil {
		return authority{}, err
	}
	key := ed25519.NewKeyFromSeed(seed)
	id := sha256.Sum256(key.Public().(ed25519.PublicKey))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "snakes cluster " + cluster},
		SubjectKeyId: id[:20],
		NotBefore:    time.Unix(0, 0),
		NotAfter:     time.Date(9999, time.December, 31, 23, 59, 59, 0, time.UTC), // RFC 5280: it does not expire
		IsCA:         true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return authority{}, err
	}
	parsed, err := x509.ParseCertificate(der)
	return authority{parsed, key}, err
}

// sign makes a certificate of node id.
func (a authority) sign(nodeID string, now time.Time) (*certificate, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		NotBefore: now.Add(-backdating), NotAfter: now.Add(lifetime),
		URIs:        []*url.URL{{Scheme: "snakes", Opaque: "node:" + nodeID}},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, public, a.key)
	if err != nil {
		return nil, err
	}
	return &certificate{tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, now}, nil
}

// current returns this node's certificate, made anew if it is old, or if the clock has gone back behind it. Two calls
// at once may make two, and either is good.
func (t *trust) current(nodeID string, now time.Time) (*tls.Certificate, error) {
	if c := t.mine.Load(); c != nil && now.Sub(c.made).Abs() < renewal {
		return &c.Certificate, nil
	}
	c, err := t.used.sign(nodeID, now)
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	t.mine.Store(c)
	return &c.Certificate, nil
}

// Server returns what a node accepts other nodes with. It holds for all connections, and follows Use.
func (i *Identity) Server() *tls.Config {
	c := i.config(func(string) error { return nil })
	c.ClientAuth = tls.RequireAnyClientCert // what it is worth, VerifyConnection decides
	c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return i.trust.Load().current(i.nodeID, i.now()) }
	return c
}

// Client returns what to connect to node id with.
func (i *Identity) Client(nodeID string) *tls.Config {
	c := i.config(func(id string) error {
		if id != nodeID {
			return fmt.Errorf("%w: node %s", ErrOtherNode, id)
		}
		return nil
	})
	c.InsecureSkipVerify = true // no host name counts, but the node id, and VerifyConnection is stricter
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return i.trust.Load().current(i.nodeID, i.now())
	}
	return c
}

// config is what both sides have in common. fits says whether the node that the other side is may be that.
func (i *Identity) config(fits func(nodeID string) error) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{Protocol},
		// A ticket would let in whoever was let in once, see the package's documentation.
		SessionTicketsDisabled: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			id, err := i.verify(state)
			if err != nil {
				return err
			}
			return fits(id)
		},
	}
}

// verify returns the id of the node that is the other side of a connection.
func (i *Identity) verify(state tls.ConnectionState) (string, error) {
	if state.NegotiatedProtocol != Protocol || len(state.PeerCertificates) != 1 {
		return "", ErrNoNode
	}
	leaf := state.PeerCertificates[0]
	authority := i.trust.Load().accepted[string(leaf.AuthorityKeyId)]
	if authority == nil {
		return "", ErrOtherSecret
	}
	// Only by the authority that it names, so that Peer can go by the name.
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: authority, CurrentTime: i.now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	if expired, ok := errors.AsType[x509.CertificateInvalidError](err); ok && expired.Reason == x509.Expired {
		return "", fmt.Errorf("the clocks of both sides are hours apart, or one has stood still: %w", err)
	}
	if err != nil {
		return "", fmt.Errorf("certificate of the other side: %w", err)
	}
	return nodeOf(leaf)
}

// nodeOf returns the node id that a certificate names.
func nodeOf(leaf *x509.Certificate) (string, error) {
	if len(leaf.URIs) != 1 || leaf.URIs[0].Scheme != "snakes" {
		return "", ErrNoNode
	}
	id, found := strings.CutPrefix(leaf.URIs[0].Opaque, "node:")
	if !found || id == "" {
		return "", ErrNoNode
	}
	return id, nil
}

// Peer returns the id of the node at the other side of a connection that the configuration of Server or Client has
// made; state is nil for a connection without TLS. ErrNoNode: it is not such a connection. ErrOtherSecret: it was, but
// the secret that the other side used is not accepted any more.
func (i *Identity) Peer(state *tls.ConnectionState) (string, error) {
	if state == nil || !state.HandshakeComplete || state.NegotiatedProtocol != Protocol || len(state.PeerCertificates) != 1 {
		return "", ErrNoNode
	}
	leaf := state.PeerCertificates[0] // which verify has looked at
	if i.trust.Load().accepted[string(leaf.AuthorityKeyId)] == nil {
		return "", ErrOtherSecret
	}
	return nodeOf(leaf)
}
