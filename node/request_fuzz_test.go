package node

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/protocol7/snakes/membership"
	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
)

// helpful returns a configuration whose parts answer whatever they are asked.
func helpful() apiConfig {
	config, coordinator := fakes()
	coordinator.inspect = func(key string) (replication.Inspection, error) {
		return replication.Inspection{Key: key}, nil
	}
	coordinator.list = func(replication.Span, replication.Level) (replication.Listing, replication.Receipt, error) {
		return replication.Listing{}, replication.Receipt{Acks: 1, N: 1}, nil
	}
	config.Cluster.(*fakeCluster).forget = func(string, bool) error { return membership.ErrMemberAlive }
	config.Operations = &fakeOperations{
		leave: func() error { return nil }, acceptLoss: func() error { return nil },
	}
	config.Replica = &fakeReplica{
		write: func(records []replication.Record) []replication.Outcome {
			return make([]replication.Outcome, len(records))
		},
		lookup: func(string) (replication.Meta, error) { return replication.Meta{}, replication.ErrNotFound },
		fetch: func(string) (replication.Record, error) {
			return replication.Record{Key: "foo", Version: someVersion(7), Value: []byte("v")}, nil
		},
		buckets:  func() []uint64 { return make([]uint64, replication.DigestBuckets) },
		contents: func([]int) []replication.Held { return nil },
		watch: func(string, *seen.Set) (*replication.Watch, error) {
			return nil, replication.ErrNotReady
		},
		span:   func(replication.Span) (replication.Stretch, error) { return replication.Stretch{}, nil },
		status: func(string, replication.Status) replication.Status { return replication.Status{Seen: new(seen.Set)} },
	}
	config.Offers = &fakeOffers{
		open: func(string, *seen.Set) (replication.Pull, error) { return replication.Pull{}, nil },
		page: func(uint64, uint64) (replication.Page, error) { return replication.Page{}, nil },
	}
	config.Roster = &fakeRoster{
		merge:   func([]byte) error { return errors.New("makes no sense") },
		admit:   func(membership.Hello) error { return nil },
		consent: func(membership.Hello, []byte) ([]byte, error) { return nil, membership.ErrBadMessage },
	}
	return config
}

// FuzzRequest sends anything that net/http takes for a request: none may make a handler panic, and whatever is
// refused is refused with a problem.
func FuzzRequest(f *testing.F) {
	const peer = "Snakes-Protocol: 1\r\nSnakes-From: " + idB + "\r\nSnakes-To: " + idA + "\r\nSnakes-Cluster: c1\r\nSnakes-Address: 127.0.0.1:9001\r\nSnakes-Origin: b\r\n"
	for _, seed := range []string{
		"GET /foo?r=2 HTTP/1.1\r\nHost: x\r\nIf-None-Match: \"a\", W/\"b\"\r\n\r\n",
		"PUT /foo?w=all HTTP/1.1\r\nHost: x\r\nContent-Type: a/b; c=d\r\nContent-Length: 3\r\n\r\nbar",
		"PUT /foo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nbar\r\n0\r\n\r\n",
		"DELETE /foo?w=one HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /-/keys?prefix=f&after=foo&limit=10 HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /-/watch?prefix=f HTTP/1.1\r\nHost: x\r\nLast-Event-ID: AAAA\r\n\r\n",
		"GET /-/members?format=text HTTP/1.1\r\nHost: x\r\n\r\n",
		"DELETE /-/members/node-b?force=1 HTTP/1.1\r\nHost: x\r\n\r\n",
		"PUT /-/log-level HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\ndebug",
		"GET /-/inspect/foo HTTP/1.1\r\nHost: x\r\nForwarded: for=y\r\n\r\n",
		"GET http://x/%2e%2e/-/digest HTTP/1.0\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /-/backup HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /-/restore?dry-run=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nsnakes",
		"POST /-/drain HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /-/ui/?key=foo HTTP/1.1\r\nHost: x\r\nAuthorization: Basic eDp5\r\n\r\n",
		"POST /-/ui/forget HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 13\r\n\r\nmember=node-b",
	} {
		f.Add([]byte(seed))
	}
	record := replication.Record{Key: "foo", Version: someVersion(7), Value: []byte("v")}
	for path, body := range map[string][]byte{
		"write": appendRecords(nil, []replication.Record{record}), "lookup": appendKeys(nil, []string{"foo"}), "fetch": appendText(nil, "foo"), "members": {},
		"exchange": appendStatus(nil, replication.Status{Seen: new(seen.Set), SeenHash: new(seen.Set).Hash()}), "pull": {}, "page": {1, 1},
		"buckets": {}, "contents": appendNumbers(nil, []int{1}), "range": appendSpan(nil, replication.Span{Limit: 1}), "consent": []byte("{}"),
	} {
		head := fmt.Sprintf("POST %s%s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n", peerPath, path, peer, len(body))
		f.Add(append([]byte(head), body...))
	}
	handler := newAPI(helpful())
	gone, cancel := context.WithCancel(f.Context()) // a client that stays for no stream
	cancel()
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil {
			return
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r.WithContext(gone))
		if w.Code == http.StatusInternalServerError {
			t.Fatalf("%s: %s", w.Result().Status, w.Body)
		}
		if w.Code >= 400 && r.Method != http.MethodHead && !isPeerPath(r) && !json.Valid(w.Body.Bytes()) {
			t.Errorf("refused with %d and no problem: %q", w.Code, w.Body)
		}
	})
}
