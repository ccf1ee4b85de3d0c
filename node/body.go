package node

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"time"
)

const (
	// progressTime is how long a client may take for the next progressBytes of a body, or for the rest of it: 6.4 KiB a second,
	// which the slowest line manages. A pause alone would let a byte every few seconds keep a connection for
	// hours.
	progressTime  = 10 * time.Second
	progressBytes = 64 << 10
	// drainBytes and drainTime limit what is read of a refused body: enough for a client to
	// finish sending and read the answer, not enough to keep the node busy.
	drainBytes = 64 << 20
	drainTime  = 2 * time.Second
	// firstBuffer is how much memory a body gets on the word of its Content-Length alone, and
	// without being counted.
	firstBuffer = 16 << 10
)

// body reads the whole body of r, at most limit bytes. The caller owns it. What is large takes its room in g until r is answered.
//
// errLengthRequired: r says nothing of its length. errTooLarge: it is above limit; when
// Content-Length says so nothing is read. errBadHeader: it ended early. errTimeout: the
// client was slower than progressTime allows. errOverloaded: there is no room.
func (w *response) body(r *http.Request, limit int64, g *gate) ([]byte, error) {
	if r.ContentLength == 0 && r.Header.Get("Content-Length") == "" {
		return nil, refuse(errLengthRequired, "Send a Content-Length, or the body in chunks. For an empty value send Content-Length: 0.")
	}
	window := 0
	w.conn.now(waits)
	defer w.conn.now(works)
	progress := func(arrived int) {
		if arrived-window >= progressBytes {
			window = arrived
			w.extendReadDeadline()
			w.conn.now(waits)
		}
	}
	hold := func(n int64) error { return w.hold(r.Context(), g, n) }
	body, err := readBounded(r.Body, r.ContentLength, limit, hold, progress)
	switch {
	case err == nil:
		// The connection is watched for the client's end from here on; without this the
		// deadline would end the request instead.
		w.clearReadDeadline()
		return body, nil
	case errors.Is(err, errOverloaded):
		return nil, err
	case errors.Is(err, errTooLarge):
		return nil, refuse(errTooLarge, "The body has more than the %d bytes that this node takes.", limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, refuse(errTimeout, "Less than %d bytes of the body, or of the rest of it, came within %v. Nothing was written.", progressBytes, progressTime)
	default:
		return nil, refuse(errBadHeader, "The body ended before the length that was announced, or its chunks make no sense. Nothing was written.")
	}
}

// hold takes room for n bytes in g until the request is answered. It is called once for a request.
func (w *response) hold(ctx context.Context, g *gate, n int64) error {
	if err := g.enter(ctx, n); err != nil {
		return err
	}
	w.held, w.heldIn = n, g
	return nil
}

// letGo gives back what hold took.
func (w *response) letGo() {
	if w.heldIn != nil {
		w.heldIn.leave(w.held)
		w.heldIn = nil
	}
}

// readBounded reads src to its end: size bytes, or an unknown number if size is negative. It
// allocates firstBuffer bytes at once at most, and after that four times what arrived, twice if size is unknown. Before it
// takes more than firstBuffer it calls hold, once and with the most that it may come to take, and before each read but the first
// progress with what has arrived; either may be nil. errTooLarge: src holds more than limit bytes. An error of hold is
// returned as it is.
func readBounded(src io.Reader, size, limit int64, hold func(int64) error, progress func(arrived int)) ([]byte, error) {
	if size > limit {
		return nil, errTooLarge
	}
	start := int64(512)
	if size >= 0 {
		start = min(size, firstBuffer)
	}
	b := make([]byte, 0, start)
	for int64(len(b)) != size {
		if len(b) == cap(b) {
			if hold != nil && len(b) >= firstBuffer {
				if err := hold(most(size, limit)); err != nil {
					return nil, err
				}
				hold = nil
			}
			b = grow(b, size)
		}
		if progress != nil && len(b) > 0 {
			progress(len(b))
		}
		n, err := src.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if int64(len(b)) > limit {
			return nil, errTooLarge
		}
		if err == io.EOF && size < 0 {
			return b, nil
		}
		if err == io.EOF && int64(len(b)) < size {
			return nil, io.ErrUnexpectedEOF
		}
		if err != nil && err != io.EOF {
			return nil, err
		}
	}
	return b, nil
}

// most returns how large a body can get that says that it has size bytes, or nothing if that is negative.
func most(size, limit int64) int64 {
	if size < 0 {
		return limit
	}
	return size
}

// grow returns b with more room: of those that do not say how large they get few are much larger than what has come of them.
func grow(b []byte, size int64) []byte {
	room := int64(2 * cap(b))
	if size >= 0 {
		room = min(2*room, size)
	}
	grown := make([]byte, len(b), room)
	copy(grown, b)
	return grown
}

// drain throws away what is left of a body, within drainBytes. Its caller set a deadline.
func drain(body io.Reader) {
	// An error means that the client is gone or too slow; it was told all there is to tell.
	_, _ = io.CopyN(io.Discard, body, drainBytes)
}

// extendReadDeadline gives the client progressTime from now on.
func (w *response) extendReadDeadline() {
	// It fails only where there is no connection, which then cannot hang either.
	_ = http.NewResponseController(w.ResponseWriter).SetReadDeadline(time.Now().Add(progressTime))
}

func (w *response) clearReadDeadline() {
	_ = http.NewResponseController(w.ResponseWriter).SetReadDeadline(time.Time{}) // as above
}
