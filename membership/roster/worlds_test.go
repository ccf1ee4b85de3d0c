//go:build !race

package roster_test

import (
	"errors"
	"testing"
	"testing/synctest"
)

const (
	worlds = 150
	rounds = 12
)

// inWorlds runs f in many worlds on fake time.
func inWorlds(t *testing.T, f func(t *testing.T, seed uint64)) {
	for seed := range uint64(worlds) {
		synctest.Test(t, func(t *testing.T) { f(t, seed) })
	}
}

// TestWrongRulesAreCaught shows that the test above would notice.
func TestWrongRulesAreCaught(t *testing.T) {
	for name, c := range map[string]struct {
		wrong rule
		want  error
	}{
		"deaf":     {rule{deaf: true}, errBothPass},
		"oneOnly":  {rule{oneOnly: true}, errBothPass},
		"liveList": {rule{liveList: true}, errBothPass},
		"revive":   {rule{revive: true}, errCameBack},
		"forget":   {rule{forget: true}, errLostLearner},
	} {
		var got error
		seed := uint64(0)
		for ; got == nil && seed < 20*worlds; seed++ {
			synctest.Test(t, func(t *testing.T) { got = runRandomWorld(t, seed, c.wrong) })
		}
		t.Logf("%s: after %d worlds: %v", name, seed, got)
		if !errors.Is(got, c.want) {
			t.Errorf("rule %s: got %v, want it caught since %v", name, got, c.want)
		}
	}
}
