package test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/protocol7/snakes/test/cluster"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if err := runMoreInParallel(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	os.Exit(cluster.Main(m))
}

// runMoreInParallel lets ten parallel stories run at once unless the command line says how many: they wait for nodes
// nearly all the time, and Go's default is one for each processor.
func runMoreInParallel() error {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if given {
		return nil
	}
	return flag.Set("test.parallel", "10")
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// seesKnown returns nil when each of the nodes counts exactly that many members as known.
func seesKnown(want int, nodes ...*cluster.Node) error {
	var errs []error
	for _, n := range nodes {
		m, err := n.Members()
		if err == nil && m.Known != want {
			err = fmt.Errorf("%s sees %s, want known=%d", n, m, want)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// stateOfItself returns nil when the node reports itself in state.
func stateOfItself(n *cluster.Node, state string) error {
	m, err := n.Members()
	if err != nil {
		return err
	}
	if me, ok := m.Me(); !ok || me.State != state {
		return fmt.Errorf("%s sees itself in %s, want %s", n, m, state)
	}
	return nil
}

// idOf returns the node id that the node reports for itself.
func idOf(t testing.TB, n *cluster.Node) string {
	t.Helper()
	m, err := n.Members()
	must(t, err)
	me, ok := m.Me()
	if !ok || len(me.ID) != 32 {
		t.Fatalf("%s reports %+v as itself, want a member with an id of 32 hexadecimal digits", n, me)
	}
	return me.ID
}
