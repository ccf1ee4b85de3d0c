package node

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"
)

const (
	// bodyTime is how long a client may pause while it sends a body.
	bodyTime = 30 * time.Second
	// drainBytes and drainTime limit what is read of a refused body: enough for a client to
	// finish sending and read the answer, not enough to keep the node busy.
	drainBytes = 64 << 20
	drainTime  = 2 * time.Second
	// firstBuffer is how much memory a body gets on the word of its Content-Length alone.
	firstBuffer = 1 << 20
)

// body reads the whole body of r, at most limit bytes. The caller owns it.
//
// errLengthRequired: r says nothing of its length. errTooLarge: it is above limit; when
// Content-Length says so nothing is read. errBadHeader: it ended early. errTimeout: the
// client paused for longer than bodyTime.
func (w *response) body(r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength == 0 && r.Header.Get("Content-Length") == "" {
		return nil, refuse(errLengthRequired, "Send a Content-Length, or the body in chunks. For an empty value send Content-Length: 0.")
	}
	body, err := readBounded(r.Body, r.ContentLength, limit, w.extendReadDeadline)
	switch {
	case err == nil:
		// The connection is watched for the client's end from here on; without this the
		// deadline would end the request instead.
		w.clearReadDeadline()
		return body, nil
	case errors.Is(err, errTooLarge):
		return nil, refuse(errTooLarge, "The body has more than the %d bytes that this node takes.", limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, refuse(errTimeout, "No more of the body came for %v. Nothing was written.", bodyTime)
	default:
		return nil, refuse(errBadHeader, "The body ended before the length that was announced, or its chunks make no sense. Nothing was written.")
	}
}

// readBounded reads src to its end: size bytes, or an unknown number if size is negative. It
// allocates firstBuffer bytes at once at most, and twice what arrived after that, whatever
// size says. before, if not nil, is called before each read but the first. errTooLarge: src holds more than
// limit bytes.
func readBounded(src io.Reader, size, limit int64, before func()) ([]byte, error) {
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
			b = grow(b, size)
		}
		if before != nil && len(b) > 0 {
			before()
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

// grow returns b with twice the room, or with room for size bytes if that is less.
func grow(b []byte, size int64) []byte {
	room := int64(2 * cap(b))
	if size >= 0 {
		room = min(room, size)
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

// extendReadDeadline lets the client pause for bodyTime from now on.
func (w *response) extendReadDeadline() {
	// It fails only where there is no connection, which then cannot hang either.
	_ = http.NewResponseController(w.ResponseWriter).SetReadDeadline(time.Now().Add(bodyTime))
}

func (w *response) clearReadDeadline() {
	_ = http.NewResponseController(w.ResponseWriter).SetReadDeadline(time.Time{}) // as above
}
