package client

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
)

// MaxPage is how many keys a page has at most.
const MaxPage = 1000

// Span says which keys to list: those that begin with Prefix and come after After, in the order of their bytes. Both
// are ASCII letters and digits and may be empty.
type Span struct {
	Prefix, After string
	// Limit is how many keys a page has at most, 1 to MaxPage; 0 means what the node thinks best, 100.
	Limit int
}

// Page is a part of a list of keys.
type Page struct {
	// Keys are ascending. There may be fewer than asked for, even none, where many were deleted.
	Keys []Key `json:"keys"`
	// Next is the key to go on after, empty after the last page.
	Next string `json:"next"`
	// Receipt tells who took part. Its version is empty.
	Receipt Receipt `json:"-"`
	// Body is the answer as it came.
	Body []byte `json:"-"`
}

// Key is a key with a value.
type Key struct {
	Key string `json:"key"`
	// ETag names the version of the value, as in Receipt.
	ETag string `json:"etag"`
	// Size is the length of the value in bytes.
	Size int64 `json:"size"`
}

// Keys returns one page of keys. ErrQuorum: fewer members took part than level needs.
func (c *Client) Keys(ctx context.Context, span Span, level Level) (Page, error) {
	query := make(url.Values)
	set := func(name, value string) {
		if value != "" {
			query.Set(name, value)
		}
	}
	set("prefix", span.Prefix)
	set("after", span.After)
	set("r", string(level))
	if span.Limit != 0 {
		set("limit", strconv.Itoa(span.Limit))
	}
	path := "/-/keys"
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	a, err := c.do(ctx, request{method: http.MethodGet, path: path, want: http.StatusOK})
	page := Page{Receipt: receiptOf(a.header), Body: a.body}
	if err != nil {
		return page, fmt.Errorf("list keys: %w", err)
	}
	if err := json.Unmarshal(a.body, &page); err != nil {
		return page, fmt.Errorf("list keys: %w: %w", ErrNotSnakes, err)
	}
	return page, nil
}

// Pages yields the pages from span on until the last one, or until an error, which it yields last. Each is asked for
// when it is wanted. Keys that are written or deleted meanwhile may be among them or not.
func (c *Client) Pages(ctx context.Context, span Span, level Level) iter.Seq2[Page, error] {
	return func(yield func(Page, error) bool) {
		for {
			page, err := c.Keys(ctx, span, level)
			if err == nil && page.Next != "" && page.Next <= span.After {
				err = fmt.Errorf("list keys: %w: a page after %s goes on after %s", ErrNotSnakes, name(span.After), name(page.Next))
			}
			if !yield(page, err) || err != nil || page.Next == "" {
				return
			}
			span.After = page.Next
		}
	}
}
