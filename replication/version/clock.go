package version

import (
	"sync"
	"time"
)

// MaxAhead is how far a timestamp may be ahead of the local wall clock and still move a Clock.
const MaxAhead = 500 * time.Millisecond

// Clock is a hybrid logical clock: close to wall time, above all that it issued or observed.
// Safe for concurrent use.
type Clock struct {
	now func() time.Time

	mu   sync.Mutex // guards last
	last Timestamp
}

// NewClock returns a clock that reads wall time from now (nil: time.Now) and issues only
// timestamps after floor, the highest one that this node is known to have issued before.
func NewClock(now func() time.Time, floor Timestamp) *Clock {
	if now == nil {
		now = time.Now
	}
	return &Clock{now: now, last: floor}
}

// Next issues a timestamp: after all that c issued or observed, and not before wall time.
func (c *Clock) Next() Timestamp {
	wall := c.wall()
	c.mu.Lock()
	defer c.mu.Unlock()
	if wall > c.last.Wall {
		c.last = Timestamp{Wall: wall}
	} else {
		c.last = c.last.Next()
	}
	return c.last
}

// Observe makes all later timestamps of c come after t, and reports whether it did: it does
// not if t is more than MaxAhead ahead of the local wall clock.
func (c *Clock) Observe(t Timestamp) bool {
	if t.Wall-c.wall() > int64(MaxAhead) {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.Compare(c.last) > 0 {
		c.last = t
	}
	return true
}

// Last returns the highest timestamp that c issued or observed, for telling peers. It moves
// nothing.
func (c *Clock) Last() Timestamp {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

func (c *Clock) wall() int64 { return max(0, c.now().UnixNano()) }
