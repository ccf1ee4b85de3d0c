package membership_test

import (
	"strings"
	"testing"

	"github.com/protocol7/snakes/membership"
)

func TestBadConfigIsRefusedWithAllItsProblems(t *testing.T) {
	_, err := membership.New(membership.Config{
		ID: "x", Name: "Upper", Cluster: "under_score", Address: "nowhere", Seeds: []string{":1", "host:0", "host:70000"},
		Version: strings.Repeat("1", 33), Pace: -1,
	})
	if err == nil {
		t.Fatal("a config in which all is wrong was accepted")
	}
	for _, want := range []string{`"x"`, "origin", `"Upper"`, `"under_score"`, `"nowhere"`, `":1"`, `"host:0"`, `"host:70000"`, "version", "required", "pace"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not name %s:\n%v", want, err)
		}
	}
}
