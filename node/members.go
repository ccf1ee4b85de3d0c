package node

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/protocol7/snakes/membership"
	"github.com/protocol7/snakes/node/client"
	"github.com/protocol7/snakes/replication"
)

// view is what GET /-/members tells, and what its table needs to know beyond that.
type view struct {
	client.Members

	answered map[string]bool // the members that answered an exchange, so that their numbers mean something
}

func (a *api) members(w *response, r *http.Request) error {
	given, err := parameters(r, "format")
	if err != nil {
		return err
	}
	format, present := given["format"]
	if present && format != "text" {
		return refuse(errBadParameter, "format is text, or left out for JSON, not %q.", shortened(format))
	}
	answer := a.view()
	if present {
		return w.send(http.StatusOK, "text/plain; charset=utf-8", answer.table())
	}
	return w.send(http.StatusOK, "application/json", encodeLine(answer.Members))
}

// view returns the cluster as this node sees it.
func (a *api) view() view {
	s := a.Cluster.Snapshot()
	answer := view{answered: make(map[string]bool), Members: client.Members{
		Cluster: s.Cluster, Self: a.Name, SelfID: a.Self, Known: s.Known(), Quorum: replication.Majority(s.Known()),
		Writable: a.Coordinator.Writable() == nil, Protected: a.PeerOf != nil, Exposed: a.Exposed, TLS: a.TLS,
		Unready: []client.Unready{}, Disk: a.disk(), Tombstones: uint64(a.Store.TombstoneCount()), Members: []client.Member{},
	}}
	for _, check := range a.checks() {
		if check.err != nil {
			answer.Unready = append(answer.Unready, client.Unready{Check: check.name, Why: check.err.Error()})
		}
	}
	blocked := a.Collector.Stats().Blocked
	for _, m := range s.Members {
		if m.Live && (m.Counted || !s.Joined() && m.ID == s.Self) {
			answer.Alive++
		}
		member := describe(m)
		member.Blocks = blocked[m.ID]
		answer.answered[m.ID] = a.measure(&member)
		answer.Members.Members = append(answer.Members.Members, member)
	}
	slices.SortFunc(answer.Members.Members, func(x, y client.Member) int {
		return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.ID, y.ID))
	})
	return answer
}

// disk returns how the data directory is.
func (a *api) disk() client.Disk {
	stats := a.Store.Stats()
	room := a.Store.Space()
	return client.Disk{Free: room.Free, Size: room.Size, Latched: stats.Latched, Full: stats.Full, Damaged: stats.Damaged}
}

// describe returns what membership knows of m.
func describe(m membership.Member) client.Member {
	state := m.State
	if state == membership.Alive && !m.Synced {
		// It counts for N but for no read: it has just been promoted or started, or its data was
		// given up.
		state = membership.Syncing
	}
	return client.Member{
		ID: m.ID, Name: m.Name, Address: m.Address, State: string(state), Version: m.Version,
		Since: m.Since.UTC().Truncate(time.Second), Synced: m.Synced, Learner: m.Enrolled && !m.Counted,
	}
}

// measure enters what was measured of m, and reports whether another node answered an exchange.
func (a *api) measure(m *client.Member) (answered bool) {
	if m.ID == a.Self {
		p := a.Syncer.Progress()
		m.Keys = uint64(a.Store.Len())
		enterProgress(m, p.Pulled, p.Offered)
		return false
	}
	status, known := a.Monitor.Peer(m.ID)
	if known {
		m.RTT, m.ClockSkew = milliseconds(status.RTT), milliseconds(status.Skew)
		m.Keys, m.Behind = status.Keys, status.Behind
		enterProgress(m, status.Pulled, status.Offered)
	}
	return known
}

// enterProgress enters how far the member has got, unless it has everything.
func enterProgress(m *client.Member, pulled, offered uint64) {
	if !m.Synced {
		m.Progress = &client.Progress{Pulled: pulled, Offered: offered}
	}
}

// condition is the state for people, with how far the member has got.
func condition(m client.Member) string {
	if m.Progress != nil && m.Progress.Offered > 0 {
		return fmt.Sprintf("%s(%d/%d)", m.State, m.Progress.Pulled, m.Progress.Offered)
	}
	return m.State
}

// milliseconds returns d in milliseconds, to the microsecond.
func milliseconds(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond).Microseconds()) / 1000
}

// table returns the members as `snakes members` prints them.
func (v view) table() []byte {
	m := v.Members
	writable := "writable"
	if !m.Writable {
		writable = "not writable"
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "cluster %s: %d known, %d alive, quorum %d, %s", m.Cluster, m.Known, m.Alive, m.Quorum, writable)
	switch {
	case m.Protected:
		b.WriteString(", protected")
	case m.Exposed:
		b.WriteString(", INSECURE")
	}
	if m.Tombstones > 0 {
		b.WriteString(", " + count(int(m.Tombstones), "tombstone", "tombstones"))
	}
	learners := 0
	for _, member := range m.Members {
		if member.Learner {
			learners++
		}
	}
	if learners > 0 {
		b.WriteString(", " + count(learners, "learner", "learners"))
	}
	b.WriteString("\n")
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(cells ...any) {
		fmt.Fprintln(t, strings.TrimSuffix(fmt.Sprintf(strings.Repeat("%v\t", len(cells)), cells...), "\t"))
	}
	row("NAME", "ADDRESS", "STATE", "SINCE", "RTT", "SKEW", "KEYS", "BEHIND", "BLOCKS", "VERSION", "ID")
	for _, member := range m.Members {
		rtt, skew, keys, behind := any("-"), any("-"), any("-"), any("-")
		if v.answered[member.ID] {
			rtt, skew = fmt.Sprintf("%.1fms", member.RTT), fmt.Sprintf("%.1fms", member.ClockSkew)
			keys, behind = member.Keys, member.Behind
		}
		name := member.Name
		if member.ID == m.SelfID {
			name, keys = name+"*", member.Keys
		}
		row(name, member.Address, condition(member), member.Since.Format(time.RFC3339), rtt, skew, keys, behind, member.Blocks,
			member.Version, member.ID)
	}
	_ = t.Flush() // a buffer takes everything
	return b.Bytes()
}

func (a *api) forget(w *response, r *http.Request) error {
	given, err := parameters(r, "force")
	if err != nil {
		return err
	}
	force, present := given["force"]
	if present && force != "1" {
		return refuse(errBadParameter, "force is 1 or left out, not %q.", shortened(force))
	}
	member := strings.TrimPrefix(rawPath(r), "/-/members/")
	if err := a.forgetMember(r.Context(), member, present); err != nil {
		return fmt.Errorf("forget member: %w", err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *api) forgetMember(ctx context.Context, nameOrID string, force bool) error {
	err := a.Cluster.Forget(ctx, nameOrID, force)
	if errors.Is(err, membership.ErrMemberAlive) && a.isSilent(nameOrID) {
		return errMaybeAlive // to stop it is not what is left to do
	}
	return err
}

// errMaybeAlive is the answer to whoever forgets a member that does not answer and has not failed yet.
var errMaybeAlive = errors.New("member may be alive")

// isSilent reports whether the member with a name or id is not given up, and gives no answers.
func (a *api) isSilent(nameOrID string) bool {
	return slices.ContainsFunc(a.Cluster.Snapshot().Members, func(m membership.Member) bool {
		return (m.ID == nameOrID || m.Name == nameOrID) && m.State == membership.Suspect
	})
}

// send answers with a body that is ready.
func (w *response) send(status int, contentType string, body []byte) error {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", fmt.Sprint(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that is gone needs no answer; a HEAD gets none from net/http
	return nil
}
