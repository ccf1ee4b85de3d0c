package node

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/protocol7/snakes/membership/transport"
	"github.com/protocol7/snakes/node/secret"
	"github.com/protocol7/snakes/node/token"
)

// credentials are what was read last of the files that nobody else may read. They outlast a node that begins anew: what is
// in the files then counts from the next signal on.
type credentials struct {
	secrets atomic.Pointer[secret.Set] // zero: there are none
	tokens  atomic.Pointer[token.Set]  // nil: there are none

	certificate *certificate // nil: clients come without TLS
}

// readCredentials reads the files that were not read yet. The error is a *UsageError.
func (n *Node) readCredentials() error {
	if n.cfg.protected() && n.secrets.Load().IsZero() {
		secrets, err := secret.Read(n.cfg.SecretFile)
		if err != nil {
			return &UsageError{Problems: []string{err.Error()}}
		}
		n.secrets.Store(&secrets)
	}
	if n.cfg.TokenFile != "" && n.tokens.Load() == nil {
		if err := n.readTokens(); err != nil {
			return &UsageError{Problems: []string{err.Error()}}
		}
	}
	if n.cfg.TLSCert != "" && n.certificate == nil {
		c, err := loadCertificate(n.cfg.TLSCert, n.cfg.TLSKey)
		if err != nil {
			return &UsageError{Problems: []string{err.Error()}}
		}
		n.certificate = c
	}
	return nil
}

// readTokens takes in the token file.
func (n *Node) readTokens() error {
	tokens, err := token.Load(n.cfg.TokenFile)
	if err == nil {
		n.tokens.Store(tokens)
	}
	return err
}

// currentTokens are those that were read last.
type currentTokens struct{ set *atomic.Pointer[token.Set] }

// Role implements tokens.
func (t currentTokens) Role(shown string) token.Role { return t.set.Load().Role(shown) }

// identify makes what this node proves to others that it is, if there is a secret.
func (n *Node) identify() (err error) {
	if n.cfg.protected() {
		n.identity, err = secret.NewIdentity(*n.secrets.Load(), n.cfg.Cluster, n.id, nil)
	}
	return err
}

// followFiles reads files again whenever the node is told to, until ctx ends.
func (n *Node) followFiles(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.cfg.Reload:
		}
		n.reload()
	}
}

// readFiles takes in the certificate, the token file and the secret file, if there are any. What is wrong with one is logged as a fact of
// the file, which package events keeps to the log: it has the path in it.
func (n *Node) readFiles() {
	if n.identity == nil {
		n.logger.Info("nothing to read again: this node has no secret file")
		return
	}
	if n.certificate != nil {
		n.certificate.follow(true, n.logger)
	}
	if n.cfg.TokenFile != "" {
		if err := n.readTokens(); err != nil {
			n.logger.Error("token file not taken in; the tokens stay what they were", "file", err)
		} else {
			n.logger.Info("token file taken in", "path", n.cfg.TokenFile)
		}
	}
	secrets, err := secret.Read(n.cfg.SecretFile)
	if err == nil {
		err = n.useSecrets(secrets)
	}
	if err != nil {
		n.logger.Error("secret file not taken in; the secrets stay what they were", "file", err)
		return
	}
	n.logger.Info("secret file taken in", "path", n.cfg.SecretFile, "secrets", secrets.Len())
}

// useSecrets has this node use and accept secrets instead of those before. Requests under way are not disturbed.
func (n *Node) useSecrets(secrets secret.Set) error {
	keys, err := secrets.GossipKeys(n.cfg.Cluster)
	if err != nil {
		return err
	}
	if err := n.identity.Use(secrets); err != nil {
		return err
	}
	if err := n.membership.SetKeys(keys); err != nil {
		return err
	}
	n.secrets.Store(&secrets)
	n.peers.Renew()
	return nil
}

// requests returns a listener for HTTP: what begins as TLS is taken for that, if there is a secret. Those of several calls
// share what comes.
func (n *Node) requests() net.Listener {
	l := listener{Listener: n.transport.Requests(), door: n.door, logger: n.logger.Named("http"), closed: make(chan struct{})}
	l.close = sync.OnceFunc(func() { close(l.closed) })
	if n.identity != nil {
		l.config = n.tlsConfig()
	}
	return l
}

// tlsConfig returns what to accept TLS with, of other nodes and of clients, which ALPN tells apart.
func (n *Node) tlsConfig() *tls.Config {
	peers := n.identity.Server()
	var clients *tls.Config
	if n.certificate != nil {
		clients = n.certificate.server(n.logger)
	}
	return &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if slices.Contains(hello.SupportedProtos, secret.Protocol) {
			return peers, nil
		}
		if clients != nil {
			return clients, nil
		}
		return nil, errNoClientTLS
	}}
}

// errNoClientTLS ends the handshake of a client that tries TLS where there is no certificate for it.
var errNoClientTLS = errors.New("this node speaks TLS with other nodes only")

// listener is a listener of connections that come through a door, some of them TLS.
type listener struct {
	net.Listener
	door   *door
	config *tls.Config // nil: none is TLS
	logger hclog.Logger
	closed chan struct{}
	close  func() // closes closed, once
}

// Accept waits for no handshake.
func (l listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	in, open := l.door.enter(l.closed, conn)
	switch {
	case !open:
		return nil, errors.Join(net.ErrClosed, conn.Close())
	case l.config == nil || !transport.OpensTLS(conn):
		return in, nil
	}
	return &tlsConn{tls.Server(in, l.config), l.logger}, nil
}

// Close implements net.Listener.
func (l listener) Close() error {
	l.close()
	return l.Listener.Close()
}

// tlsConn is a TLS connection of the server. It hides from net/http that it is one: of a *tls.Conn, net/http closes those
// whose protocol it does not know.
type tlsConn struct {
	*tls.Conn
	logger hclog.Logger
}

// ConnectionState shakes hands, for as long as headers may take, and returns what came of it. net/http calls it once,
// before it reads, in the goroutine of the connection, and shows it to handlers as Request.TLS. What a failed handshake
// was about, the next read tells.
func (c *tlsConn) ConnectionState() tls.ConnectionState {
	_ = c.SetDeadline(time.Now().Add(headerTime)) // it fails on a closed connection, as the rest does then
	if err := c.Handshake(); err != nil {
		c.logger.Debug("handshake failed", "remote", c.RemoteAddr(), "error", err)
	}
	_ = c.SetDeadline(time.Time{}) // as above
	return c.Conn.ConnectionState()
}
