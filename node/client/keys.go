package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Level says how many members must take part in a request before it succeeds: a number from 1 on, in digits, or one of
// the constants. A number above the number of members means all of them.
type Level string

// The levels that have a name.
const (
	Default Level = ""       // what the cluster thinks best; it survives the loss of a minority
	One     Level = "one"    // the node that is asked: quick, and possibly out of date
	Quorum  Level = "quorum" // the majority of the members that should exist
	All     Level = "all"    // every member that should exist
)

// Value is what is stored under a key.
type Value struct {
	// Data are any bytes, possibly none.
	Data []byte
	// ContentType is the media type; empty for a put means "text/plain; charset=utf-8".
	ContentType string
}

// Receipt tells which version a request dealt with and who took part. What the answer did not tell is zero.
type Receipt struct {
	// ETag names the version: the same on every node, another one after every write. With quotes, as in HTTP.
	ETag string
	// Modified is when the version was written, to the second.
	Modified time.Time
	// Node is the name of the node that answered.
	Node string
	// Acks of N members took part in time; Missing are the names of those that are not live or failed.
	Acks, N int
	Missing []string
}

// Get returns the value under key and what the answer told of it; the receipt comes with an *Error, too.
//
// key is 1 to 255 ASCII letters and digits. The caller owns the value. ErrNotFound: there is none, or it was deleted.
// ErrTooLarge: it has more than Config.MaxValue bytes. ErrQuorum: fewer members took part than level needs.
func (c *Client) Get(ctx context.Context, key string, level Level) (Value, Receipt, error) {
	a, err := c.key(ctx, key, "r", level, request{method: http.MethodGet, want: http.StatusOK})
	if err != nil {
		return Value{}, receiptOf(a.header), fmt.Errorf("get %s: %w", name(key), err)
	}
	return Value{Data: a.body, ContentType: a.header.Get("Content-Type")}, receiptOf(a.header), nil
}

// Put stores value under key in place of whatever is there. value is not kept or changed after Put returns.
//
// key is 1 to 255 ASCII letters and digits. ErrTooLarge: the value is larger than the node takes. ErrQuorum: fewer
// members stored it than level needs; Error.Written says whether any did. See Failover for writes that are done twice.
func (c *Client) Put(ctx context.Context, key string, value Value, level Level) (Receipt, error) {
	q := request{method: http.MethodPut, want: http.StatusCreated, body: value.Data, header: make(http.Header)}
	if q.body == nil {
		q.body = []byte{}
	}
	if value.ContentType != "" {
		q.header.Set("Content-Type", value.ContentType)
	}
	return c.write(ctx, "put", key, level, q)
}

// Delete deletes the value under key. That there is none is no error. See Put for the rest.
func (c *Client) Delete(ctx context.Context, key string, level Level) (Receipt, error) {
	return c.write(ctx, "delete", key, level, request{method: http.MethodDelete, want: http.StatusNoContent})
}

func (c *Client) write(ctx context.Context, verb, key string, level Level, q request) (Receipt, error) {
	a, err := c.key(ctx, key, "w", level, q)
	if err != nil {
		return receiptOf(a.header), fmt.Errorf("%s %s: %w", verb, name(key), err)
	}
	return receiptOf(a.header), nil
}

// key asks q of key, at level.
func (c *Client) key(ctx context.Context, key, parameter string, level Level, q request) (answer, error) {
	path, err := escape(key)
	if err != nil {
		return answer{}, err
	}
	q.path = "/" + path
	if level != Default {
		q.path += "?" + url.Values{parameter: {string(level)}}.Encode()
	}
	return c.do(ctx, q)
}

// escape returns key as one part of a path. What a key may consist of is the node's to say; but no key at all would be
// a request for something else.
func escape(key string) (string, error) {
	if key == "" {
		return "", fmt.Errorf("%w: the key is empty", ErrBadRequest)
	}
	return url.PathEscape(key), nil
}

// name returns key for an error text.
func name(key string) string {
	if len(key) > 64 {
		key = key[:64] + "..."
	}
	return strconv.Quote(key)
}

func receiptOf(h http.Header) Receipt {
	r := Receipt{ETag: h.Get("ETag"), Node: words(h.Get("Snakes-Node"))}
	if modified, err := http.ParseTime(h.Get("Last-Modified")); err == nil {
		r.Modified = modified
	}
	numbers, missing, _ := strings.Cut(h.Get("Snakes-Acks"), "; missing=")
	acks, n, _ := strings.Cut(numbers, "/")
	a, err := strconv.Atoi(acks)
	if err != nil {
		return r
	}
	if r.N, err = strconv.Atoi(n); err != nil {
		return r
	}
	r.Acks = a
	if missing != "" {
		r.Missing = strings.Split(words(missing), ",")
	}
	return r
}
