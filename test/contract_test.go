package test

import (
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/protocol7/snakes/test/cluster"
)

// The rows of CONTRACT sections 2, 3 and 5 that one request shows, all at one cluster.
func TestContractOfSingleRequests(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 3)
	stories := map[string]func(*testing.T, *cluster.Cluster){
		"keys": keysContract, "levels": levelsContract, "bodies": bodiesContract, "methods": methodsContract,
		"conditions": conditionsContract, "headers": headersContract, "paths": pathsContract,
		"delete": deleteContract, "cut short": cutShortContract, "inspect": inspectContract,
	}
	for name, story := range stories {
		t.Run(name, func(t *testing.T) { story(t, c) })
	}
}

// refused checks that an answer is the problem with this status and code.
func refused(t *testing.T, r cluster.Response, status int, code string) {
	t.Helper()
	if _, err := r.ExpectProblem(status, code); err != nil {
		t.Error(err)
	}
}

// accepted checks that an answer has this status.
func accepted(t *testing.T, r cluster.Response, status int, body ...string) {
	t.Helper()
	if err := r.Expect(status, body...); err != nil {
		t.Error(err)
	}
}

// raw is a request with exactly this target, which net/http's client might tidy.
func raw(method, target, body string) string {
	return fmt.Sprintf("%s %s HTTP/1.1\nHost: localhost\nConnection: close\nContent-Length: %d\n\n%s", method, target, len(body), body)
}

func keysContract(t *testing.T, c *cluster.Cluster) {
	n := c.Node(0)
	bad := []string{
		"/a-b", "/a.b", "/a_b", "/a%20b", "/%2e%2e%2f", "//foo", "/..", "/.", "/%C3%A9", "/a%00", "/%00", "/" + strings.Repeat("a", 256),
	}
	for _, target := range bad {
		for _, method := range []string{"PUT", "GET", "DELETE"} {
			refused(t, n.SendRaw(raw(method, target, "")), 400, "bad-key")
		}
		if r := n.SendRaw(raw("HEAD", target, "")); r.Status != 400 || r.Body != "" {
			t.Errorf("%s, want 400 without a body", r)
		}
	}
	refused(t, n.SendRaw(raw("PUT", "/", "x")), 400, "bad-key")
	for _, key := range []string{"a", "0", "Foo", strings.Repeat("z", 255), "metrics", "health", "members", "CON"} {
		accepted(t, n.Put(key, "value of "+key), 201, "")
		accepted(t, c.Node(1).Get(key), 200, "value of "+key)
	}
	refused(t, n.Get("foo"), 404, "not-found") // not Foo
	accepted(t, n.Put("foo", "lower"), 201)
	accepted(t, n.Get("Foo"), 200, "value of Foo")
}

func levelsContract(t *testing.T, c *cluster.Cluster) {
	n := c.Node(1)
	for _, level := range []string{"1", "2", "3", "4", "99", "999999999", "001", "one", "quorum", "all"} {
		accepted(t, n.Put("levels?w="+level, level), 201, "")
		accepted(t, n.Put("levels?w=all", level), 201, "") // else r=1 may ask one that has it not yet
		accepted(t, n.Get("levels?r="+level), 200)
		accepted(t, n.Delete("levels?w="+level), 204, "")
	}
	for _, query := range []string{"0", "000", "-1", "%2B1", "abc", "1.5", "", "1%20", "One", "ALL", "1234567890", "%D9%A1"} {
		refused(t, n.Put("levels?w="+query, "x"), 400, "bad-parameter")
		refused(t, n.Delete("levels?w="+query), 400, "bad-parameter")
		refused(t, n.Get("levels?r="+query), 400, "bad-parameter")
	}
	for _, query := range []string{"r=1", "w=1&w=1", "w=1&w=2", "x=1", "w=1&x=1", "W=1", "w=%zz", "w=1;r=1"} {
		refused(t, n.Put("levels?"+query, "x"), 400, "bad-parameter")
	}
	for _, query := range []string{"w=1", "r=1&r=1", "x=1", "R=1"} {
		refused(t, n.Get("levels?"+query), 400, "bad-parameter")
	}
	refused(t, n.Get("levels"), 404, "not-found") // nothing of all that was written
}

func bodiesContract(t *testing.T, c *cluster.Cluster) {
	const limit = 1 << 20
	n := c.Node(2)
	accepted(t, n.Put("body", ""), 201, "")
	accepted(t, n.Get("body"), 200, "")
	binary := "\x00\xff\r\n" + strings.Repeat("ö", 1000)
	accepted(t, n.Put("body", binary), 201, "")
	accepted(t, c.Node(0).Get("body"), 200, binary)
	largest := strings.Repeat("x", limit)
	accepted(t, n.Put("body", largest), 201, "")
	accepted(t, c.Node(0).Get("body"), 200, largest)
	refused(t, n.Put("body", largest+"x"), 413, "too-large")

	chunked := func(body string) cluster.Response {
		req, err := http.NewRequest(http.MethodPut, "http://"+n.Addr()+"/body", struct{ *strings.Reader }{strings.NewReader(body)})
		must(t, err)
		req.ContentLength = -1
		return n.Send(req)
	}
	refused(t, chunked(largest+"x"), 413, "too-large")
	accepted(t, n.Get("body"), 200, largest)
	accepted(t, chunked("in chunks"), 201, "")
	accepted(t, n.Get("body"), 200, "in chunks")
	accepted(t, chunked(""), 201, "")
	accepted(t, n.Put("body", "last"), 201, "")
	refused(t, n.SendRaw("PUT /body HTTP/1.1\nHost: localhost\nConnection: close\n\n"), 411, "length-required")
	accepted(t, n.Get("body"), 200, "last")
}

func methodsContract(t *testing.T, c *cluster.Cluster) {
	n := c.Node(0)
	for path, allow := range map[string][]string{
		"/foo":       {"GET", "HEAD", "PUT", "DELETE"},
		"/-/members": {"GET"},
		"/-/healthy": {"GET"},
		"/-/digest":  {"GET"},
	} {
		for _, method := range []string{"POST", "PATCH", "BREW"} {
			r := n.Do(method, path, "")
			refused(t, r, 405, "method-not-allowed")
			for _, want := range allow {
				if got := r.Header.Get("Allow"); !strings.Contains(got, want) {
					t.Errorf("%s: Allow %q, want it to name %s", r, got, want)
				}
			}
		}
	}
}

func conditionsContract(t *testing.T, c *cluster.Cluster) {
	n := c.Node(1)
	put := n.Put("condition", "old")
	accepted(t, put, 201)
	etag := put.Header.Get("ETag")
	for _, header := range []string{"If-Match: *", "If-Match: " + etag, "If-None-Match: *", "If-Unmodified-Since: Sun, 22 Nov 2026 12:00:00 GMT"} {
		refused(t, n.Do("PUT", "/condition", "new", header), 501, "unsupported")
		refused(t, n.Do("DELETE", "/condition", "", header), 501, "unsupported")
	}
	accepted(t, n.Get("condition"), 200, "old")
	same := c.Node(0).Do("GET", "/condition", "", "If-None-Match: "+etag)
	accepted(t, same, 304, "")
	if got := same.Header.Get("ETag"); got != etag {
		t.Errorf("%s: ETag %q, want %q", same, got, etag)
	}
	accepted(t, n.Do("GET", "/condition", "", `If-None-Match: "other"`), 200, "old")
}

func headersContract(t *testing.T, c *cluster.Cluster) {
	put := c.Node(0).Put("headers", "some value")
	accepted(t, put, 201, "")
	etag := put.Header.Get("ETag")
	if !regexp.MustCompile(`^"[^"]+"$`).MatchString(etag) {
		t.Errorf("%s: ETag %q, want a strong one", put, etag)
	}
	for _, n := range c.Nodes() {
		for _, method := range []string{"GET", "HEAD"} {
			r := n.Do(method, "/headers?r=all", "")
			body := "some value"
			if method == "HEAD" {
				body = ""
			}
			accepted(t, r, 200, body)
			for name, want := range map[string]string{
				"ETag": etag, "Content-Length": "10", "Content-Type": "text/plain; charset=utf-8",
				"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox",
				"Snakes-Node": n.Name, "Snakes-Acks": "3/3",
			} {
				if got := r.Header.Get(name); got != want {
					t.Errorf("%s: %s %q, want %q", r, name, got, want)
				}
			}
			if _, err := http.ParseTime(r.Header.Get("Last-Modified")); err != nil {
				t.Errorf("%s: Last-Modified: %v", r, err)
			}
		}
	}
	if got := c.Node(0).Get("nope").Header.Get("Snakes-Acks"); !regexp.MustCompile(`^[23]/3`).MatchString(got) {
		t.Errorf("Snakes-Acks %q on a 404, want 2/3 or 3/3", got)
	}

	again := c.Node(1).Put("headers", "some value")
	accepted(t, again, 201)
	if got := again.Header.Get("ETag"); got == "" || got == etag {
		t.Errorf("%s: ETag %q of the next version, want another than %q", again, got, etag)
	}
	for sent, want := range map[string]string{
		"application/json":                  "application/json",
		"image/png":                         "image/png",
		"application/x-www-form-urlencoded": "text/plain; charset=utf-8",
	} {
		accepted(t, c.Node(0).Do("PUT", "/headers", "{}", "Content-Type: "+sent), 201)
		if got := c.Node(2).Get("headers").Header.Get("Content-Type"); got != want {
			t.Errorf("Content-Type %q after a PUT with %q, want %q", got, sent, want)
		}
	}
}

func pathsContract(t *testing.T, c *cluster.Cluster) {
	n := c.Node(0)
	refused(t, n.Do("GET", "/-/nothing", ""), 404, "not-found")
	refused(t, n.Do("DELETE", "/-/members/nobody", ""), 404, "not-found")
	refused(t, n.Do("GET", "/-/inspect/a-b", ""), 400, "bad-key")
	accepted(t, n.Do("GET", "/-/healthy", ""), 200)
	for _, path := range []string{"/", "/-/"} {
		r := n.Do("GET", path, "")
		accepted(t, r, 200)
		if !strings.Contains(r.Body, "/-/members") {
			t.Errorf("%s, want an index of endpoints", r)
		}
	}
	table := n.Do("GET", "/-/members?format=text", "")
	accepted(t, table, 200)
	for _, member := range c.Nodes() {
		if !strings.Contains(table.Body, member.Name) || !strings.Contains(table.Body, member.Addr()) {
			t.Errorf("%s, want a row for %s at %s", table, member.Name, member.Addr())
		}
	}
}

func deleteContract(t *testing.T, c *cluster.Cluster) {
	accepted(t, c.Node(0).Put("deleted", "x"), 201)
	r := c.Node(1).Delete("deleted")
	accepted(t, r, 204, "")
	if r.Header.Get("ETag") == "" {
		t.Errorf("%s: no ETag, want the tombstone's", r)
	}
	for _, n := range c.Nodes() {
		refused(t, n.Get("deleted"), 404, "not-found")
	}
	accepted(t, c.Node(2).Delete("neverthere"), 204, "")
	accepted(t, c.Node(2).Put("deleted", "back"), 201, "")
	accepted(t, c.Node(0).Get("deleted"), 200, "back")
}

func cutShortContract(t *testing.T, c *cluster.Cluster) {
	n := c.Node(0)
	accepted(t, n.Put("short", "whole"), 201)
	before := n.Get("short").Header.Get("ETag")
	for _, request := range []string{
		"PUT /short HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nonly a part",
		"PUT /short HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nonly a part\r\n",
	} {
		conn, err := net.Dial("tcp", n.Addr())
		must(t, err)
		_, err = conn.Write([]byte(request))
		must(t, err)
		must(t, conn.Close())
	}
	c.Throughout(500*time.Millisecond, "old value", func() error {
		r := n.Get("short")
		if r.Header.Get("ETag") != before {
			return fmt.Errorf("%s: another version", r)
		}
		return r.Expect(200, "whole")
	})
	c.Await(5*time.Second, "no temporary file", func() error {
		return filepath.WalkDir(n.Data, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && !entry.IsDir() && (filepath.Base(filepath.Dir(path)) == "tmp" || strings.Contains(entry.Name(), "tmp")) {
				err = fmt.Errorf("%s is left", path)
			}
			return err
		})
	})
}

func inspectContract(t *testing.T, c *cluster.Cluster) {
	accepted(t, c.Node(0).Put("inspected?w=all", "x"), 201)
	r := c.Node(1).Do("GET", "/-/inspect/inspected", "")
	accepted(t, r, 200)
	if got := strings.Count(r.Body, `"state":"present"`); got != 3 {
		t.Errorf("%s: %d replicas present, want 3", r, got)
	}
	accepted(t, c.Node(0).Delete("inspected?w=all"), 204)
	r = c.Node(1).Do("GET", "/-/inspect/inspected", "")
	if got := strings.Count(r.Body, `"state":"deleted"`); got != 3 {
		t.Errorf("%s: %d replicas deleted, want 3", r, got)
	}
}
