package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// Defaults of Config.
const (
	DefaultServer   = "http://127.0.0.1:9000"
	DefaultMaxValue = 256 << 20
)

// dialTimeout is how long a server may take to accept a connection before the next one is asked: long enough for one
// lost packet, short enough that two dead machines leave time for a third.
const dialTimeout = 2 * time.Second

// Config says whom to ask and how. It is passed by value.
type Config struct {
	// Servers are base URLs, asked in this order. "host:port" means "http://host:port". None means DefaultServer.
	Servers []string
	// HTTPClient does the requests; nil means one that waits 2 s for a connection. It is copied, and the copy follows
	// no redirects.
	HTTPClient *http.Client
	// RootCAs are the certificates to trust of https servers; nil means those that the system trusts. An HTTPClient has its own.
	RootCAs *x509.CertPool
	// Token is shown to nodes that ask for one; empty means none. It has no blanks. It goes to all Servers, in the clear
	// to those that are no https URLs.
	Token string
	// MaxValue is the size in bytes of the largest answer to read; 0 means DefaultMaxValue. It takes memory only as an
	// answer arrives.
	MaxValue int64
}

// Client asks the nodes of one cluster. It is safe for concurrent use and leaves no goroutine behind a call but those of net/http.
type Client struct {
	servers  []*url.URL
	token    string
	http     http.Client
	maxValue int64
	// first is the index of the server to begin with: the one that answered last.
	first atomic.Int32
}

// New returns a client. It connects to nobody yet. The error names all servers that are no base URLs.
func New(cfg Config) (*Client, error) {
	if len(cfg.Servers) == 0 {
		cfg.Servers = []string{DefaultServer}
	}
	if cfg.MaxValue == 0 {
		cfg.MaxValue = DefaultMaxValue
	}
	c := &Client{maxValue: cfg.MaxValue, token: cfg.Token}
	var errs []error
	if c.maxValue < 0 {
		errs = append(errs, fmt.Errorf("the largest value, %d bytes, is below zero", c.maxValue))
	}
	for _, server := range cfg.Servers {
		base, err := parseServer(server)
		errs = append(errs, err)
		c.servers = append(c.servers, base)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if cfg.HTTPClient != nil {
		c.http = *cfg.HTTPClient
	} else {
		c.http.Transport = &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
			TLSHandshakeTimeout: dialTimeout,
			TLSClientConfig:     &tls.Config{RootCAs: cfg.RootCAs},
			// How long to wait for a node that may refuse a large body before it is sent.
			ExpectContinueTimeout: time.Second,
			ForceAttemptHTTP2:     true,
			MaxIdleConnsPerHost:   64,
			IdleConnTimeout:       time.Minute, // below the two minutes after which a node closes it
			DisableCompression:    true,        // values are bytes, and a length that is known can be checked
		}
	}
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c, nil
}

// Close closes the connections that wait for the next request. The client can be used further.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func parseServer(server string) (*url.URL, error) {
	text := server
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	base, err := url.Parse(text)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Hostname() == "" ||
		base.RawQuery != "" || base.ForceQuery || base.Fragment != "" {
		return nil, fmt.Errorf("server %q is no URL like %s", server, DefaultServer)
	}
	base.Path = strings.TrimRight(base.Path, "/")
	base.RawPath = strings.TrimRight(base.RawPath, "/")
	return base, nil
}

// request is one thing to ask of any server.
type request struct {
	method string
	path   string // with its query, as it is to be sent
	body   []byte // nil: none
	// stream is the body of a request that is too large for memory; nil: none. It is read once, unless it can seek.
	stream *stream
	header http.Header
	want   int // the status that means success
}

// answer is what a server said, with the status that was wanted.
type answer struct {
	header http.Header
	body   []byte
}

// do asks one server after the other until one answers that is ready. The answer comes with an *Error as well.
func (c *Client) do(ctx context.Context, q request) (answer, error) {
	response, err := c.open(ctx, q)
	if err != nil {
		return answer{}, err
	}
	return c.read(response, q.want)
}

// open is do with an answer of which only the beginning is there.
func (c *Client) open(ctx context.Context, q request) (*http.Response, error) {
	first := int(c.first.Load())
	var causes []error
	var refusal *http.Response // of the first one that is not ready
	var connected atomic.Bool  // so that q may have arrived somewhere
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	})
	for i := range c.servers {
		k := (first + i) % len(c.servers)
		response, err := c.send(traced, c.servers[k], q)
		if err == nil {
			if !isNotReady(response) {
				c.first.Store(int32(k))
				return response, nil
			}
			if refusal == nil {
				refusal = response
			}
			err = ErrNotReady
		}
		causes = append(causes, fmt.Errorf("%s: %w", c.servers[k].Redacted(), err))
		if cause := ctx.Err(); cause != nil {
			if !errors.Is(err, cause) { // net/http tells the context's own cause instead
				causes = append(causes, cause)
			}
			break
		}
		if q.stream != nil && i < len(c.servers)-1 {
			if err := q.stream.rewind(ctx); err != nil {
				causes = append(causes, err)
				break
			}
		}
	}
	if refusal != nil && ctx.Err() == nil {
		return refusal, nil // it says more than that others do not answer
	}
	if q.method != http.MethodGet && connected.Load() {
		return nil, fmt.Errorf("%w, but one may have done it: %w", ErrUnreachable, errors.Join(causes...))
	}
	return nil, fmt.Errorf("%w: %w", ErrUnreachable, errors.Join(causes...))
}

// isNotReady reports whether another server may do what the one that answered does not, since it joins, catches up or
// stops. The answer can still be read.
func isNotReady(response *http.Response) bool {
	if response.StatusCode != http.StatusServiceUnavailable {
		return false
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxProblem))
	_ = response.Body.Close() // all of it that is wanted is here
	response.Body = io.NopCloser(bytes.NewReader(body))
	return err == nil && errorOf(response.StatusCode, response.Header.Get("Content-Type"), body).Code == notReady
}

func (c *Client) send(ctx context.Context, server *url.URL, q request) (*http.Response, error) {
	var body io.Reader
	switch {
	case q.body != nil:
		body = bytes.NewReader(q.body)
	case q.stream != nil:
		body = q.stream.begin()
	}
	r, err := http.NewRequestWithContext(ctx, q.method, server.String()+q.path, body)
	if err != nil {
		return nil, err
	}
	for name, values := range q.header {
		r.Header[name] = values
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	// An empty list is not sent; it tells net/http that this request may be sent again when a connection that it kept
	// turns out to be closed.
	r.Header["Idempotency-Key"] = nil
	response, err := c.http.Do(r)
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err // the rest of it repeats what was asked
	}
	return response, err
}

// read reads an answer to its end.
func (c *Client) read(response *http.Response, want int) (answer, error) {
	defer response.Body.Close()
	limit := c.maxValue
	if response.StatusCode != want {
		limit = maxProblem
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	a := answer{header: response.Header, body: body}
	switch {
	case response.StatusCode != want:
		// If it was cut off it is shown as far as it came.
		return a, errorOf(response.StatusCode, response.Header.Get("Content-Type"), body[:min(int64(len(body)), limit)])
	case err != nil:
		return a, fmt.Errorf("the answer ended early: %w", err)
	case int64(len(body)) > limit:
		return a, fmt.Errorf("%w: the answer has more than %d bytes", ErrTooLarge, limit)
	case response.Header.Get("Snakes-Node") == "": // which every node sets
		return a, fmt.Errorf("%w: %s has status %d, but no header Snakes-Node", ErrNotSnakes, response.Request.URL.Redacted(), want)
	}
	return a, nil
}
