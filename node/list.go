package node

import (
	"net/http"
	"strconv"

	"github.com/protocol7/snakes/replication"
)

// defaultLimit is how many keys a page has at most if nobody says otherwise.
const defaultLimit = 100

// listAnswer is the body of GET /-/keys.
type listAnswer struct {
	Keys []keyAnswer `json:"keys"`
	Next string      `json:"next"`
}

type keyAnswer struct {
	Key string `json:"key"`
	// ETag is what the header of that name has in answers for the key.
	ETag string `json:"etag"`
	Size int64  `json:"size"`
}

func (a *api) list(w *response, r *http.Request) error {
	given, err := parameters(r, "prefix", "after", "limit", "r")
	if err != nil {
		return err
	}
	span := replication.Span{Limit: defaultLimit}
	for name, into := range map[string]*string{"prefix": &span.Prefix, "after": &span.After} {
		text, present := given[name]
		if present && text != "" && replication.ValidKey(text) != nil {
			return refuse(errBadParameter, "%s is up to %d ASCII letters and digits, not %q.", name, replication.MaxKeyBytes, shortened(text))
		}
		*into = text
	}
	if text, present := given["limit"]; present {
		limit, err := strconv.ParseUint(text, 10, 32)
		if err != nil || limit < 1 || limit > replication.MaxSpan {
			return refuse(errBadParameter, "limit is a number from 1 to %d, not %q.", replication.MaxSpan, shortened(text))
		}
		span.Limit = int(limit)
	}
	level, err := levelIn(given, "r")
	if err != nil {
		return err
	}
	page, receipt, err := a.Coordinator.List(r.Context(), span, level)
	w.receipt(receipt)
	if err != nil {
		return err // it says by itself what failed
	}
	answer := listAnswer{Keys: make([]keyAnswer, len(page.Keys)), Next: page.Next}
	for i, e := range page.Keys {
		answer.Keys[i] = keyAnswer{e.Key, etag(e.Version), e.Size}
	}
	return w.send(http.StatusOK, "application/json", encodeLine(answer))
}
