package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/protocol7/snakes/node/secret"
)

// dialTime limits the wait for a connection, and then the wait for it to be protected. A peer on the same network answers in
// milliseconds; one that is gone should not hold up a request for longer than silence does.
const dialTime = time.Second

// connections are the kept-alive ones to other nodes. With an identity they are TLS, and each of them leads to the one
// node that it was made for: the pool of net/http goes by the host of a URL, so that url puts the node id in there. Without that, a
// request for the node that was at an address before could go out on the connection to its successor.
type connections struct {
	identity *secret.Identity // nil: there is no secret
	logger   hclog.Logger
	current  atomic.Pointer[http.Transport]
	unproven sync.Map // ids of nodes of which the log knows that they have not proven to be what they should be
}

func newConnections(identity *secret.Identity, logger hclog.Logger) *connections {
	if logger == nil {
		logger = hclog.NewNullLogger()
	}
	c := &connections{identity: identity, logger: logger}
	c.current.Store(c.newTransport())
	return c
}

func (c *connections) newTransport() *http.Transport {
	dialer := &net.Dialer{Timeout: dialTime, KeepAlive: 15 * time.Second}
	return &http.Transport{
		// Proxy stays nil: what the environment says is meant for the world outside.
		DialContext:         dialer.DialContext,
		DialTLSContext:      func(ctx context.Context, _, host string) (net.Conn, error) { return c.dial(ctx, dialer, host) },
		MaxIdleConnsPerHost: 256, // as many as there are requests at once under load
		// Shorter than the server's, so that it is this side that ends an idle connection and
		// no request meets one that is just being closed.
		IdleConnTimeout:        idleTime / 2,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
		ReadBufferSize:         16 << 10,
		WriteBufferSize:        16 << 10,
	}
}

// url returns where path is at node id, which is said to be at address.
func (c *connections) url(id, address, path string) *url.URL {
	if c.identity == nil {
		return &url.URL{Scheme: "http", Host: address, Path: path}
	}
	host, port, _ := net.SplitHostPort(address) // dialing an empty one fails
	return &url.URL{Scheme: "https", Host: net.JoinHostPort(id+"."+host, port), Path: path}
}

// dial returns a connection to the node that the host of a URL names, once both sides have proven who they are.
func (c *connections) dial(ctx context.Context, dialer *net.Dialer, host string) (net.Conn, error) {
	id, address, _ := strings.Cut(host, ".")
	if strings.HasPrefix(id, "[") { // around all of it, for a host of IPv6
		id, address = id[1:], "["+address
	}
	tcp, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	conn := tls.Client(tcp, c.identity.Client(id))
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = tcp.Close() // nothing was sent on it
		if errors.Is(err, secret.ErrOtherNode) {
			return nil, fmt.Errorf("%w: %w", errMisdirected, err)
		}
		c.warn(ctx, id, address, err)
		return nil, fmt.Errorf("prove each other to be nodes of one cluster: %w", err)
	}
	c.unproven.Delete(id)
	return conn, nil
}

// warn says once of each node why there is no connection to it, though it is there.
func (c *connections) warn(ctx context.Context, id, address string, err error) {
	if ctx.Err() != nil {
		return // it is slow, frozen for instance, which is no matter of trust
	}
	if _, said := c.unproven.LoadOrStore(id, true); !said {
		c.logger.Warn("node at an address has not proven to be of this cluster; have all nodes the same --secret-file, and the same time?",
			"id", id, "address", address, "error", err)
	}
}

// RoundTrip implements http.RoundTripper.
func (c *connections) RoundTrip(r *http.Request) (*http.Response, error) {
	return c.current.Load().RoundTrip(r)
}

// Renew has every request from now on go out on a connection that is not made yet. Those that carry a request go when
// they have its answer.
func (c *connections) Renew() {
	c.unproven.Clear()
	// Nobody asks the old one for a connection any more, so it keeps none that becomes idle.
	c.current.Swap(c.newTransport()).CloseIdleConnections()
}

// CloseIdleConnections closes those that carry no request.
func (c *connections) CloseIdleConnections() { c.current.Load().CloseIdleConnections() }
