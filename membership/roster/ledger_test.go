package roster_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/protocol7/snakes/membership/roster"
)

// disk keeps what a ledger saves. Nobody may rely on that if it says broken.
type disk struct {
	saved  []byte
	broken error
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// open returns the ledger of node self with what is on d. changed may be nil.
func open(t *testing.T, self string, d *disk, changed func()) *roster.Ledger {
	t.Helper()
	l, err := roster.Open(roster.Config{Self: self, Saved: d.saved, Changed: changed, Save: func(b []byte) error {
		d.saved = b
		return d.broken
	}})
	must(t, err)
	return l
}

// joined returns the ledger of node self with r in force.
func joined(t *testing.T, self string, d *disk, r roster.Roster) *roster.Ledger {
	t.Helper()
	l := open(t, self, d, nil)
	must(t, l.Join(roster.Roster{}, r))
	return l
}

// founders returns the roster of nodes 1 to 3, and the one before node 3 came.
func founders(t *testing.T) (base, before roster.Roster) {
	before = with(t, roster.Found(id(1)), roster.Change{Add: id(2)})
	return with(t, before, roster.Change{Add: id(3)}), before
}

// prepare asks for a promise, on behalf of a node that has base in force.
func prepare(base roster.Roster, round uint64, node string) roster.Message {
	return roster.Message{From: roster.Knowledge{Roster: base}, Base: base.Hash(), Ballot: roster.Ballot{Round: round, Node: node}}
}

func accept(base roster.Roster, round uint64, node string, next roster.Roster) roster.Message {
	m := prepare(base, round, node)
	m.Next = &next
	return m
}

var errNoConsent = errors.New("no consent")

func consent(l *roster.Ledger, m roster.Message) error {
	r, err := l.Answer(m)
	if err == nil && !r.OK {
		return errNoConsent
	}
	return err
}

func TestALedgerConsentsOnlyAsPaxosAllows(t *testing.T) {
	base, before := founders(t)
	next := with(t, base, roster.Change{Add: id(4)})
	far := with(t, next, roster.Change{Add: id(5)})
	stranger := roster.Roster{Cluster: id(99), Added: next.Added}
	promised, agreed := prepare(base, 5, id(2)), accept(base, 5, id(2), next)
	no, bad, other := errNoConsent, roster.ErrBadChange, roster.ErrOtherCluster
	for name, c := range map[string]struct {
		self    string
		earlier *roster.Message // it consents to that
		ask     roster.Message
		want    error
	}{
		"member promises":                     {id(1), nil, prepare(base, 1, id(2)), nil},
		"member accepts without a promise":    {id(1), nil, accept(base, 1, id(2), next), nil},
		"learner promises":                    {id(4), nil, prepare(base, 1, id(2)), no},
		"learner accepts":                     {id(4), nil, accept(base, 1, id(2), next), no},
		"promise for a higher round":          {id(1), &promised, prepare(base, 6, id(1)), nil},
		"promise for a lower round":           {id(1), &promised, prepare(base, 4, id(3)), no},
		"promise twice for one ballot":        {id(1), &promised, prepare(base, 5, id(2)), no},
		"promise for a ballot accepted under": {id(1), &agreed, prepare(base, 5, id(2)), no},
		"accept as promised":                  {id(1), &promised, accept(base, 5, id(2), next), nil},
		"accept against a promise":            {id(1), &promised, accept(base, 4, id(3), next), no},
		"promise on an old base":              {id(1), nil, prepare(before, 1, id(2)), no},
		"accept a step on an old base":        {id(1), nil, accept(before, 1, id(2), next), no},
		"accept two steps":                    {id(1), nil, accept(base, 1, id(2), far), bad},
		"accept a step to another cluster":    {id(1), nil, accept(base, 1, id(2), stranger), bad},
		"sender in another cluster":           {id(1), nil, prepare(stranger, 1, id(2)), other},
		"sender in no cluster":                {id(1), nil, prepare(roster.Roster{}, 1, id(2)), other},
	} {
		t.Run(name, func(t *testing.T) {
			var d disk
			l := joined(t, c.self, &d, base)
			if c.earlier != nil {
				must(t, consent(l, *c.earlier))
			}
			saved := string(d.saved)
			got, changed := consent(l, c.ask), string(d.saved) != saved
			if !errors.Is(got, c.want) || changed != (c.want == nil) {
				t.Errorf("got %v and durable state changed %v, want %v", got, changed, c.want)
			}
		})
	}
}

func TestKnowledgeOfMoreThanOneStepIsRefused(t *testing.T) {
	base, before := founders(t)
	far := with(t, base, roster.Change{Add: id(4)}, roster.Change{Add: id(5)})
	for name, accepted := range map[string]roster.Roster{"two steps": far, "no step": base, "a step back": before} {
		l, m := joined(t, id(1), &disk{}, base), prepare(base, 1, id(2))
		m.From.Accepted = &accepted
		merged, answered := l.Merge(m.From), consent(l, m)
		if !errors.Is(merged, roster.ErrBadChange) || !errors.Is(answered, roster.ErrBadChange) || l.Pending() {
			t.Errorf("%s: got %v, %v and rosters %v, want ErrBadChange twice and one roster", name, merged, answered, l.Rosters())
		}
	}
}

func TestForcedRostersMergeByUnion(t *testing.T) {
	base, _ := founders(t)
	for _, c := range [][2]roster.Change{
		{{Remove: id(2)}, {Remove: id(3)}}, {{Add: id(4)}, {Add: id(5)}}, {{Add: id(4), Remove: id(3)}, {Remove: id(2)}},
	} {
		a, b := joined(t, id(1), &disk{}, base), joined(t, id(1), &disk{}, base)
		must(t, a.Enroll(id(6)), a.Force(c[0]), b.Force(c[1]), a.Merge(b.Knowledge()), b.Merge(a.Knowledge()))
		if want := with(t, base, c[0], c[1]); !a.Roster().Equal(want) || !b.Roster().Equal(want) {
			t.Errorf("%+v: got %v and %v, want %v", c, a.Roster(), b.Roster(), want)
		}
		if got := a.Learners(); !cmp.Equal(got, []string{id(6)}) {
			t.Errorf("%+v: learners %v, want the one enrolled before", c, got)
		}
	}
}

func TestAProposerLeapsOverPromisesItHearsOf(t *testing.T) {
	_, base := founders(t)
	change := roster.Change{Add: id(3)}
	next := with(t, base, change)
	l, other := joined(t, id(1), &disk{}, base), joined(t, id(2), &disk{}, base)
	must(t, consent(l, prepare(base, 20, id(2))), consent(other, prepare(base, 40, id(2))))
	var got []roster.Message // to the one other member, so one at a time
	send := func(_ context.Context, _ string, m roster.Message) (roster.Reply, error) {
		got = append(got, roster.Message{Base: m.Base, Ballot: m.Ballot, Next: m.Next, Want: m.Want})
		return other.Answer(m)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	must(t, l.Change(ctx, send, func(r roster.Roster) (roster.Change, bool) { return change, !r.Has(id(3)) }))
	first, second := roster.Ballot{Round: 21, Node: id(1)}, roster.Ballot{Round: 41, Node: id(1)}
	want := []roster.Message{
		{Base: base.Hash(), Ballot: first, Want: change},
		{Base: base.Hash(), Ballot: second, Want: change},
		{Base: base.Hash(), Ballot: second, Next: &next},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
}

// TestAChangeIsKnownOnceDurableAndToldOnceKnown does whatever changes a ledger on a broken
// disk, on a mended one, and in vain.
func TestAChangeIsKnownOnceDurableAndToldOnceKnown(t *testing.T) {
	base, _ := founders(t)
	next := with(t, base, roster.Change{Add: id(4)})
	errDisk := errors.New("disk is broken")
	for name, c := range map[string]struct {
		deed   func(*roster.Ledger) error
		broken error // what it returns on a broken disk; nil for what need not be durable
	}{
		"join":              {func(l *roster.Ledger) error { return l.Join(base, roster.Found(id(1))) }, errDisk},
		"force":             {func(l *roster.Ledger) error { return l.Force(roster.Change{Remove: id(3)}) }, errDisk},
		"enroll":            {func(l *roster.Ledger) error { return l.Enroll(id(4)) }, errDisk},
		"merge a learner":   {func(l *roster.Ledger) error { return l.Merge(learnersOf(base, 4)) }, errDisk},
		"merge":             {func(l *roster.Ledger) error { return l.Merge(roster.Knowledge{Roster: next}) }, errDisk},
		"hear":              {func(l *roster.Ledger) error { return l.Merge(roster.Knowledge{Roster: base, Accepted: &next}) }, nil},
		"promise":           {func(l *roster.Ledger) error { return consent(l, prepare(base, 3, id(2))) }, errDisk},
		"merge and promise": {func(l *roster.Ledger) error { return consent(l, prepare(next, 3, id(2))) }, errDisk},
		"accept":            {func(l *roster.Ledger) error { return consent(l, accept(base, 3, id(2), next)) }, errDisk},
	} {
		t.Run(name, func(t *testing.T) {
			var d disk
			joined(t, id(1), &d, base)
			var l *roster.Ledger
			var told [][]roster.Roster // what each call of Changed sees
			l = open(t, id(1), &d, func() {
				if told = append(told, l.Rosters()); len(told) > 1 {
					return
				}
				stuck := time.AfterFunc(5*time.Second, func() { panic("Changed is called with the lock held") })
				defer stuck.Stop()
				l.Merge(roster.Knowledge{Roster: base}) // nothing new, but takes the lock
			})
			if d.broken = c.broken; d.broken != nil {
				if got := c.deed(l); !errors.Is(got, errDisk) || !cmp.Equal(l.Rosters(), []roster.Roster{base}) || l.Learners() != nil || told != nil {
					t.Errorf("broken disk: got %v, rosters %v, learners %v, told %v", got, l.Rosters(), l.Learners(), told)
				}
			}
			d.broken = nil
			must(t, c.deed(l))
			if name != "accept" { // which may be saved, and told, again
				c.deed(l) // changes nothing, whether it is refused or not
			}
			if diff := cmp.Diff([][]roster.Roster{l.Rosters()}, told); diff != "" {
				t.Errorf("told (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPromisesAndAcceptanceSurviveAReopen(t *testing.T) {
	base, _ := founders(t)
	next := with(t, base, roster.Change{Add: id(4)})
	var d disk
	must(t, consent(joined(t, id(1), &d, base), accept(base, 5, id(2), next)))
	must(t, consent(open(t, id(1), &d, nil), prepare(base, 7, id(3))))
	l := open(t, id(1), &d, nil)
	if got := consent(l, prepare(base, 7, id(3))); !errors.Is(got, errNoConsent) {
		t.Errorf("promise as before: got %v, want no consent", got)
	}
	m := prepare(base, 8, id(2))
	want := roster.Reply{OK: true, From: roster.Knowledge{Roster: base, Accepted: &next, Learners: []string{id(4)}}, Promised: m.Ballot, Ballot: roster.Ballot{Round: 5, Node: id(2)}}
	if got, err := l.Answer(m); err != nil || !cmp.Equal(got, want) {
		t.Errorf("reopened: got %+v, %v, want %+v", got, err, want)
	}
}

func TestOpenRefusesWhatMakesNoSense(t *testing.T) {
	for _, saved := range []string{
		"", "{", "[]", `{"roster":{"cluster":"snakes"}}`,
		fmt.Sprintf(`{"roster":{"cluster":%q,"added":["x"]}}`, id(1)),
		fmt.Sprintf(`{"roster":{"cluster":%q,"added":[%q,%q]}}`, id(1), id(2), id(1)),
		fmt.Sprintf(`{"roster":{"cluster":%q,"removed":[%q,%q]}}`, id(1), id(2), id(2)),
		fmt.Sprintf(`{"roster":{"cluster":%q,"added":[%q]},"promised":7}`, id(1), id(2)),
		fmt.Sprintf(`{"roster":{"cluster":%q,"added":[%q]},"learners":["x"]}`, id(1), id(2)),
		fmt.Sprintf(`{"roster":{"cluster":%q,"added":[%q]},"learners":[%q]}`, id(1), id(2), id(2)),
		fmt.Sprintf(`{"roster":{"cluster":%q,"added":[%q],"removed":[%q]},"learners":[%q]}`, id(1), id(2), id(3), id(3)),
	} {
		if l, err := roster.Open(roster.Config{Self: id(1), Saved: []byte(saved)}); err == nil {
			t.Errorf("%q: opened with %v, want an error", saved, l.Rosters())
		}
	}
}

func learnersOf(r roster.Roster, learners ...int) roster.Knowledge {
	k := roster.Knowledge{Roster: r}
	for _, n := range learners {
		k.Learners = append(k.Learners, id(n))
	}
	return k
}

func TestLearnersMergeUntilTheyAreInTheRosterOrRemoved(t *testing.T) {
	base, before := founders(t)
	var d disk
	l := joined(t, id(1), &d, base)
	stamp := l.Stamp()
	want := func(learners ...int) {
		t.Helper()
		want := learnersOf(base, learners...).Learners
		if got := l.Learners(); !cmp.Equal(got, want) {
			t.Errorf("learners: got %v, want %v", got, want)
		}
		if got := open(t, id(1), &d, nil).Learners(); !cmp.Equal(got, want) {
			t.Errorf("learners after a reopen: got %v, want %v", got, want)
		}
		if l.Stamp() == stamp {
			t.Errorf("the stamp stays %s", stamp)
		}
		stamp = l.Stamp()
	}
	must(t, l.Enroll(id(4)))
	want(4)
	must(t, l.Merge(learnersOf(before, 3, 5, 6))) // from a ledger that has yet to hear of the last change
	want(4, 5, 6)
	next := with(t, base, roster.Change{Add: id(4)}, roster.Change{Remove: id(5)})
	must(t, l.Merge(learnersOf(next, 7)))
	want(6, 7)
	must(t, l.Merge(learnersOf(base, 4, 5, 6)), l.Enroll(id(4)), l.Enroll(id(1)))
	if got := l.Learners(); !cmp.Equal(got, []string{id(6), id(7)}) {
		t.Errorf("what was known before brings back %v", got)
	}
	for _, id := range []string{id(5), "x", ""} {
		if got := l.Enroll(id); !errors.Is(got, roster.ErrBadChange) {
			t.Errorf("enroll %q: got %v, want ErrBadChange", id, got)
		}
	}
	if got := open(t, id(1), &disk{}, nil).Enroll(id(2)); !errors.Is(got, roster.ErrBadChange) {
		t.Errorf("enroll in no cluster: got %v, want ErrBadChange", got)
	}
}

func TestWhoIsProposedIsALearnerAndSoIsWhoJoins(t *testing.T) {
	base, _ := founders(t)
	next := with(t, base, roster.Change{Add: id(4)})
	acceptor, hearer, newcomer := joined(t, id(1), &disk{}, base), joined(t, id(2), &disk{}, base), joined(t, id(4), &disk{}, base)
	must(t, consent(acceptor, accept(base, 1, id(3), next)), hearer.Merge(roster.Knowledge{Roster: base, Accepted: &next}))
	for name, l := range map[string]*roster.Ledger{"acceptor": acceptor, "hearer": hearer, "newcomer": newcomer} {
		if got, want := l.Learners(), []string{id(4)}; !cmp.Equal(got, want) {
			t.Errorf("%s: learners %v, want %v", name, got, want)
		}
	}
}

// A node whose disk fails still answers reads, and so must count quorums as the others do.
func TestAProposalIsHeardThoughItsLearnerCannotBeSaved(t *testing.T) {
	base, _ := founders(t)
	next := with(t, base, roster.Change{Add: id(4)})
	var d disk
	l := joined(t, id(1), &d, base)
	d.broken = errors.New("disk is broken")
	err := l.Merge(roster.Knowledge{Roster: base, Accepted: &next})
	if !errors.Is(err, roster.ErrNotEnrolled) || !errors.Is(err, d.broken) {
		t.Errorf("got %v, want ErrNotEnrolled and why", err)
	}
	if got, want := l.Rosters(), []roster.Roster{base, next}; !cmp.Equal(got, want) {
		t.Errorf("rosters: got %v, want %v", got, want)
	}
}
