package membership

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/protocol7/snakes/membership/roster"
	"github.com/protocol7/snakes/membership/transport"
)

// The tests of this file set what a node has heard of others and look at what it makes of that,
// without gossip.

// storage is a Storage that works.
type storage map[string][]byte

func (s storage) LoadState(name string) ([]byte, error) {
	if value, saved := s[name]; saved {
		return value, nil
	}
	return nil, fs.ErrNotExist
}

func (s storage) SaveState(name string, value []byte) error {
	s[name] = value
	return nil
}

// nobody is a Link to nodes of which none answers.
type nobody struct{}

func (nobody) Consent(context.Context, string, string, []byte) ([]byte, error) {
	return nil, errors.New("connection refused")
}

// pinged is a Link to the one node of which it is the id.
type pinged string

func (id pinged) Consent(_ context.Context, to, _ string, _ []byte) ([]byte, error) {
	if to != string(id) {
		return nil, errors.New("connection refused")
	}
	return []byte(`{"origin":1}`), nil
}

func nodeID(digit string) string { return strings.Repeat(digit, 32) }

// alone returns the membership of node 5 that talks to nobody, and what it logs.
func alone(t *testing.T, seeds ...string) (*Membership, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	m, err := New(Config{
		ID: nodeID("5"), Origin: 1, Name: "node-5", Cluster: "test", Address: "127.0.0.1:9005", Seeds: seeds,
		Transport: new(transport.Transport), Storage: storage{}, Link: nobody{},
		Logger: hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Info}), SettleFor: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	return m, &log
}

// hears makes m hear a node since metAt.
func (m *Membership) hears(digit string, i info, metAt time.Time) {
	i.Name, i.Address = "node-"+digit, "127.0.0.1:900"+digit
	m.update(func() { m.peers[nodeID(digit)] = &peer{info: i, gossiping: true, metAt: metAt} })
}

func TestTheLowestOfSettledSeekersFounds(t *testing.T) {
	long, now := time.Now().Add(-time.Hour), time.Now()
	for name, c := range map[string]struct {
		others map[string]time.Time // since when they are heard
		want   bool
	}{
		"lowest":                      {map[string]time.Time{"6": long, "7": long}, true},
		"not the lowest":              {map[string]time.Time{"4": long, "7": long}, false},
		"lowest, but one just came":   {map[string]time.Time{"6": long, "7": now}, false},
		"alone":                       {nil, false}, // seek decides that
		"not the lowest, one just in": {map[string]time.Time{"4": now}, false},
	} {
		m, _ := alone(t, "127.0.0.1:9009")
		for digit, since := range c.others {
			m.hears(digit, info{Seeks: true}, since)
		}
		m.settle(t.Context())
		if got := m.Snapshot().Joined(); got != c.want {
			t.Errorf("%s: founded %v, want %v", name, got, c.want)
		}
	}
}

// Its cluster may go on somewhere, whoever else looks for one.
func TestTheLowestOfSettledSeekersFoundsNothingIfItHadACluster(t *testing.T) {
	m, _ := alone(t, "127.0.0.1:9009")
	m.former = map[string]info{}
	m.hears("6", info{Seeks: true}, time.Now().Add(-time.Hour))
	if m.settle(t.Context()); m.Snapshot().Joined() {
		t.Errorf("it founded a cluster")
	}
}

// Whoever is left in the roster, or is a learner still, may be nobody who can take it in.
func TestARemovedNodeRemembersThoseThatWereRemovedWithIt(t *testing.T) {
	m, _ := alone(t)
	for _, digit := range []string{"6", "7"} {
		m.hears(digit, info{Cluster: m.Snapshot().ClusterID}, time.Now())
	}
	m.enrollLearners()
	saved := m.saveMembers(nil)
	gone := []string{nodeID("5"), nodeID("6")}
	err := m.ledger.Merge(roster.Knowledge{Roster: roster.Roster{Cluster: m.Snapshot().ClusterID, Added: gone, Removed: gone}})
	if err != nil {
		t.Fatal(err)
	}
	saved = m.saveMembers(saved)
	kept, err := m.cfg.Storage.LoadState(membersState)
	if err != nil || !bytes.Contains(kept, []byte("127.0.0.1:9006")) || !bytes.Equal(kept, saved) {
		t.Errorf("got %s, %v, want it with the address of node 6", kept, err)
	}
}

// Else two clusters of one that were told to join each other would each enter the other's.
func TestOfTwoClustersOfOneTheHigherIDGivesWay(t *testing.T) {
	for digit, want := range map[string]bool{"4": true, "6": false} {
		m, _ := alone(t, "127.0.0.1:9009")
		if err := m.found("test"); err != nil {
			t.Fatal(err)
		}
		m.hears(digit, info{Cluster: nodeID("c"), Counted: true, Seeks: true}, time.Now())
		hosts, _ := m.candidates(m.ledger.Roster())
		if got := slices.Contains(hosts, host{nodeID(digit), "127.0.0.1:900" + digit}); got != want {
			t.Errorf("node 5 joins the cluster of node %s: %v, want %v", digit, got, want)
		}
	}
}

func TestAFounderWithSeedsLetsNobodyCountBeforeItHasSettled(t *testing.T) {
	m, _ := alone(t, "127.0.0.1:9009")
	if err := m.found("test"); err != nil {
		t.Fatal(err)
	}
	m.SetSynced(true)
	m.cfg.Link = pinged(nodeID("6"))
	learner := info{Cluster: m.Snapshot().ClusterID, Synced: true}
	m.hears("6", learner, time.Now())
	m.enrollLearners()
	var work backlog
	counts := func() bool {
		m.tendRoster(t.Context(), &work)
		member, _ := m.Snapshot().Member(nodeID("6"))
		return member.Counted
	}
	if counts() {
		t.Errorf("a learner counts before the founder has settled")
	}
	m.update(func() { m.birth = time.Now().Add(-m.cfg.SettleFor) })
	if !counts() {
		t.Errorf("a learner does not count after the founder has settled")
	}
	m, _ = alone(t)
	m.cfg.Link = pinged(nodeID("6"))
	m.SetSynced(true)
	m.hears("6", info{Cluster: m.Snapshot().ClusterID, Synced: true}, time.Now())
	m.enrollLearners()
	if !counts() {
		t.Errorf("a founder without seeds waits")
	}
}

// Gossip takes some seconds to notice a death. A member that was dead before it counted may take
// the majority of the cluster with it.
func TestALearnerThatDoesNotAnswerIsNotLetCount(t *testing.T) {
	m, _ := alone(t)
	m.SetSynced(true)
	m.hears("6", info{Cluster: m.Snapshot().ClusterID, Synced: true}, time.Now())
	m.enrollLearners()
	for link, want := range map[Link]bool{nobody{}: false, pinged(nodeID("6")): true} {
		m.cfg.Link = link
		if change, got := m.nextPromotion(t.Context(), m.ledger.Roster()); got != want {
			t.Errorf("with %#v: got %+v, %v, want %v", link, change, got, want)
		}
	}
}

// Else it would be promoted before it has pulled anything there.
func TestWhoGivesUpItsOwnClusterIsNotSyncedInTheNext(t *testing.T) {
	m, _ := alone(t)
	m.SetSynced(true)
	if err := m.ledger.Join(m.ledger.Roster(), roster.Roster{Cluster: nodeID("c"), Added: []string{nodeID("4")}}); err != nil {
		t.Fatal(err)
	}
	if self, _ := m.Snapshot().Member(nodeID("5")); self.Synced || m.told.Synced {
		t.Errorf("a learner in a cluster of which it has nothing yet: synced %v, tells %v", self.Synced, m.told.Synced)
	}
}

// Else two new members could wait for each other's data for ever.
func TestALearnerCountsOnlyOnceAMajorityIsLiveAndSynced(t *testing.T) {
	for members, want := range map[string]bool{ // in the roster; a capital is live and synced, a small one not
		"A": true, "a": false, "AB": true, "Ab": false, "ABc": true, "Abc": false, "ABCd": true, "ABcd": false,
	} {
		s, r := new(Snapshot), roster.Roster{}
		for i, c := range members {
			id := nodeID(fmt.Sprint(i))
			if i == 0 {
				r = roster.Found(id)
			} else {
				var err error
				if r, err = r.With(roster.Change{Add: id}); err != nil {
					t.Fatal(err)
				}
			}
			s.Members = append(s.Members, Member{ID: id, Counted: true, Live: c < 'a' || i%2 == 0, Synced: c < 'a' || i%2 == 1})
		}
		s.Members = append(s.Members, Member{ID: nodeID("9"), Live: true, Synced: true}) // a learner is none of them
		if got := hasTeachers(s, r); got != want {
			t.Errorf("%s: got %v, want %v", members, got, want)
		}
	}
}

func TestBlockedPacketsAreSaidOnceByName(t *testing.T) {
	m, log := alone(t)
	long := time.Now().Add(-time.Hour)
	silent := func(digit string) *peer { m.hears(digit, info{}, long); return m.peers[nodeID(digit)] }
	silent("1")
	silent("2").packetAt = time.Now()
	silent("3").silent = true // it does not answer at all
	silent("4").gossiping = false
	m.hears("6", info{}, time.Now())
	warnings := func() int {
		m.noticeBlockedPackets()
		return strings.Count(log.String(), "udp to a member seems blocked")
	}
	if got := warnings() + warnings(); got != 2 || !strings.Contains(log.String(), "node=node-1") {
		t.Errorf("want one warning, of node-1:\n%s", log)
	}
	m.peers[nodeID("1")].packetAt = time.Now()
	warnings()
	m.peers[nodeID("1")].packetAt = long
	if got := warnings(); got != 2 {
		t.Errorf("blocked anew: got %d warnings, want 2:\n%s", got, log)
	}
}

func TestOnlyALearnerThatIsGoneIsAGhost(t *testing.T) {
	m, _ := alone(t)
	for digit, c := range map[string]struct {
		peer peer
		want bool
	}{
		"1": {peer{gossiping: true}, false},
		"2": {peer{gossiping: true, silent: true}, false}, // it is slow
		"3": {peer{}, true},
		"4": {peer{gossiping: true, info: info{Stopped: true}}, true},
	} {
		c.peer.info.Name, c.peer.info.Address = m.cfg.Name, "127.0.0.1:900"+digit
		if err := m.Enroll(nodeID(digit)); err != nil {
			t.Fatal(err)
		}
		m.update(func() { m.peers[nodeID(digit)] = &c.peer })
		change, found := m.nextGhost(t.Context(), m.ledger.Roster())
		if found != c.want || found && change != (roster.Change{Remove: nodeID(digit)}) {
			t.Errorf("%+v: got %+v, %v, want %v", c.peer, change, found, c.want)
		}
		m.update(func() { m.peers[nodeID(digit)].info.Name = "other" })
	}
}

// A machine that is wiped when its node is about to count leaves a member that nobody comes back
// to. One that merely has another's name, or its old address, is expected back.
func TestAMemberThatIsGoneIsAGhostOnceAnotherHasItsNameAndAddress(t *testing.T) {
	for name, c := range map[string]struct {
		name, address string // of the member that is gone
		link          Link
		want          bool
	}{
		"same name and address": {"node-5", "127.0.0.1:9005", nobody{}, true},
		"same, but it answers":  {"node-5", "127.0.0.1:9005", pinged(nodeID("6")), false},
		"same name":             {"node-5", "127.0.0.1:9006", nobody{}, false},
		"same address":          {"node-6", "127.0.0.1:9005", nobody{}, false},
	} {
		m, _ := alone(t)
		m.cfg.Link = c.link
		if err := m.ledger.Force(roster.Change{Add: nodeID("6")}); err != nil {
			t.Fatal(err)
		}
		m.update(func() { m.peers[nodeID("6")] = &peer{info: info{Name: c.name, Address: c.address, Counted: true}} })
		change, got := m.nextGhost(t.Context(), m.ledger.Roster())
		if got != c.want || got && change != (roster.Change{Remove: nodeID("6")}) {
			t.Errorf("%s: got %+v, %v, want %v", name, change, got, c.want)
		}
		m.update(func() { m.peers[nodeID("6")].gossiping = true })
		if change, got := m.nextGhost(t.Context(), m.ledger.Roster()); got {
			t.Errorf("%s, and gossiping: got %+v, want nothing", name, change)
		}
	}
}

// Such a learner has no name or address by which another could succeed it.
func TestALearnerOfWhichOnlyTheIDIsKnownIsAGhostAfterAWhile(t *testing.T) {
	m, _ := alone(t)
	now := time.Now()
	m.cfg.Now = func() time.Time { return now }
	if err := m.Enroll(nodeID("6")); err != nil {
		t.Fatal(err)
	}
	wait := anonymousFor * m.cfg.Pace
	for after, want := range map[time.Duration]bool{0: false, wait - 1: false, wait: true} {
		m.cfg.Now = func() time.Time { return now.Add(after) }
		change, got := m.nextGhost(t.Context(), m.ledger.Roster())
		if got != want || got && change != (roster.Change{Remove: nodeID("6")}) {
			t.Errorf("after %v: got %+v, %v, want %v", after, change, got, want)
		}
	}
	m.hears("6", info{Cluster: m.Snapshot().ClusterID}, now)
	m.update(func() { m.peers[nodeID("6")].gossiping = false })
	if change, got := m.nextGhost(t.Context(), m.ledger.Roster()); got {
		t.Errorf("its name is known now: got %+v, want nothing", change)
	}
}

func TestMembersAreFoundByID(t *testing.T) {
	m, _ := alone(t)
	var want []string
	for _, digit := range []string{"9", "2", "7"} {
		m.hears(digit, info{Cluster: m.Snapshot().ClusterID}, time.Now())
		want = append(want, nodeID(digit))
	}
	m.enrollLearners()
	s := m.Snapshot()
	for _, id := range append(want, nodeID("5")) {
		if got, found := s.Member(id); !found || got.ID != id {
			t.Errorf("member %s: got %+v, %v", id, got, found)
		}
	}
	if got, found := s.Member(nodeID("8")); found {
		t.Errorf("somebody who is not there: got %+v", got)
	}
}

func TestAnAdvertisedAddressPrefersIPv4AndHasNoZone(t *testing.T) {
	for host, want := range map[string]string{"127.0.0.1": "127.0.0.1", "::1": "::1", "::ffff:127.0.0.1": "127.0.0.1", "localhost": "127.0.0.1"} {
		if got, err := advertisedIP(host); err != nil || got.String() != want {
			t.Errorf("%s: got %v, %v, want %s", host, got, err, want)
		}
	}
}

// A node that removed itself is heard by nobody and belongs nowhere: it must not look for another
// cluster while it tells the others.
func TestARemovedNodeSeeksNoOtherCluster(t *testing.T) {
	m, _ := alone(t, "127.0.0.1:9009")
	r := roster.Roster{Cluster: nodeID("c"), Added: []string{nodeID("4"), nodeID("5")}, Removed: []string{nodeID("5")}}
	m.leaving.Store(true)
	if err := m.ledger.Join(roster.Roster{}, r); err != nil {
		t.Fatal(err)
	}
	m.hears("6", info{Cluster: nodeID("d"), Counted: true}, time.Now())
	if hosts, _ := m.candidates(r); len(hosts) != 0 {
		t.Errorf("it would join %v", hosts)
	}
}

// A node that has left is refused by whoever knows it, and may get no other answer any more.
func TestWhoIsRefusedHasLeftForGood(t *testing.T) {
	m, _ := alone(t)
	for _, change := range []roster.Change{{Add: nodeID("6")}, {Remove: nodeID("5")}} {
		if err := m.ledger.Force(change); err != nil {
			t.Fatal(err)
		}
	}
	m.fatal = make(chan error, 1) // nobody has told this node yet
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := m.Leave(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while nobody knows: got %v, want DeadlineExceeded", err)
	}
	m.Refused(fmt.Errorf("pull: %w", ErrRemoved))
	if err := m.Leave(t.Context()); err != nil {
		t.Errorf("refused by another node: got %v", err)
	}
	select {
	case err := <-m.Fatal():
		if !errors.Is(err, ErrRemoved) {
			t.Errorf("got %v, want ErrRemoved", err)
		}
	default:
		t.Error("the process is not told to end")
	}
}
