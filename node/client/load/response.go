package load

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http/httputil"
	"strconv"
)

// maxExample is how much of a refusal is kept, to show one.
const maxExample = 200

// errMalformed means that what came is no HTTP/1.1 answer.
var errMalformed = errors.New("malformed answer")

// statusError is an answer that is none of success.
type statusError struct {
	status int
	body   []byte // the beginning of it
}

// Error implements error.
func (e *statusError) Error() string { return fmt.Sprintf("%d: %s", e.status, bytes.TrimSpace(e.body)) }

// head is what of an answer's beginning tells where it ends.
type head struct {
	status  int
	length  int64 // of the body; -1: not told
	chunked bool
	last    bool // the connection ends after it
}

// readAnswer reads one answer to its end. last reports that the connection has no more of them, which an error other
// than a *statusError means, too.
func readAnswer(r *bufio.Reader) (last bool, err error) {
	h, err := readHead(r)
	for err == nil && h.status < 200 { // such as 100 Continue
		h, err = readHead(r)
	}
	if err != nil {
		return true, err
	}
	var refused *statusError
	if h.status > 299 {
		refused = &statusError{status: h.status}
	}
	if err := readBody(r, h, refused); err != nil {
		return true, err
	}
	if refused != nil {
		return h.last, refused
	}
	return h.last, nil
}

func readHead(r *bufio.Reader) (head, error) {
	h := head{length: -1}
	line, err := readLine(r)
	if err != nil {
		return h, err
	}
	// "HTTP/1.1 200 OK"
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.")) || line[8] != ' ' {
		return h, errMalformed
	}
	if h.status, err = strconv.Atoi(string(line[9:12])); err != nil || h.status < 100 {
		return h, errMalformed
	}
	h.last = line[7] == '0'
	for {
		line, err := readLine(r)
		if err != nil || len(line) == 0 {
			h.last = h.last || h.length < 0 && !h.chunked && h.hasBody()
			return h, err
		}
		name, value, found := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case !found:
			return h, errMalformed
		case bytes.EqualFold(name, []byte("Content-Length")):
			if h.length, err = strconv.ParseInt(string(value), 10, 64); err != nil || h.length < 0 {
				return h, errMalformed
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			h.chunked = bytes.EqualFold(value, []byte("chunked"))
		case bytes.EqualFold(name, []byte("Connection")):
			h.last = h.last || bytes.EqualFold(value, []byte("close"))
		}
	}
}

// hasBody tells whether an answer to anything but HEAD has a body, RFC 9112 section 6.3.
func (h head) hasBody() bool { return h.status >= 200 && h.status != 204 && h.status != 304 }

// readBody reads the body to its end, the beginning of it into refused unless that is nil.
func readBody(r *bufio.Reader, h head, refused *statusError) error {
	switch {
	case !h.hasBody():
		return nil
	case h.chunked:
		if err := readAll(httputil.NewChunkedReader(r), refused); err != nil {
			return err
		}
		for { // what follows the last chunk: trailers and an empty line
			if line, err := readLine(r); err != nil || len(line) == 0 {
				return err
			}
		}
	case h.length < 0:
		return readAll(r, refused)
	}
	begin := 0
	if refused != nil {
		begin = int(min(h.length, maxExample))
		refused.body = make([]byte, begin)
		if _, err := io.ReadFull(r, refused.body); err != nil {
			return err
		}
	}
	_, err := r.Discard(int(h.length) - begin)
	return err
}

// readAll reads body until it ends by itself.
func readAll(body io.Reader, refused *statusError) error {
	if refused != nil {
		begin, err := io.ReadAll(io.LimitReader(body, maxExample))
		if err != nil {
			return err
		}
		refused.body = begin
	}
	_, err := io.Copy(io.Discard, body)
	return err
}

// readLine returns the next line without its end. It is valid until the next read.
func readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		if errors.Is(err, bufio.ErrBufferFull) {
			err = errMalformed
		}
		return nil, err
	}
	return bytes.TrimRight(line, "\r\n"), nil
}
