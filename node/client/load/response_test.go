package load

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

const next = "HTTP/1.1 204 No Content\r\n\r\n"

func TestAnswersEndWhereTheySayThatTheyEnd(t *testing.T) {
	large := strings.Repeat("x", 3*bufferSize)
	for _, test := range []struct {
		answer string
		status int // of the *statusError; 0: none
		last   bool
	}{
		{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 0, false},
		{"HTTP/1.1 200 OK\ncontent-length:5\n\nhello", 0, false},
		{"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n", 0, false},
		{"HTTP/1.1 204 No Content\r\nETag: \"a:b\"\r\n\r\n", 0, false},
		{"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n", 0, false},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 0, false},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nTrailer: x\r\n\r\n", 0, false},
		{"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", 0, true},
		{"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", 0, true},
		{fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(large), large), 0, false},
		{"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304, false},
		{"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnope", 404, false},
		{fmt.Sprintf("HTTP/1.1 503 No\r\nContent-Length: %d\r\n\r\n%s", len(large), large), 503, false},
		{"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 503, false},
	} {
		r := bufio.NewReaderSize(strings.NewReader(test.answer+next), bufferSize)
		last, err := readAnswer(r)
		status := 0
		if refused, ok := errors.AsType[*statusError](err); ok {
			status, err = refused.status, nil
		}
		if err != nil || status != test.status || last != test.last {
			t.Errorf("%.80q: got status %d, last %t, %v; want %d, %t", test.answer, status, last, err, test.status, test.last)
		}
		if rest, _ := io.ReadAll(r); string(rest) != next {
			t.Errorf("%.80q: left %.80q, want the next answer", test.answer, rest)
		}
	}
}

func TestAnswerWithoutLengthEndsWithTheConnection(t *testing.T) {
	r := bufio.NewReader(strings.NewReader("HTTP/1.1 200 OK\r\n\r\nhello"))
	if last, err := readAnswer(r); err != nil || !last {
		t.Errorf("got last %t, %v; want true", last, err)
	}
}

func TestWhatIsNoAnswerIsAnError(t *testing.T) {
	for _, text := range []string{
		"", "\r\n", "nonsense\r\n\r\n", "HTTP/1.1 2x0 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nContent-Length: 1", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
		"HTTP/1.1 404 No\r\nContent-Length: 9\r\n\r\nhello", "HTTP/1.1 -01 No\r\n\r\n",
		"HTTP/1.1 200 OK\r\nLong: " + strings.Repeat("x", 2*bufferSize) + "\r\n\r\n",
	} {
		last, err := readAnswer(bufio.NewReader(strings.NewReader(text)))
		if _, refused := errors.AsType[*statusError](err); err == nil || refused || !last {
			t.Errorf("%.60q: got last %t, %v; want an error and the end", text, last, err)
		}
	}
}

// FuzzAnswer compares with net/http on what both take.
func FuzzAnswer(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
	f.Add("HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		_, err := readAnswer(bufio.NewReader(strings.NewReader(text)))
		refused, isRefused := errors.AsType[*statusError](err)
		response, otherErr := http.ReadResponse(bufio.NewReader(strings.NewReader(text)), nil)
		if otherErr != nil || response.StatusCode < 200 {
			return
		}
		defer response.Body.Close()
		if isRefused && refused.status != response.StatusCode {
			t.Errorf("%q: got status %d, net/http %d", text, refused.status, response.StatusCode)
		}
	})
}
