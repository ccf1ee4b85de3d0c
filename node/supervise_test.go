package node

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestWatchdogIsFedByProgressAlone(t *testing.T) {
	const patience = 30 * time.Second
	for _, row := range []struct {
		name    string
		syncs   uint64 // of clients' writes in a second
		rounds  uint64 // of membership in a second
		hangs   bool   // the disk, when it is probed
		refuses bool
		fed     bool
	}{
		{name: "idle", rounds: 1, fed: true},
		{name: "busy, so that no probe is needed", syncs: 1, rounds: 1, hangs: true, fed: true},
		{name: "a disk that refuses", rounds: 1, refuses: true, fed: true},
		{name: "a disk that hangs", rounds: 1, hangs: true},
		{name: "a view that stands still"},
		{name: "a view that stands still while clients write", syncs: 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 10*patience)
				defer cancel()
				began := time.Now()
				since := func(perSecond uint64) func() uint64 {
					return func() uint64 { return uint64(time.Since(began)/time.Second) * perSecond }
				}
				probe := func() error {
					if row.hangs {
						<-ctx.Done()
					}
					if row.refuses {
						return errors.New("read-only")
					}
					return nil
				}
				last, longest, times := began, time.Duration(0), 0
				progress{since(row.syncs), probe, since(row.rounds)}.feed(ctx, patience, func() {
					if ctx.Err() != nil {
						return // what hung does so no more
					}
					longest, last = max(longest, time.Since(last)), time.Now()
					times++
				})
				if longest = max(longest, time.Since(last)); row.fed && longest >= patience {
					t.Errorf("once not fed for %v, want it within %v always", longest, patience)
				}
				if !row.fed && times > 0 {
					t.Errorf("fed %d times, want never", times)
				}
			})
		})
	}
}
