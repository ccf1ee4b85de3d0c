package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/protocol7/snakes/node/client"
	"github.com/protocol7/snakes/node/verdict"
	"github.com/protocol7/snakes/test/cluster"
)

// verdictIs returns nil if what all running nodes say comes to the word, with so many sides.
func verdictIs(c *cluster.Cluster, want verdict.Word, sides int) error {
	var views []client.View
	for _, n := range c.Nodes() {
		view := client.View{Server: "http://" + n.Addr(), Err: errors.New("it does not run")}
		if n.Running() {
			answer := n.Do("GET", "/-/members", "")
			view.Err = answer.Expect(200)
			if view.Err == nil {
				view.Err = json.Unmarshal([]byte(answer.Body), &view.Members)
			}
		}
		views = append(views, view)
	}
	if got := verdict.Of(views, time.Now()); got.Word != want || len(got.Sides) != sides {
		return fmt.Errorf("got %s: %s %v; want %s with %d sides", got.Word, got.Sentence, got.Problems, want, sides)
	}
	return nil
}

// What nodes say of each other tells a split from nodes that are gone, and where writes still pass.
func TestVerdictTellsASplitFromALoss(t *testing.T) {
	c := cluster.New(t, cluster.Options{Nodes: 3, Network: cluster.Namespaces})
	c.Start()
	await := func(want verdict.Word, sides int) {
		t.Helper()
		c.Await(40*time.Second, fmt.Sprintf("%s with %d sides", want, sides), func() error { return verdictIs(c, want, sides) })
	}
	await(verdict.Insecure, 0) // it is on a network without a secret, and well
	c.Cut([]int{0}, []int{1, 2})
	await(verdict.Split, 2)
	c.Cut([]int{1}, []int{2})
	await(verdict.NoWrites, 3)
	c.Heal()
	await(verdict.Insecure, 0)
	c.Node(2).Kill()
	await(verdict.Degraded, 0)
	c.Node(1).Stop()
	await(verdict.NoWrites, 0)
}
