package faults

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"time"

	"github.com/protocol7/snakes/test/cluster"
)

// networkFaults are about packets that do not arrive, or late, twice, or in another order.
var networkFaults = []fault{
	cutting("one cut off", func(s *subject, v int, _ *rand.Rand) injury {
		s.Cut([]int{v}, s.others(v))
		return injury{victims: []int{v}, outvoted: []int{v}}
	}),
	cutting("one heard by nobody", func(s *subject, v int, _ *rand.Rand) injury {
		for _, o := range s.others(v) {
			s.CutOneWay(v, o)
		}
		return injury{victims: []int{v}, outvoted: []int{v}}
	}),
	cutting("one hears nobody", func(s *subject, v int, _ *rand.Rand) injury {
		for _, o := range s.others(v) {
			s.CutOneWay(o, v)
		}
		return injury{victims: []int{v}, outvoted: []int{v}}
	}),
	cutting("two cut off from each other", func(s *subject, v int, _ *rand.Rand) injury {
		s.Cut([]int{v}, []int{s.others(v)[0]})
		return injury{}
	}),
	cutting("all cut off", func(s *subject, _ int, _ *rand.Rand) injury {
		s.Cut([]int{0}, []int{1}, []int{2})
		return injury{victims: everyone(s), outvoted: everyone(s)}
	}),
	cutting("HTTP cut, gossip alive", shaping(cluster.Way{NoHTTP: true}, func(v int) injury {
		return injury{victims: []int{v}, outvoted: []int{v}}
	})),
	cutting("gossip cut, HTTP alive", shaping(cluster.Way{NoGossip: true}, func(v int) injury {
		return injury{victims: []int{v}}
	})),
	cutting("large packets lost", shaping(cluster.Way{MTU: 900}, func(v int) injury {
		return injury{victims: []int{v}}
	})),
	everywhere("UDP blocked", cluster.Way{NoUDP: true}, false),
	everywhere("delay and jitter", cluster.Way{Delay: 20 * time.Millisecond, Jitter: 60 * time.Millisecond}, false),
	everywhere("jitter", cluster.Way{Jitter: 25 * time.Millisecond}, false),
	everywhere("one packet of twenty lost", cluster.Way{Loss: 0.05}, true),
	everywhere("doubled and overtaken", cluster.Way{Doubled: 0.1, Overtaken: 0.1}, false),
	cutting("flapping link", flap),
}

// others returns all nodes but one.
func (s *subject) others(but int) []int {
	var all []int
	for i := range s.nodes {
		if i != but {
			all = append(all, i)
		}
	}
	return all
}

// needsNetworks returns what this machine lacks for networks of its own.
func needsNetworks() error {
	_, err := exec.LookPath("ip")
	return err
}

// cutting is a fault that hits the ways of one node. What inject returns is filled in.
func cutting(name string, inject func(s *subject, victim int, random *rand.Rand) injury) fault {
	return fault{
		name: name, network: cluster.Relayed, needs: needsNetworks, hold: lasting(time.Second, 2500*time.Millisecond),
		inject: func(s *subject, random *rand.Rand) injury {
			victim := random.IntN(len(s.nodes))
			i := inject(s, victim, random)
			i.what = fmt.Sprintf("%s: n%d", name, victim)
			if i.heal == nil {
				i.heal = s.Heal
			}
			return i
		},
	}
}

// shaping spoils the ways between a victim and all others.
func shaping(w cluster.Way, injured func(victim int) injury) func(*subject, int, *rand.Rand) injury {
	return func(s *subject, v int, _ *rand.Rand) injury {
		for _, o := range s.others(v) {
			s.Shape(v, o, w)
			s.Shape(o, v, w)
		}
		return injured(v)
	}
}

// everywhere spoils all ways. If it is harsh, requests may fail anywhere.
func everywhere(name string, w cluster.Way, harsh bool) fault {
	return cutting(name, func(s *subject, _ int, _ *rand.Rand) injury {
		for from := range s.nodes {
			for _, to := range s.others(from) {
				s.Shape(from, to, w)
			}
		}
		if harsh {
			return injury{victims: everyone(s)}
		}
		return injury{}
	})
}

// flap cuts a node off and heals it, again and again, each for up to a third of a second.
func flap(s *subject, v int, random *rand.Rand) injury {
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			for _, o := range s.others(v) {
				w := cluster.Way{}
				if i%2 == 0 {
					w.Loss = 1
				}
				s.Shape(v, o, w)
				s.Shape(o, v, w)
			}
			select {
			case <-end:
				return
			case <-time.After(time.Duration(random.Int64N(int64(330 * time.Millisecond)))):
			}
		}
	}()
	return injury{victims: []int{v}, heal: func() {
		close(end)
		<-done
		s.Heal()
	}}
}
