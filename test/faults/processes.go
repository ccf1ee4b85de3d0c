package faults

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/protocol7/snakes/test/cluster"
)

// processFaults are about processes that end, stand still or come back as somebody else.
var processFaults = []fault{
	{name: "kill -9 of one", args: soonForgotten, hold: lasting(600*time.Millisecond, 1800*time.Millisecond), inject: killOne},
	{name: "away while keys are deleted", args: soonForgotten, hold: lasting(3*time.Second, 5*time.Second), inject: killOne},
	{name: "kill -9 while it catches up", args: []string{"--sync-limit", "2MiB"}, hold: lasting(0, 100*time.Millisecond), inject: killCatchingUp},
	{name: "kill -9 of all", args: soonForgotten, hold: lasting(0, 300*time.Millisecond), inject: killAll},
	{name: "frozen node", hold: lasting(1200*time.Millisecond, 4*time.Second), inject: freezeOne},
	{name: "rolling restart", args: soonForgotten, hold: lasting(0, 200*time.Millisecond), inject: restartEach},
	{name: "old copy of a data directory", args: soonForgotten, hold: lasting(200*time.Millisecond, 600*time.Millisecond), inject: oldCopy},
	{name: "twins with one id", hold: lasting(200*time.Millisecond, 600*time.Millisecond), inject: twins},
	{name: "wiped disk", args: soonForgotten, hold: lasting(300*time.Millisecond, 800*time.Millisecond), inject: wipe},
}

func lasting(least, most time.Duration) [2]time.Duration { return [2]time.Duration{least, most} }

func killOne(s *subject, random *rand.Rand) injury {
	victim := random.IntN(len(s.nodes))
	s.Node(victim).Kill()
	return injury{
		victims: []int{victim}, what: fmt.Sprintf("n%d killed", victim),
		heal: func() { s.Node(victim).Start() },
	}
}

// killCatchingUp kills a node, and once more while it fetches what it missed.
func killCatchingUp(s *subject, random *rand.Rand) injury {
	victim := random.IntN(len(s.nodes))
	n := s.Node(victim)
	n.Kill()
	s.load.bulk((victim+1)%len(s.nodes), 48)
	n.Start()
	time.Sleep(time.Duration(random.Int64N(int64(1500 * time.Millisecond))))
	n.Kill()
	return injury{
		victims: []int{victim}, what: fmt.Sprintf("n%d killed while it caught up", victim),
		heal: func() { n.Start() },
	}
}

// twins starts a second process with the data, and so the id, of a node that runs. It has to refuse.
func twins(s *subject, random *rand.Rand) injury {
	victim := random.IntN(len(s.nodes))
	n := s.Node(victim)
	n.Kill()
	data := n.CopyData()
	n.Start()
	s.AwaitMembers(settleLimit)
	twin := cluster.New(s.t, cluster.Options{Nodes: 1, ClusterName: s.name}).Node(0)
	twin.PutBack(data)
	twin.Launch("--join", n.Addr())
	if code := twin.AwaitExit(settleLimit); code != 1 {
		s.t.Errorf("the twin of %s ended with exit code %d, want 1", n, code)
	}
	return injury{victims: []int{victim}, what: fmt.Sprintf("a twin of n%d", victim), heal: func() {}}
}

func everyone(s *subject) []int {
	all := make([]int, len(s.nodes))
	for i := range all {
		all[i] = i
	}
	return all
}

// killAll kills all nodes so shortly after each other that none can tell.
func killAll(s *subject, random *rand.Rand) injury {
	for _, i := range random.Perm(len(s.nodes)) {
		s.Node(i).Kill()
	}
	return injury{victims: everyone(s), what: "all killed", heal: func() { s.StartAll() }}
}

func freezeOne(s *subject, random *rand.Rand) injury {
	victim := random.IntN(len(s.nodes))
	s.Node(victim).Freeze()
	return injury{
		victims: []int{victim}, what: fmt.Sprintf("n%d frozen", victim),
		heal: s.Node(victim).Thaw,
	}
}

func restartEach(s *subject, random *rand.Rand) injury {
	for _, i := range random.Perm(len(s.nodes)) {
		s.Node(i).Restart()
		s.AwaitMembers(settleLimit)
	}
	return injury{victims: everyone(s), what: "each restarted", heal: func() {}}
}

// oldCopy has a node go back to what it was in the middle of the round.
func oldCopy(s *subject, random *rand.Rand) injury {
	victim := random.IntN(len(s.nodes))
	n := s.Node(victim)
	n.Kill()
	copied := n.CopyData()
	n.Start()
	s.AwaitMembers(settleLimit)
	time.Sleep(time.Duration(random.Int64N(int64(500 * time.Millisecond))))
	n.Kill()
	n.PutBack(copied)
	return injury{
		victims: []int{victim}, diskLost: true, what: fmt.Sprintf("an old copy of n%d", victim),
		heal: func() { n.Start() },
	}
}

// wipe has a node lose its disk and come back under its name.
func wipe(s *subject, random *rand.Rand) injury {
	victim := random.IntN(len(s.nodes))
	n := s.Node(victim)
	n.Kill()
	n.Wipe()
	return injury{
		victims: []int{victim}, diskLost: true, what: fmt.Sprintf("the disk of n%d wiped", victim),
		heal: func() { n.Start("--join", s.Node((victim+1)%len(s.nodes)).Addr()) },
	}
}
