//go:build race

package roster_test

import (
	"fmt"
	"testing"
)

const rounds = 4

// inWorlds runs f in a few worlds on real time: the race detector crashes in programs with many
// synctest bubbles (golang/go issue 78156).
func inWorlds(t *testing.T, f func(t *testing.T, seed uint64)) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			f(t, seed)
		})
	}
}
