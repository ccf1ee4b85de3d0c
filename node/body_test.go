package node

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"

	"github.com/protocol7/snakes/replication"
)

// recordPuts makes the coordinator note what it is asked to put.
func recordPuts(coordinator *fakeCoordinator) chan string {
	puts := make(chan string, 100)
	coordinator.put = func(_ string, value []byte, _ string, _ replication.Level) (replication.Receipt, error) {
		puts <- string(value)
		return replication.Receipt{Version: someVersion(1), N: 1, Acks: 1}, nil
	}
	return puts
}

func wantNoPut(t *testing.T, puts chan string) {
	t.Helper()
	select {
	case value := <-puts:
		t.Errorf("put %q, want nothing put", value)
	default:
	}
}

func TestPutNeedsALengthOrChunks(t *testing.T) {
	config, coordinator := fakes()
	config.MaxValue = 10
	puts := recordPuts(coordinator)
	n := start(t, config)
	for _, row := range []struct {
		name, headers, body string
		status              int
		code, value         string
	}{
		{"neither", "", "", 411, "length-required", ""},
		{"length", "Content-Length: 3\r\n", "abc", 201, "", "abc"},
		{"length of zero", "Content-Length: 0\r\n", "", 201, "", ""},
		{"chunks", "Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", 201, "", "abcde"},
		{"no chunk", "Transfer-Encoding: chunked\r\n", "0\r\n\r\n", 201, "", ""},
		{"chunks up to the limit", "Transfer-Encoding: chunked\r\n", "a\r\n0123456789\r\n0\r\n\r\n", 201, "", "0123456789"},
		{"chunks over the limit", "Transfer-Encoding: chunked\r\n", "b\r\n0123456789a\r\n0\r\n\r\n", 413, "too-large", ""},
		{"chunks that make no sense", "Transfer-Encoding: chunked\r\n", "zz\r\n", 400, "bad-header", ""},
		{"length over the limit", "Content-Length: 11\r\n", "0123456789a", 413, "too-large", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			n := *n
			n.t = t
			c := n.dial()
			c.send("PUT /foo HTTP/1.1\r\nHost: x\r\n" + row.headers + "\r\n" + row.body)
			a := c.answer("PUT")
			if a.StatusCode != row.status || a.code(t) != row.code {
				t.Fatalf("got %d %s, want %d %s", a.StatusCode, a.text, row.status, row.code)
			}
			if row.status != 201 {
				wantNoPut(t, puts)
			} else if got := <-puts; got != row.value {
				t.Errorf("value: got %q, want %q", got, row.value)
			}
		})
	}
}

func TestABodyThatIsCutShortWritesNothing(t *testing.T) {
	config, coordinator := fakes()
	puts := recordPuts(coordinator)
	n := start(t, config)
	for _, sent := range []string{
		"Content-Length: 10\r\n\r\nabc",
		"Content-Length: 10\r\n\r\n",
		"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
		"Transfer-Encoding: chunked\r\n\r\n3\r\nab",
		"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
	} {
		c := n.dial()
		c.send("PUT /foo HTTP/1.1\r\nHost: x\r\n" + sent)
		c.CloseWrite() // the client is still there to read
		if a := c.answer("PUT"); a.StatusCode != 400 || a.code(t) != "bad-header" {
			t.Errorf("%q: got %d %s, want 400 bad-header", sent, a.StatusCode, a.text)
		}
		if _, err := c.reader.ReadByte(); err != io.EOF {
			t.Errorf("%q: the connection stays open (%v), with the rest of a body to come", sent, err)
		}
		wantNoPut(t, puts)

		c = n.dial()
		c.send("PUT /foo HTTP/1.1\r\nHost: x\r\n" + sent)
		c.SetLinger(0)
		c.Close() // the client is gone
	}
	// The server handles connections in any order; one more answer after the cut ones ended.
	n.ask("PUT", "/foo", "x")
	if got := <-puts; got != "x" {
		t.Errorf("put %q, want only what arrived whole", got)
	}
	wantNoPut(t, puts)
}

func TestExpectContinueInvitesOnlyBodiesThatWillBeTaken(t *testing.T) {
	config, coordinator := fakes()
	config.MaxValue = 10
	puts := recordPuts(coordinator)
	n := start(t, config)
	expect := func(request string, length int) *rawConn {
		c := n.dial()
		c.send(fmt.Sprintf("%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", request, length))
		return c
	}
	c := expect("PUT /foo", 10)
	if a := c.answer("PUT"); a.StatusCode != http.StatusContinue {
		t.Fatalf("body that fits: got %d, want 100", a.StatusCode)
	}
	c.send("0123456789")
	if a := c.answer("PUT"); a.StatusCode != 201 {
		t.Fatalf("body that fits: got %d, want 201", a.StatusCode)
	}
	if got := <-puts; got != "0123456789" {
		t.Errorf("value: got %q", got)
	}
	for _, row := range []struct {
		request string
		length  int
		status  int
	}{
		{"PUT /foo", 11, 413},
		{"PUT /foo", 300 << 10, 413},
		{"PUT /foo?w=0", 5, 400},
		{"PUT /a-b", 5, 400},
		{"POST /foo", 5, 405},
		{"PUT /-/nothing", 5, 404},
	} {
		c := expect(row.request, row.length)
		if a := c.answer("PUT"); a.StatusCode != row.status {
			t.Errorf("%s with %d bytes: got %d, want %d and no 100", row.request, row.length, a.StatusCode, row.status)
		}
		c.CloseWrite()
		if _, err := c.reader.ReadByte(); err != io.EOF {
			t.Errorf("%s: got %v after the answer, want the end: the body was not sent", row.request, err)
		}
	}
	wantNoPut(t, puts)
}

func TestARefusedClientCanReadTheAnswerAfterSendingAll(t *testing.T) {
	config, coordinator := fakes()
	puts := recordPuts(coordinator)
	n := start(t, config)
	// Well above what the kernel buffers: without draining, the connection is reset.
	body := strings.Repeat("x", 32<<20)
	chunked := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
	for _, row := range []struct {
		request, headers, body string
		status                 int
	}{
		{"PUT /foo", fmt.Sprintf("Content-Length: %d\r\n", len(body)), body, 413},
		{"PUT /foo", "Transfer-Encoding: chunked\r\n", chunked, 413},
		{"PUT /a-b", fmt.Sprintf("Content-Length: %d\r\n", len(body)), body, 400},
		{"POST /foo", fmt.Sprintf("Content-Length: %d\r\n", len(body)), body, 405},
	} {
		c := n.dial()
		c.send(row.request + " HTTP/1.1\r\nHost: x\r\n" + row.headers + "\r\n")
		if _, err := io.WriteString(c, row.body); err != nil {
			t.Fatalf("%s: send: %v", row.request, err)
		}
		if a := c.answer("PUT"); a.StatusCode != row.status {
			t.Errorf("%s: got %d, want %d", row.request, a.StatusCode, row.status)
		}
		// What was drained to its end leaves the connection fit for the next request.
		c.send("GET /foo HTTP/1.1\r\nHost: x\r\n\r\n")
		if a := c.answer("GET"); a.StatusCode != 200 {
			t.Errorf("%s: next request on the connection: got %d, want 200", row.request, a.StatusCode)
		}
	}
	wantNoPut(t, puts)
}

func TestDrainingARefusedBodyEnds(t *testing.T) {
	config, _ := fakes()
	n := start(t, config)
	c := n.dial()
	started := time.Now()
	c.send("PUT /foo HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\nabc") // and no more
	if a := c.answer("PUT"); a.StatusCode != 413 {
		t.Fatalf("got %d, want 413", a.StatusCode)
	}
	if waited := time.Since(started); waited > drainTime/2 {
		t.Errorf("the answer came after %v, want it before the rest of the body is waited for", waited)
	}
	if _, err := c.reader.ReadByte(); err != io.EOF {
		t.Errorf("got %v after the answer, want the connection closed within %v", err, drainTime)
	}
}

func TestReadBoundedReadsAllOrNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		content := rapid.SliceOfN(rapid.Byte(), 0, 3000).Draw(t, "content")
		limit := rapid.Int64Range(0, 3000).Draw(t, "limit")
		size := rapid.SampledFrom([]int64{-1, int64(len(content)), int64(len(content)) + 1}).Draw(t, "size")
		var src io.Reader = bytes.NewReader(content)
		src = rapid.SampledFrom([]io.Reader{
			src, iotest.OneByteReader(src), iotest.HalfReader(src), iotest.DataErrReader(src),
		}).Draw(t, "reader")
		got, err := readBounded(src, size, limit, nil, nil)
		switch {
		case size > limit || size < 0 && int64(len(content)) > limit:
			if !errors.Is(err, errTooLarge) {
				t.Fatalf("%d bytes, size %d, limit %d: got %v, want errTooLarge", len(content), size, limit, err)
			}
		case size > int64(len(content)):
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("%d bytes, size %d: got %v, want unexpected EOF", len(content), size, err)
			}
		case err != nil || !bytes.Equal(got, content):
			t.Fatalf("%d bytes, size %d, limit %d: got %d bytes, %v", len(content), size, limit, len(got), err)
		}
	})
}

func TestReadBoundedTrustsNoLengthWithMemory(t *testing.T) {
	for _, size := range []int64{-1, 1 << 30} {
		largest := 0
		arrived := 0
		src := readerFunc(func(p []byte) (int, error) {
			if largest = max(largest, len(p)); arrived >= 5<<20 {
				return 0, io.ErrUnexpectedEOF
			}
			n := min(len(p), 1000)
			arrived += n
			return n, nil
		})
		if _, err := readBounded(src, size, 1<<30, nil, nil); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("got %v, want unexpected EOF", err)
		}
		if largest > 3*arrived+firstBuffer {
			t.Errorf("size %d: %d bytes waited for while %d had arrived", size, largest, arrived)
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestABodyThatMakesProgressGetsMoreTimeAndOneThatTricklesDoesNot(t *testing.T) {
	// The deadline itself is net/http's; what counts here is that it moves with each progressBytes and
	// is gone once the body is there.
	config, coordinator := fakes()
	var deadlines []time.Time
	coordinator.put = func(string, []byte, string, replication.Level) (replication.Receipt, error) {
		if last := deadlines[len(deadlines)-1]; !last.IsZero() {
			t.Errorf("deadline %v stands while the request is under way", last)
		}
		return replication.Receipt{Version: someVersion(1), N: 1, Acks: 1}, nil
	}
	api := newAPI(config)
	r, err := http.NewRequest("PUT", "/foo", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.RequestURI, r.ContentLength = "/foo", 3*progressBytes+1
	var w *deadlineWriter
	for _, atOnce := range []int{progressBytes, progressBytes / 8, 1} {
		deadlines = nil
		w = &deadlineWriter{header: http.Header{}, deadlines: &deadlines}
		slow := strings.NewReader(strings.Repeat("x", 3*progressBytes+1))
		r.Body = io.NopCloser(readerFunc(func(p []byte) (int, error) { return slow.Read(p[:min(len(p), atOnce)]) }))
		api.ServeHTTP(w, r)
		// The first, and one after each 64 KiB; what comes in larger pieces may need one less.
		if got := len(deadlines) - 1; w.status != 201 || got < 3 || got > 4 {
			t.Errorf("%d bytes at once: got status %d after %d deadlines, want 201 after 3 or 4 and one that ends them", atOnce, w.status, got)
		}
	}

	deadlines = nil
	w = &deadlineWriter{header: http.Header{}, deadlines: &deadlines}
	r.Body = io.NopCloser(readerFunc(func([]byte) (int, error) { return 0, os.ErrDeadlineExceeded }))
	api.ServeHTTP(w, r)
	if w.status != 408 || !strings.Contains(w.body.String(), `"urn:snakes:error:timeout"`) {
		t.Errorf("body that never comes: got %d %s, want 408 timeout", w.status, w.body.String())
	}
}

// deadlineWriter is a http.ResponseWriter that notes the read deadlines it is given.
type deadlineWriter struct {
	header    http.Header
	status    int
	body      strings.Builder
	deadlines *[]time.Time
}

func (w *deadlineWriter) Header() http.Header         { return w.header }
func (w *deadlineWriter) Write(b []byte) (int, error) { return w.body.Write(b) }
func (w *deadlineWriter) WriteHeader(status int)      { w.status = status }

func (w *deadlineWriter) SetReadDeadline(t time.Time) error {
	*w.deadlines = append(*w.deadlines, t)
	return nil
}
