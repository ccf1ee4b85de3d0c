package replication

import (
	"context"
	"time"
)

const (
	// yields is for how many times as long as the last page took the next one waits while
	// clients' requests are under way: clients go first, and sync keeps a tenth of the time.
	yields = 9
	// maxYield limits what one page counts for in that, so that a page which hung does not
	// make the next one wait for a minute.
	maxYield = time.Second
	// maxLimitWait limits the wait that one page costs under a limit of bytes per second, well
	// below maxOfferIdle: else the pull would be gone by the time of the next page. Only a
	// record that takes longer than this by itself exceeds the limit.
	maxLimitWait = 30 * time.Second
)

// pace holds a Syncer back between two pages. It is used by one goroutine.
type pace struct {
	// busy reports whether clients' requests are under way.
	busy func() bool
	// perSecond is the limit in bytes, 0 for none.
	perSecond int64

	ended   time.Time     // of the last page
	took    time.Duration // by the last page, at most maxYield
	allowed time.Time     // from when on the limit allows another page
}

// wait returns when the next page may be asked for: once the limit allows it, and once no
// client's request is under way or they had their share. The error is ctx's.
func (p *pace) wait(ctx context.Context) error {
	if err := sleep(ctx, time.Until(p.allowed)); err != nil {
		return err
	}
	for i := 1; i <= yields && p.busy(); i++ {
		if err := sleep(ctx, time.Until(p.ended.Add(time.Duration(i)*p.took))); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// spent enters a page of that many bytes which was asked for at the given time and has just
// been applied.
func (p *pace) spent(asked time.Time, bytes int) {
	p.ended = time.Now()
	p.took = min(p.ended.Sub(asked), maxYield)
	if p.perSecond > 0 {
		cost := time.Duration(float64(bytes) / float64(p.perSecond) * float64(time.Second))
		p.allowed = asked.Add(min(cost, maxLimitWait))
	}
}

// sleep returns after d, or when ctx ends, with its error.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
