package transport

import (
	"io"
	"net"
	"sync/atomic"
)

// conn is a TCP connection whose first byte was read already and is read once more by its owner. The
// TCPConn is embedded, not hidden behind an interface, so that CloseWrite, ReadFrom (sendfile) and
// keep-alive stay in reach of the owner; WriteTo is the only other way to read, and is covered below.
type conn struct {
	*net.TCPConn
	first  byte
	unread atomic.Bool
}

func newConn(tcp *net.TCPConn, first byte) *conn {
	c := &conn{TCPConn: tcp, first: first}
	c.unread.Store(true)
	return c
}

// OpensTLS reports whether a connection that Requests has accepted, and that nobody has read from yet, begins as TLS does.
func OpensTLS(accepted net.Conn) bool {
	c, ok := accepted.(*conn)
	return ok && c.first == tlsByte
}

// Read returns the first byte alone: waiting for more could block although there is something to read.
func (c *conn) Read(p []byte) (int, error) {
	if len(p) > 0 && c.unread.CompareAndSwap(true, false) {
		p[0] = c.first
		return 1, nil
	}
	return c.TCPConn.Read(p)
}

// WriteTo is what io.Copy prefers over Read.
func (c *conn) WriteTo(w io.Writer) (int64, error) {
	var written int64
	if c.unread.CompareAndSwap(true, false) {
		n, err := w.Write([]byte{c.first})
		written = int64(n)
		if err != nil {
			return written, err
		}
	}
	n, err := c.TCPConn.WriteTo(w)
	return written + n, err
}
