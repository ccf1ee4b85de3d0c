package replication

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/protocol7/snakes/replication/version"
)

const (
	// MaxSpan is how many keys one list, or one stretch, has at most.
	MaxSpan = 1000
	// minStretch is how many keys each replica is asked for at least: after a tail of deletes,
	// few of them may be live.
	minStretch = 128
	// maxStretches is how often the replicas are asked for one list, so that its cost is bounded
	// whatever was deleted.
	maxStretches = 16
)

// Span is a number of keys in the order of their bytes: the first Limit, 1 to MaxSpan, of those
// above After that begin with Prefix. Prefix and After consist of what keys consist of, and may
// be empty.
type Span struct {
	Prefix, After string
	Limit         int
}

// ErrBadSpan is wrapped by the errors of what takes a Span that is none.
var ErrBadSpan = errors.New("bad span of keys")

// Valid returns nil, or an error that wraps ErrBadSpan and says what is wrong with s.
func (s Span) Valid() error {
	for what, text := range map[string]string{"prefix": s.Prefix, "key to begin after": s.After} {
		if err := ValidKey(text); text != "" && err != nil {
			return fmt.Errorf("%w: %s: %w", ErrBadSpan, what, err)
		}
	}
	if s.Limit < 1 || s.Limit > MaxSpan {
		return fmt.Errorf("%w: limit %d is not 1 to %d", ErrBadSpan, s.Limit, MaxSpan)
	}
	return nil
}

// Entry is a key and what is known of its record.
type Entry struct {
	Key string
	Meta
}

// Stretch is what one node knows of the keys of a Span, ascending. More: it has further ones
// above the last.
type Stretch struct {
	Entries []Entry
	More    bool
}

// answers returns nil if x can be the answer of a node that was asked for s.
func (s Span) answers(x Stretch) error {
	after := s.After
	for _, e := range x.Entries {
		if e.Key <= after || !strings.HasPrefix(e.Key, s.Prefix) {
			return fmt.Errorf("%w: keys out of order or range", errNonsense)
		}
		after = e.Key
	}
	if len(x.Entries) > s.Limit || x.More && len(x.Entries) == 0 {
		return fmt.Errorf("%w: %d keys where %d were asked for, more: %t", errNonsense, len(x.Entries), s.Limit, x.More)
	}
	return nil
}

// Listing is a page of live keys, ascending.
type Listing struct {
	Keys []Entry
	// Next is the key to go on after, empty after the last page.
	Next string
}

// List returns the live keys of span and their newest versions, as far as so many replicas as
// level says know of them. It may return fewer than there are, even none, if many were deleted
// thereabouts; Next tells where to go on. Keys that are written meanwhile may be there or not;
// those that are not are in every list that they belong to.
//
// Unlike Get it brings nobody up to date: a write that failed, or is under way, may be in one
// list and not in the next one.
//
// Its cost is in proportion to the keys that it looks at, some thousands at most, and a page is all
// the memory it takes. Errors: one that wraps ErrBadSpan, ErrNotReady or ErrClosed, or a
// *QuorumError with a valid Receipt. Each time that the
// replicas are asked ends after Config.Timeout; List ends when ctx does. Safe for concurrent use.
func (c *Coordinator) List(ctx context.Context, span Span, level Level) (Listing, Receipt, error) {
	page, receipt, err := c.list(ctx, span, level)
	c.ended.lists.note(err)
	return page, receipt, err
}

func (c *Coordinator) list(ctx context.Context, span Span, level Level) (Listing, Receipt, error) {
	if err := span.Valid(); err != nil {
		return Listing{}, Receipt{}, fmt.Errorf("%s: %w", opList, err)
	}
	if err := c.enter(); err != nil {
		return Listing{}, Receipt{}, fmt.Errorf("%s: %w", opList, err)
	}
	defer c.leave()

	var page Listing
	var receipt Receipt
	for asked := 1; ; asked++ {
		ask := span
		ask.Limit = min(MaxSpan, max(minStretch, span.Limit-len(page.Keys)+1))
		l := &list{request: c.newRequest(opList, level), span: ask, stretches: make(map[string]Stretch)}
		err := l.admitRead()
		if err == nil {
			err = l.gather(ctx, l)
		}
		if got := l.receipt(version.Version{}); asked == 1 || err != nil || got.Acks < receipt.Acks {
			receipt = got // of the time when the fewest took part
		}
		if err != nil {
			return Listing{}, receipt, err
		}
		bound, more := l.bound()
		for e := range l.merged(bound, more) {
			if e.Deleted {
				continue
			}
			if len(page.Keys) == span.Limit {
				page.Next = page.Keys[span.Limit-1].Key
				return page, receipt, nil
			}
			page.Keys = append(page.Keys, e)
		}
		if !more {
			return page, receipt, nil
		}
		if len(page.Keys) == span.Limit || asked == maxStretches {
			page.Next = bound
			return page, receipt, nil
		}
		span.After = bound
	}
}

// list is one time that the replicas are asked for keys. A replica counts, verdict acked, once it
// has told what it knows of the span.
type list struct {
	*request
	span      Span
	stretches map[string]Stretch // by node
}

func (l *list) here(id string) reply {
	stretch, err := l.c.cfg.Store.Range(l.span)
	return reply{id: id, stretch: &stretch, err: err}
}

func (l *list) there(ctx context.Context) func(id string) reply {
	c, span := l.c, l.span
	return func(id string) reply {
		sent := time.Now()
		stretch, err := c.cfg.Peers.Range(ctx, id, span)
		if err == nil {
			err = span.answers(stretch)
		}
		if ctx.Err() == nil { // that the caller gave up is no evidence of anything
			c.report(id, sent, err)
		}
		return reply{id: id, stretch: &stretch, err: err}
	}
}

func (l *list) settle(got reply) {
	p := l.part(got.id)
	if got.err != nil {
		p.fail(got.err)
		return
	}
	p.verdict, p.err = acked, nil
	l.stretches[got.id] = *got.stretch
}

// converge reports that there is nothing to do once enough replicas have told what they know.
func (l *list) converge(context.Context) bool { return true }

// bound returns the last key up to which all replicas have told what they know, if any of them has
// more to tell: of a key above the end of one stretch, that replica may have something newer.
func (l *list) bound() (bound string, more bool) {
	for _, s := range l.stretches {
		if s.More {
			if last := s.Entries[len(s.Entries)-1].Key; !more || last < bound {
				bound = last
			}
			more = true
		}
	}
	return bound, more
}

// merged yields the newest of what the replicas know of each key, ascending: up to bound if
// bounded, else of all keys.
func (l *list) merged(bound string, bounded bool) iter.Seq[Entry] {
	var rests [][]Entry
	for _, s := range l.stretches {
		rests = append(rests, s.Entries)
	}
	return func(yield func(Entry) bool) {
		for {
			var next Entry
			for _, rest := range rests {
				if len(rest) > 0 && (next.Key == "" || rest[0].Key < next.Key ||
					rest[0].Key == next.Key && rest[0].Version.Compare(next.Version) > 0) {
					next = rest[0]
				}
			}
			if next.Key == "" || bounded && next.Key > bound || !yield(next) {
				return
			}
			for i, rest := range rests {
				if len(rest) > 0 && rest[0].Key == next.Key {
					rests[i] = rest[1:]
				}
			}
		}
	}
}
