package faults

import (
	"flag"
	"slices"
	"testing"

	"github.com/protocol7/snakes/test/cluster"
)

// TestWhichSettingsAreLinearizable over a network in which packets take their time: those that README says, and no others. Of the others it prints an example.
func TestWhichSettingsAreLinearizable(t *testing.T) {
	if cluster.Raced() && flag.Lookup("test.run").Value.String() == "" {
		t.Skip("the plain run of the tests does this; with the race detector its times would be others")
	}
	const least, most = 3, 40 // rounds
	i := slices.IndexFunc(allFaults(), func(f fault) bool { return f.name == "delay and jitter" })
	f := allFaults()[i]
	needs(t, f)
	t.Logf("-seed %d", *seed)
	s := newSubject(t, f, cluster.Options{})
	s.plain, s.mixed = "a", "aqod"
	examples := map[string]string{}
	for i := 0; i < least || i < most && (examples["a"] == "" || examples["o"] == ""); i++ {
		r := s.round(f, *seed+uint64(i)) // which looks for an order with default levels and quorum
		if len(r.wrong) > 0 {
			t.Fatalf("seed %d: %s", r.seed, summary(r.wrong))
		}
		for letter := range settings {
			if found := orderOf(r.history.operations, letter, linearLimit); examples[letter] == "" && len(found.wrong) > 0 {
				examples[letter] = found.wrong[0]
			}
		}
	}
	for letter, setting := range settings {
		example := examples[letter]
		t.Logf("%v: linearizable %t\n%s", setting, example == "", example)
		if (example == "") != setting.quorate {
			t.Errorf("%v: linearizable %t in %d rounds, want %t", setting, example == "", most, setting.quorate)
		}
	}
}
