package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/protocol7/snakes/membership"
	"github.com/protocol7/snakes/node/client"
	"github.com/protocol7/snakes/node/ui"
	"github.com/protocol7/snakes/node/verdict"
)

// pageEvents is how many events the page shows.
const pageEvents = 30

// errNotHeard is why there is no view of a member that was asked just now for the first time.
var errNotHeard = errors.New("no answer yet")

// pageState is all that the page shows, as of now. It waits for other members for viewWait at most.
func (a *api) pageState(ctx context.Context) ui.State {
	view := a.view()
	own := view.Members
	views := a.viewsOf(ctx, own)
	s := ui.State{
		Self: a.Name, Cluster: own.Cluster, Now: time.Now(),
		Known: own.Known, Alive: own.Alive, Quorum: own.Quorum, Writable: own.Writable,
		Protected: own.Protected, Exposed: own.Exposed, Tombstones: own.Tombstones,
		Traffic: a.History.Samples(), Events: a.pageEvents(),
	}
	for i, m := range own.Members {
		if m.ID == a.Self {
			s.Address, s.Version, s.Keys = m.Address, m.Version, m.Keys
		}
		s.Members = append(s.Members, a.pageMember(m, views[i], view.answered[m.ID]))
		s.Views = append(s.Views, sights(m, own.Members, views[i]))
	}
	s.Verdict = pageVerdict(verdict.Of(views, s.Now))
	s.Options = a.commandOptions()
	s.Actions = a.pageActions(s)
	return s
}

// viewsOf returns what each of the members in own says, this node included. Who is not live is not
// asked.
func (a *api) viewsOf(ctx context.Context, own client.Members) []client.View {
	snapshot := a.Cluster.Snapshot()
	var ids []string
	for _, m := range own.Members {
		if known, _ := snapshot.Member(m.ID); known.Live && m.ID != a.Self {
			ids = append(ids, m.ID)
		}
	}
	heard := map[string]told{}
	if a.Views != nil {
		heard = a.Views.of(ctx, ids)
	}
	views := make([]client.View, len(own.Members))
	for i, m := range own.Members {
		views[i].ID = m.ID
		switch t, asked := heard[m.ID]; {
		case m.ID == a.Self:
			views[i].Members = own
		case !t.at.IsZero() && time.Since(t.at) < viewAge:
			views[i].Members = t.view
		case t.err != nil:
			views[i].Err = fmt.Errorf("no answer: %s", publicCause(t.err))
		case asked:
			views[i].Err = errNotHeard
		default:
			views[i].Err = fmt.Errorf("no answer: it is %s", m.State)
		}
		comesByTLS := views[i].Members.TLS
		if views[i].Err != nil {
			comesByTLS = own.TLS // as like as not
		}
		views[i].Server = serverURL(m.Address, comesByTLS)
	}
	return views
}

func (a *api) pageMember(m client.Member, v client.View, answered bool) ui.Member {
	status, _ := a.Monitor.Peer(m.ID)
	gone := m.State == string(membership.Failed) || m.State == string(membership.Stopped)
	shown := ui.Member{
		ID: m.ID, Name: m.Name, Address: m.Address, URL: v.Server + ui.Root, Version: m.Version, State: m.State, Since: m.Since,
		Itself: m.ID == a.Self, Answered: answered, RTT: m.RTT, Skew: m.ClockSkew, Keys: m.Keys, Behind: m.Behind, Blocks: m.Blocks,
		Gone: gone, Measured: answered && !gone, SkewKnown: status.SkewKnown && !gone,
	}
	if m.Progress != nil && m.Progress.Offered > 0 {
		shown.Progress = fmt.Sprintf("%d/%d", m.Progress.Pulled, m.Progress.Offered)
	}
	if v.Err == nil {
		shown.Free, shown.Size = v.Members.Disk.Free, v.Members.Disk.Size
	}
	return shown
}

// serverURL is where clients ask the node at an address.
func serverURL(address string, byTLS bool) string {
	if byTLS {
		return "https://" + address
	}
	return "http://" + address
}

// sights is what one member sees of all, by its view.
func sights(m client.Member, all []client.Member, v client.View) ui.View {
	row := ui.View{ID: m.ID, Name: m.Name}
	if v.Err != nil {
		row.Unknown = v.Err.Error()
		return row
	}
	for _, other := range all {
		sight := ui.Sight{Itself: other.ID == m.ID}
		if i := slices.IndexFunc(v.Members.Members, func(seen client.Member) bool { return seen.ID == other.ID }); i >= 0 {
			sight.State, sight.RTT = v.Members.Members[i].State, v.Members.Members[i].RTT
		}
		row.Sights = append(row.Sights, sight)
	}
	return row
}

// pageVerdict is a verdict as the page shows it: what the sentence says is not said again.
func pageVerdict(v verdict.Verdict) ui.Verdict {
	shown := ui.Verdict{Word: string(v.Word), Sentence: v.Sentence}
	for i, p := range v.Problems {
		if i == 0 && strings.HasPrefix(v.Sentence, strings.TrimSuffix(p.What, ".")) {
			p.What = ""
		}
		shown.Problems = append(shown.Problems, ui.Problem{Word: string(p.Word), What: p.What, Do: p.Do, Command: p.Command})
	}
	return shown
}

// pageEvents returns the last of what happened, the latest first.
func (a *api) pageEvents() (shown []ui.Event) {
	kept, _ := a.Events.After(0)
	slices.Reverse(kept)
	for _, e := range kept[:min(len(kept), pageEvents)] {
		shown = append(shown, ui.Event{Number: e.Number, Time: e.Time, Level: e.Level, Part: e.Part, What: e.What, Facts: e.Facts})
	}
	return shown
}
