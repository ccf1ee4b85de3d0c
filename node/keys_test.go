package node

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/protocol7/snakes/replication"
)

// keyRequests are the rows of the contract on keys, but for those that are about bodies.
var keyRequests = []struct {
	request string // method and path
	body    string
	header  string
	status  int
	code    string
}{
	{request: "PUT /foo", body: "value", status: 201},
	{request: "PUT /foo", body: "", header: "Content-Length: 0", status: 201},
	{request: "PUT /foo", body: "0123456789", status: 201},
	{request: "PUT /foo", body: "0123456789a", status: 413, code: "too-large"},
	{request: "PUT /foo?w=1", body: "value", status: 201},
	{request: "PUT /foo?w=99", body: "value", status: 201},
	{request: "PUT /foo?w=999999999", body: "value", status: 201},
	{request: "PUT /foo?w=one", body: "value", status: 201},
	{request: "PUT /foo?w=quorum", body: "value", status: 201},
	{request: "PUT /foo?w=all", body: "value", status: 201},
	{request: "PUT /foo?", body: "value", status: 201},
	{request: "PUT /foo?w=", body: "value", status: 400, code: "bad-parameter"},
	{request: "PUT /foo?w", body: "value", status: 400, code: "bad-parameter"},
	{request: "PUT /foo?w=0", body: "value", status: 400, code: "bad-parameter"},
	{request: "PUT /foo?w=-1", body: "value", status: 400, code: "bad-parameter"},
	{request: "PUT /foo?w=+1", body: "value", status: 400, code: "bad-parameter"},
	{request: "PUT /foo?w=abc", body: "value", status: 400, code: "bad-parameter"},
	{request: "PUT /foo?w=ALL", body: "value", status: 400, code: "bad-parameter"},
	{request: "PUT /foo?w=1234567890", body: "value", status: 400, code: "bad-parameter"},
	{request: "PUT /foo?w=1&w=1", body: "value", status: 400, code: "bad-parameter"},
	{request: "PUT /foo?w=1;w=1", body: "value", status: 400, code: "bad-parameter"},
	{request: "PUT /foo?r=1", body: "value", status: 400, code: "bad-parameter"},
	{request: "PUT /foo?W=1", body: "value", status: 400, code: "bad-parameter"},
	{request: "PUT /foo?w=1&x=1", body: "value", status: 400, code: "bad-parameter"},
	{request: "PUT /foo?w=%zz", body: "value", status: 400, code: "bad-parameter"},
	{request: "PUT /foo", body: "value", header: "If-Match: *", status: 501, code: "unsupported"},
	{request: "PUT /foo", body: "value", header: "If-None-Match: *", status: 501, code: "unsupported"},
	{request: "PUT /foo", body: "value", header: "If-Unmodified-Since: x", status: 501, code: "unsupported"},
	{request: "PUT /foo", body: "value", header: "Content-Range: bytes 0-4/9", status: 400, code: "bad-header"},
	{request: "PUT /foo", body: "value", header: "Content-Encoding: gzip", status: 501, code: "unsupported"},
	{request: "PUT /foo", body: "value", header: "Content-Encoding: identity, br", status: 501, code: "unsupported"},
	{request: "PUT /foo", body: "value", header: "Content-Encoding: identity\r\nContent-Encoding: br", status: 501, code: "unsupported"},
	{request: "PUT /foo", body: "value", header: "Content-Encoding: Identity", status: 201},
	{request: "PUT /foo", body: "value", header: "Content-Encoding:", status: 201},
	{request: "PUT /foo", body: "value", header: "Content-Type: application/x-www-form-urlencoded", status: 201},
	{request: "PUT /foo", body: "value", header: "Content-Type: nonsense", status: 400, code: "bad-header"},
	{request: "PUT /foo", body: "value", header: "Content-Type: a/b; c", status: 400, code: "bad-header"},
	{request: "PUT /foo", body: "value", header: "Content-Type: text/plain; x=\xff", status: 400, code: "bad-header"},
	{request: "PUT /foo", body: "value", header: "Content-Type: text/plain; x=\"\xff\"", status: 400, code: "bad-header"},
	{request: "PUT /foo", body: "value", header: "Content-Type: text/plain; x=\"\t\"", status: 400, code: "bad-header"},
	{request: "PUT /foo", body: "value", header: "Content-Type: a/b\r\nContent-Type: a/b", status: 400, code: "bad-header"},
	{request: "PUT /foo", body: "value", header: "Content-Type: text/" + strings.Repeat("x", 250), status: 201},
	{request: "PUT /foo", body: "value", header: "Content-Type: text/" + strings.Repeat("x", 251), status: 400, code: "bad-header"},

	{request: "GET /foo", status: 200},
	{request: "HEAD /foo", status: 200},
	{request: "GET /foo?r=1", status: 200},
	{request: "GET /foo?r=all", status: 200},
	{request: "GET /foo?r=0", status: 400, code: "bad-parameter"},
	{request: "GET /foo?r=1&r=2", status: 400, code: "bad-parameter"},
	{request: "GET /foo?w=1", status: 400, code: "bad-parameter"},
	{request: "GET /foo?x", status: 400, code: "bad-parameter"},
	{request: "GET /foo", header: "Range: bytes=0-1", status: 200},
	{request: "GET /foo", header: "If-Modified-Since: Sun, 22 Nov 2099 12:00:00 GMT", status: 200},
	{request: "GET /nope", status: 404, code: "not-found"},
	{request: "GET /FOO", status: 404, code: "not-found"},
	{request: "HEAD /nope", status: 404, code: "not-found"},

	{request: "DELETE /foo", status: 204},
	{request: "DELETE /nope?w=2", status: 204},
	{request: "DELETE /foo?w=0", status: 400, code: "bad-parameter"},
	{request: "DELETE /foo?r=1", status: 400, code: "bad-parameter"},
	{request: "DELETE /foo", header: "If-Match: *", status: 501, code: "unsupported"},
	{request: "DELETE /foo", header: "If-None-Match: *", status: 501, code: "unsupported"},
	{request: "DELETE /foo", header: "If-Unmodified-Since: x", status: 501, code: "unsupported"},

	{request: "POST /foo", body: "value", status: 405, code: "method-not-allowed"},
	{request: "PATCH /foo", status: 405, code: "method-not-allowed"},
	{request: "OPTIONS /foo", status: 405, code: "method-not-allowed"},
	{request: "TRACE /foo", status: 405, code: "method-not-allowed"},
	{request: "BREW /foo", status: 405, code: "method-not-allowed"},
	{request: "get /foo", status: 405, code: "method-not-allowed"},
}

func TestKeyRequestsAnswerAsTheContractSays(t *testing.T) {
	config, _ := fakes()
	config.MaxValue = 10
	n := start(t, config)
	for _, row := range keyRequests {
		t.Run(row.request+" "+row.header, func(t *testing.T) {
			n := *n
			n.t = t
			c := n.dial()
			head := row.request + " HTTP/1.1\r\nHost: x\r\n"
			if row.header != "" {
				head += row.header + "\r\n"
			}
			if row.body != "" {
				head += fmt.Sprintf("Content-Length: %d\r\n", len(row.body))
			}
			c.send(head + "\r\n" + row.body)
			method, _, _ := strings.Cut(row.request, " ")
			got := c.answer(method)
			if got.StatusCode != row.status {
				t.Fatalf("status: got %d, want %d; %s", got.StatusCode, row.status, got.text)
			}
			if method == http.MethodHead {
				if got.text != "" {
					t.Errorf("HEAD: got a body %q", got.text)
				}
				return
			}
			if code := got.code(t); code != row.code {
				t.Errorf("code: got %q, want %q", code, row.code)
			}
			if row.status == 405 {
				allow, want := got.Header.Get("Allow"), "GET, HEAD, PUT, DELETE"
				if allow != want || !strings.Contains(got.text, "This path takes "+want+".") {
					t.Errorf("got Allow %q and %s, want %q in both", allow, got.text, want)
				}
			}
		})
	}
}

func TestKeysAreTakenFromThePathAsSent(t *testing.T) {
	config, coordinator := fakes()
	var got string
	coordinator.get = func(key string, _ replication.Level) (replication.Record, replication.Receipt, error) {
		got = key
		return replication.Record{Version: someVersion(1)}, replication.Receipt{N: 1, Acks: 1}, nil
	}
	n := start(t, config)
	longest := strings.Repeat("a", 255)
	for _, row := range []struct {
		target string
		status int
		code   string
		key    string
	}{
		{target: "/foo", status: 200, key: "foo"},
		{target: "/0", status: 200, key: "0"},
		{target: "/metrics", status: 200, key: "metrics"},
		{target: "/health", status: 200, key: "health"},
		{target: "/members", status: 200, key: "members"},
		{target: "/" + longest, status: 200, key: longest},
		{target: "http://other/foo?r=1", status: 200, key: "foo"},
		{target: "/" + longest + "a", status: 400, code: "bad-key"},
		{target: "/" + strings.Repeat("a", 5000), status: 400, code: "bad-key"},
		{target: "/a-b", status: 400, code: "bad-key"},
		{target: "/-", status: 400, code: "bad-key"},
		{target: "/foo/", status: 400, code: "bad-key"},
		{target: "/foo/bar", status: 400, code: "bad-key"},
		{target: "//foo", status: 400, code: "bad-key"},
		{target: "//", status: 400, code: "bad-key"},
		{target: "///-/members", status: 400, code: "bad-key"},
		{target: "/..", status: 400, code: "bad-key"},
		{target: "/../foo", status: 400, code: "bad-key"},
		{target: "/./foo", status: 400, code: "bad-key"},
		{target: "/%2e%2e%2f", status: 400, code: "bad-key"},
		{target: "/%66oo", status: 400, code: "bad-key"},
		{target: "/%00", status: 400, code: "bad-key"},
		{target: "/foo%00", status: 400, code: "bad-key"},
		{target: "/foo%20", status: 400, code: "bad-key"},
		{target: "/%C3%A4", status: 400, code: "bad-key"},
		{target: "/\u00e4", status: 400, code: "bad-key"},
		{target: "/foo#bar", status: 400, code: "bad-key"},
		{target: "/foo;r=1", status: 400, code: "bad-key"},
		{target: "/%2d/members", status: 400, code: "bad-key"},
		{target: "/-%2fmembers", status: 400, code: "bad-key"},
		{target: "*", status: 400, code: "bad-key"},
		{target: "http://other//foo", status: 400, code: "bad-key"},
		{target: "/-/nothing", status: 404, code: "not-found"},
		{target: "/-/members/", status: 404, code: "not-found"},
		{target: "/-//members", status: 404, code: "not-found"},
		{target: "/-/../foo", status: 404, code: "not-found"},
		{target: "/-/peer/", status: 404, code: "not-found"},
		{target: "/-/ui/", status: 200},
		{target: "/-/ui/nothing", status: 404, code: "not-found"},
		{target: "/-/inspect/a-b", status: 400, code: "bad-key"},
		{target: "/-/inspect/%66oo", status: 400, code: "bad-key"},
	} {
		t.Run(row.target, func(t *testing.T) {
			n := *n
			n.t, got = t, ""
			a := n.raw("GET " + row.target + " HTTP/1.1")
			if a.StatusCode != row.status || a.code(t) != row.code {
				t.Fatalf("got %d %s, want %d %s", a.StatusCode, a.text, row.status, row.code)
			}
			if got != row.key {
				t.Errorf("key: got %q, want %q", got, row.key)
			}
			if location := a.Header.Get("Location"); location != "" {
				t.Errorf("redirected to %q", location)
			}
		})
	}
}

func TestNoMethodReachesAKeyThatIsNone(t *testing.T) {
	config, coordinator := fakes()
	coordinator.put = nil // a call panics
	coordinator.delete = nil
	n := start(t, config)
	for _, method := range []string{"PUT", "DELETE", "GET", "HEAD"} {
		if got := n.raw(method+" /a-b HTTP/1.1", "Content-Length: 0"); got.StatusCode != 400 {
			t.Errorf("%s /a-b: got %d, want 400", method, got.StatusCode)
		}
	}
	if got := n.raw("OPTIONS * HTTP/1.1"); got.StatusCode != 400 || got.code(t) != "bad-key" {
		t.Errorf("OPTIONS *: got %d, want 400 bad-key", got.StatusCode)
	}
	if got := n.raw("CONNECT other:80 HTTP/1.1"); got.StatusCode != 400 || got.code(t) != "bad-key" {
		t.Errorf("CONNECT: got %d, want 400 bad-key", got.StatusCode)
	}
}

func TestPutHandsOverWhatWasSent(t *testing.T) {
	config, coordinator := fakes()
	var got string
	coordinator.put = func(key string, value []byte, contentType string, level replication.Level) (replication.Receipt, error) {
		got = fmt.Sprintf("%s %q %s %v", key, value, contentType, level)
		return replication.Receipt{Version: someVersion(1), N: 1, Acks: 1}, nil
	}
	n := start(t, config)
	for _, row := range []struct{ path, body, contentType, want string }{
		{"/foo", "a\x00\n", "", `foo "a\x00\n" text/plain; charset=utf-8 default`},
		{"/foo?w=2", "a", "application/x-www-form-urlencoded", `foo "a" text/plain; charset=utf-8 2`},
		{"/Foo?w=one", "a", "Text/HTML; Charset=latin1", `Foo "a" Text/HTML; Charset=latin1 1`},
		{"/foo?w=quorum", "", "image/png", `foo "" image/png quorum`},
		{"/foo?w=all", strings.Repeat("a", 3), "a/b", `foo "aaa" a/b all`},
	} {
		var headers []string
		if row.contentType != "" {
			headers = []string{"Content-Type", row.contentType}
		}
		a := n.ask("PUT", row.path, row.body, headers...)
		if row.body == "" { // the client sends no length for it
			if a.StatusCode != 201 {
				t.Fatalf("PUT %s: got %d, want 201", row.path, a.StatusCode)
			}
		}
		if a.StatusCode != 201 || a.text != "" || got != row.want {
			t.Errorf("PUT %s: got %d %q and %s, want 201 and %s", row.path, a.StatusCode, a.text, got, row.want)
		}
	}
}

func TestAnswersTellVersionAndReplicas(t *testing.T) {
	config, _ := fakes()
	n := start(t, config)
	tag := `"` + someVersion(7).String() + `"`
	for _, row := range []struct {
		request, header, value string
		status                 int
		want                   map[string]string // headers; "" means absent
	}{
		{
			request: "PUT /foo", status: 201,
			want: map[string]string{"ETag": tag, "Last-Modified": "Sun, 22 Nov 2026 12:00:00 GMT", "Snakes-Acks": "2/3; missing=node-c", "Content-Length": "0"},
		},
		{
			request: "DELETE /foo", status: 204,
			want: map[string]string{"ETag": tag, "Last-Modified": "Sun, 22 Nov 2026 12:00:00 GMT", "Snakes-Acks": "3/3"},
		},
		{
			request: "GET /foo", status: 200,
			want: map[string]string{
				"ETag": tag, "Last-Modified": "Sun, 22 Nov 2026 12:00:00 GMT", "Snakes-Acks": "3/3", "Content-Type": "image/png",
				"Content-Length": "10", "X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox", "Accept-Ranges": "",
			},
		},
		{
			request: "HEAD /foo", status: 200,
			want: map[string]string{"ETag": tag, "Snakes-Acks": "3/3", "Content-Type": "image/png", "Content-Length": "10"},
		},
		{
			request: "GET /foo", header: "If-None-Match", value: tag, status: 304,
			want: map[string]string{"ETag": tag, "Last-Modified": "Sun, 22 Nov 2026 12:00:00 GMT", "Snakes-Acks": "3/3"},
		},
		{request: "GET /nope", status: 404, want: map[string]string{"ETag": "", "Snakes-Acks": "3/3"}},
		{request: "HEAD /nope", status: 404, want: map[string]string{"Snakes-Acks": "3/3", "Content-Type": "application/problem+json"}},
	} {
		method, path, _ := strings.Cut(row.request, " ")
		var headers []string
		if row.header != "" {
			headers = []string{row.header, row.value}
		}
		body := ""
		if method == "PUT" {
			body = "x"
		}
		a := n.ask(method, path, body, headers...)
		if a.StatusCode != row.status {
			t.Errorf("%s: got %d, want %d", row.request, a.StatusCode, row.status)
		}
		row.want["Snakes-Node"], row.want["Cache-Control"] = "node-a", "no-cache"
		for name, want := range row.want {
			if got := a.Header.Get(name); got != want {
				t.Errorf("%s: %s: got %q, want %q", row.request, name, got, want)
			}
		}
		if method == "GET" && row.status == 200 && a.text != "some value" || row.status == 304 && a.text != "" {
			t.Errorf("%s: got body %q", row.request, a.text)
		}
	}
}

func TestIfNoneMatchOnReads(t *testing.T) {
	tag := `"` + someVersion(7).String() + `"`
	for _, row := range []struct {
		headers []string
		want    bool
	}{
		{nil, false},
		{[]string{tag}, true},
		{[]string{"W/" + tag}, true},
		{[]string{"*"}, true},
		{[]string{` "x" , ` + tag}, true},
		{[]string{`"x","y"`, tag}, true},
		{[]string{`"x",,` + tag + `,"y"`}, true},
		{[]string{`"x"`}, false},
		{[]string{""}, false},
		{[]string{`"x`}, false},
		{[]string{`"`}, false},
		{[]string{strings.Trim(tag, `"`)}, false},
		{[]string{"nonsense, " + tag}, false},
	} {
		if got := matchesETag(row.headers, tag); got != row.want {
			t.Errorf("If-None-Match %q: got %v, want %v", row.headers, got, row.want)
		}
	}
}

func TestFailedRequestsTellWhatTheyNeeded(t *testing.T) {
	config, coordinator := fakes()
	var fails error
	coordinator.put = func(string, []byte, string, replication.Level) (replication.Receipt, error) {
		return replication.Receipt{}, fails
	}
	coordinator.delete = func(string, replication.Level) (replication.Receipt, error) {
		return replication.Receipt{}, fails
	}
	coordinator.get = func(string, replication.Level) (replication.Record, replication.Receipt, error) {
		return replication.Record{}, replication.Receipt{}, fails
	}
	n := start(t, config)
	missed := func(written replication.Written, causes ...replication.Cause) error {
		return &replication.QuorumError{
			Op: "put", Need: 2, Alive: 1, Known: 3, Acks: 1, Written: written, Causes: causes,
			Receipt: replication.Receipt{Acks: 1, N: 3, Missing: []string{"node-b", "node-c"}},
		}
	}
	own := func(err error) replication.Cause {
		return replication.Cause{ID: idA, Name: "node-a", Self: true, Err: fmt.Errorf("write /data/secret: %w", err)}
	}
	other := func(err error) replication.Cause {
		return replication.Cause{ID: idB, Name: "node-b", Err: fmt.Errorf("write /data/secret: %w", err)}
	}
	const facts = "2 1 3 1"
	for _, row := range []struct {
		method  string
		fails   error
		status  int
		code    string
		facts   string // need, alive, known, acks
		written any
	}{
		{"PUT", missed(replication.WrittenNo), 503, "quorum", facts, false},
		{"PUT", missed(replication.WrittenUnknown), 503, "quorum", facts, "unknown"},
		{"DELETE", missed(replication.WrittenNo), 503, "quorum", facts, false},
		{"GET", missed(""), 503, "quorum", facts, nil},
		{"PUT", missed(replication.WrittenNo, own(replication.ErrDiskFull)), 507, "disk-full", facts, false},
		{"PUT", missed(replication.WrittenNo, own(replication.ErrReadOnly)), 503, "not-ready", facts, false},
		{"PUT", missed(replication.WrittenUnknown, other(replication.ErrDiskFull)), 503, "quorum", facts, "unknown"},
		{"GET", missed("", own(replication.ErrDamaged)), 503, "quorum", facts, nil},
		{"PUT", replication.ErrDiskFull, 507, "disk-full", "", nil},
		{"PUT", replication.ErrNotReady, 503, "not-ready", "", nil},
		{"GET", replication.ErrClosed, 503, "not-ready", "", nil},
		{"GET", errors.New("open /data/secret: no such file"), 500, "internal", "", nil},
	} {
		fails = row.fails
		body := ""
		if row.method == "PUT" {
			body = "x"
		}
		a := n.ask(row.method, "/foo", body)
		if a.StatusCode != row.status || a.code(t) != row.code {
			t.Errorf("%s that fails with %q: got %d %s, want %d %s", row.method, row.fails, a.StatusCode, a.text, row.status, row.code)
		}
		p := a.problem(t)
		if row.facts != "" {
			if got := fmt.Sprint(p["need"], p["alive"], p["known"], p["acks"]); got != row.facts {
				t.Errorf("%q: got facts %s, want %s", row.fails, got, row.facts)
			}
			if got, want := a.Header.Get("Snakes-Acks"), "1/3; missing=node-b,node-c"; got != want {
				t.Errorf("%q: Snakes-Acks: got %q, want %q", row.fails, got, want)
			}
		} else if _, present := p["need"]; present {
			t.Errorf("%q: got quorum facts in %s", row.fails, a.text)
		}
		if got := p["written"]; got != row.written {
			t.Errorf("%q: written: got %v, want %v", row.fails, got, row.written)
		}
		if got, want := a.Header.Get("Retry-After") != "", row.status == 503; got != want {
			t.Errorf("%q: Retry-After present: got %v, want %v", row.fails, got, want)
		}
		if strings.Contains(a.text, "secret") {
			t.Errorf("%q: the answer tells a path: %s", row.fails, a.text)
		}
	}
}
