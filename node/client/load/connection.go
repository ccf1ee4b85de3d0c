package load

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"math/rand/v2"
	"net"
	"net/url"
	"time"
)

const (
	// bufferSize lets an answer of 256 KiB be read in a few calls.
	bufferSize = 32 << 10
	// failurePause keeps servers that refuse at once from being stormed.
	failurePause = 10 * time.Millisecond
)

// connection sends one request after the other. It is of one goroutine.
type connection struct {
	load   *Load
	rand   *rand.Rand
	next   func() uint64 // the number of the next key
	server int           // index of the server to connect to

	// Of the current connection; conn is nil if there is none.
	conn     net.Conn
	release  func() bool // undoes that conn is closed at the end of the load
	reader   *bufio.Reader
	requests [Mix]request // by operation
}

func newConnection(l *Load, index int) *connection {
	c := &connection{load: l, server: index % len(l.servers), reader: bufio.NewReaderSize(nil, bufferSize)}
	c.rand = rand.New(rand.NewPCG(uint64(index), uint64(l.started.UnixNano())))
	c.next = l.cfg.Keys(c.rand)
	return c
}

// run works until there is nothing more to do.
func (c *connection) run(ctx context.Context) {
	defer c.close()
	for {
		due, more := c.load.next(ctx)
		if !more {
			return
		}
		number := c.next()
		for again := true; again; {
			err := c.do(ctx, number)
			if ctx.Err() != nil {
				return // what was under way counts for nothing
			}
			c.load.record(time.Since(due), err)
			if err != nil && !sleep(ctx, failurePause) {
				return
			}
			again = err != nil && c.load.cfg.Retry
		}
	}
}

// do sends one request for the key with this number and reads its answer.
func (c *connection) do(ctx context.Context, number uint64) error {
	op := c.load.cfg.Op
	if op == Mix {
		op = Get
		if c.rand.IntN(20) == 0 {
			op = Put
		}
	}
	if c.conn == nil {
		if err := c.connect(ctx); err != nil {
			return err
		}
	}
	q := c.requests[op]
	putDigits(q.digits, number)
	err := c.conn.SetDeadline(time.Now().Add(c.load.cfg.Timeout))
	if err == nil {
		_, err = c.conn.Write(q.bytes)
	}
	if err != nil {
		c.fail()
		return err
	}
	last, err := readAnswer(c.reader)
	_, answered := err.(*statusError)
	switch {
	case err != nil && !answered:
		c.fail()
	case last:
		c.close()
	}
	return err
}

// connect opens a connection to the current server, or makes the next one current.
func (c *connection) connect(ctx context.Context) error {
	server := c.load.servers[c.server]
	conn, err := dial(ctx, server, c.load.cfg.Timeout, c.load.cfg.RootCAs)
	if err != nil {
		c.fail()
		return err
	}
	c.conn = conn
	c.release = context.AfterFunc(ctx, func() { _ = conn.Close() }) // it ends what is under way
	c.reader.Reset(conn)
	for op := range Mix {
		message := c.load.cfg.Format(op, KeyName(c.load.cfg.Prefix, 0), c.load.cfg.Value)
		c.requests[op] = newRequest(server, message, c.load.cfg.Prefix, c.load.cfg.Token)
	}
	return nil
}

func dial(ctx context.Context, server *url.URL, timeout time.Duration, trusted *x509.CertPool) (net.Conn, error) {
	address := server.Host
	if server.Port() == "" {
		address = net.JoinHostPort(server.Hostname(), server.Scheme) // the names of the default ports
	}
	dialer := &net.Dialer{Timeout: timeout}
	if server.Scheme == "https" {
		return (&tls.Dialer{NetDialer: dialer, Config: &tls.Config{RootCAs: trusted}}).DialContext(ctx, "tcp", address)
	}
	return dialer.DialContext(ctx, "tcp", address)
}

// fail goes to the next server.
func (c *connection) fail() {
	c.close()
	c.server = (c.server + 1) % len(c.load.servers)
}

func (c *connection) close() {
	if c.conn == nil {
		return
	}
	c.release()
	_ = c.conn.Close() // nothing that matters is under way
	c.conn = nil
}
