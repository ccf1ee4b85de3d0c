//go:build !race

package roster_test

import (
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

// TestWrongRulesLetBothSidesPass shows that the test above would notice.
func TestWrongRulesLetBothSidesPass(t *testing.T) {
	for name, wrong := range map[string]rule{"deaf": {deaf: true}, "oneOnly": {oneOnly: true}, "liveList": {liveList: true}} {
		caught, seed := false, uint64(0)
		for ; !caught && seed < 20*worlds; seed++ {
			synctest.Test(t, func(t *testing.T) { caught = runRandomWorld(t, seed, wrong) })
		}
		t.Logf("%s: caught %v after %d worlds", name, caught, seed)
		if !caught {
			t.Errorf("rule %s was never caught", name)
		}
	}
}
