package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// Backup returns a backup of all keys, which the caller reads to its end and closes, and who took part in it. Package
// backup says what it looks like, and verifies it: one that ends early was cut off by the node or on its way. ctx ends it,
// and a node ends one of which nothing is read for ten seconds.
//
// ErrQuorum: fewer than a majority of the members answered. ErrNotReady: the node is not synced, or lacks what others have.
func (c *Client) Backup(ctx context.Context) (io.ReadCloser, Receipt, error) {
	response, err := c.open(ctx, request{method: http.MethodGet, path: "/-/backup", want: http.StatusOK})
	if err != nil {
		return nil, Receipt{}, fmt.Errorf("backup: %w", err)
	}
	receipt := receiptOf(response.Header)
	switch {
	case response.StatusCode != http.StatusOK:
		_, err = c.read(response, http.StatusOK)
	case response.Header.Get("Snakes-Node") == "": // which every node sets
		err = fmt.Errorf("%w: %s sends no backup", ErrNotSnakes, response.Request.URL.Redacted())
		_ = response.Body.Close() // nobody wants what is in it
	}
	if err != nil {
		return nil, receipt, fmt.Errorf("backup: %w", err)
	}
	return response.Body, receipt, nil
}

// RestoreOptions say how to restore.
type RestoreOptions struct {
	// DryRun counts what would be done and does nothing.
	DryRun bool
	// AsNew writes the values of the backup anew, so that they win over what the keys have now.
	AsNew bool
}

// Restored is what became of the records of a backup.
type Restored struct {
	// Cluster and Node are the names of those that the backup is of, Time is when it began.
	Cluster string    `json:"cluster"`
	Node    string    `json:"node"`
	Time    time.Time `json:"time"`
	// Keys is the number of values in the backup, Bytes how long these are together, Deletions that of deleted keys.
	Keys      uint64 `json:"keys"`
	Deletions uint64 `json:"deletions"`
	Bytes     uint64 `json:"bytes"`
	// Written and those after it add up to Keys and Deletions. Written were written, or would be; Present were there
	// already; Newer gave way to something newer; Forgotten were deleted since, so long ago that nothing is left of it,
	// and stay deleted; Skipped are deletions that a restore as new leaves out.
	Written   uint64 `json:"written"`
	Present   uint64 `json:"present"`
	Newer     uint64 `json:"newer"`
	Forgotten uint64 `json:"forgotten"`
	Skipped   uint64 `json:"skipped"`
	DryRun    bool   `json:"dry_run"`
	AsNew     bool   `json:"as_new"`
	// Body is the answer as it came.
	Body []byte `json:"-"`
}

// Restore gives a backup to the cluster, which merges it: what is newer stays, and so does what was deleted since. It may be
// repeated. The node verifies the backup as it comes and writes what is good before it knows the rest, so a file should be
// verified before. body may be read for a moment after the return; after a lost connection the next server is asked if nothing was read of it yet,
// or if it is an io.Seeker.
//
// The *Error has the code "bad-backup" if body is no whole backup. After any other error than that of a request that was
// refused at once, some of it may have been restored.
func (c *Client) Restore(ctx context.Context, body io.Reader, options RestoreOptions) (Restored, error) {
	query := make(url.Values)
	for name, set := range map[string]bool{"dry-run": options.DryRun, "as-new": options.AsNew} {
		if set {
			query.Set(name, "1")
		}
	}
	path := "/-/restore"
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	header := http.Header{"Expect": {"100-continue"}} // a refusal comes before the body goes
	a, err := c.do(ctx, request{method: http.MethodPost, path: path, stream: &stream{body: body}, header: header, want: http.StatusOK})
	r := Restored{Body: a.body}
	if err != nil {
		return r, fmt.Errorf("restore: %w", err)
	}
	if err := json.Unmarshal(a.body, &r); err != nil {
		return r, fmt.Errorf("restore: %w: %w", ErrNotSnakes, err)
	}
	return r, nil
}

// stream is a body that is read as it is sent, for one server after the other.
type stream struct {
	body io.Reader
	sent *sending // to the last one
}

// sending is a stream on its way to one server.
type sending struct {
	io.Reader
	read   atomic.Bool   // some of it
	closed chan struct{} // nobody reads it any more
	close  func()
}

// Read implements io.Reader.
func (s *sending) Read(p []byte) (int, error) {
	s.read.Store(true)
	return s.Reader.Read(p)
}

// Close implements io.Closer. What is read stays open.
func (s *sending) Close() error {
	s.close()
	return nil
}

// begin returns the body of a request.
func (s *stream) begin() io.ReadCloser {
	closed := make(chan struct{})
	s.sent = &sending{Reader: s.body, closed: closed, close: sync.OnceFunc(func() { close(closed) })}
	return s.sent
}

// errSpent is why a body cannot go to the next server.
var errSpent = errors.New("a part of what is to be sent was read already")

// rewind makes the body ready to be read from its beginning.
func (s *stream) rewind(ctx context.Context) error {
	select {
	case <-s.sent.closed: // net/http may read on when it has returned
	case <-ctx.Done():
		return ctx.Err()
	}
	if !s.sent.read.Load() {
		return nil
	}
	seeker, ok := s.body.(io.Seeker)
	if !ok {
		return errSpent
	}
	_, err := seeker.Seek(0, io.SeekStart)
	return err
}
