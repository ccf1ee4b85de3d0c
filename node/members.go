package node

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/protocol7/snakes/membership"
)

// membersAnswer is the body of GET /-/members.
type membersAnswer struct {
	Cluster    string         `json:"cluster"`
	Self       string         `json:"self"`
	Known      int            `json:"known"`
	Alive      int            `json:"alive"`
	Quorum     int            `json:"quorum"`
	Writable   bool           `json:"writable"`
	Protected  bool           `json:"protected"`
	Tombstones int            `json:"tombstones"`
	Members    []memberAnswer `json:"members"`

	learners int  // of Members, those that do not count for Known
	exposed  bool // anybody on the network can take part
}

type memberAnswer struct {
	ID        string           `json:"id"`
	Name      string           `json:"name"`
	Address   string           `json:"address"`
	State     membership.State `json:"state"`
	Version   string           `json:"version"`
	Since     time.Time        `json:"since"`
	RTT       float64          `json:"rtt_ms"`
	ClockSkew float64          `json:"clock_skew_ms"`
	Keys      uint64           `json:"keys"`
	Behind    uint64           `json:"behind"`
	Synced    bool             `json:"synced"`
	Blocks    uint64           `json:"blocks"`
	Progress  *progressAnswer  `json:"progress,omitempty"`

	itself   bool // it is the node that answers
	answered bool // it answered an exchange, so that the numbers mean something
}

// progressAnswer is how far a node that is not synced has got with the pull under way, in keys.
type progressAnswer struct {
	Pulled  uint64 `json:"pulled"`
	Offered uint64 `json:"offered"`
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
	answer := a.describeMembers()
	if present {
		return w.send(http.StatusOK, "text/plain; charset=utf-8", answer.table())
	}
	return w.send(http.StatusOK, "application/json", encodeLine(answer))
}

func (a *api) describeMembers() membersAnswer {
	s := a.Cluster.Snapshot()
	answer := membersAnswer{
		Cluster: s.Cluster, Self: a.Name, Known: s.Known(), Quorum: s.Known()/2 + 1,
		Writable: a.Coordinator.Writable() == nil, Tombstones: a.Store.TombstoneCount(), Members: []memberAnswer{},
		Protected: a.PeerOf != nil, exposed: a.Exposed,
	}
	blocked := a.Collector.Stats().Blocked
	for _, m := range s.Members {
		if m.Enrolled && !m.Counted {
			answer.learners++
		}
		if m.Live && (m.Counted || !s.Joined() && m.ID == s.Self) {
			answer.Alive++
		}
		member := a.describeMember(m, m.ID == s.Self)
		member.Blocks = blocked[m.ID]
		answer.Members = append(answer.Members, member)
	}
	slices.SortFunc(answer.Members, func(x, y memberAnswer) int {
		return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.ID, y.ID))
	})
	return answer
}

func (a *api) describeMember(m membership.Member, itself bool) memberAnswer {
	answer := memberAnswer{
		ID: m.ID, Name: m.Name, Address: m.Address, State: m.State, Version: m.Version,
		Since: m.Since.UTC().Truncate(time.Second), Synced: m.Synced, itself: itself,
	}
	if m.State == membership.Alive && !m.Synced {
		// It counts for N but for no read: it has just been promoted or started, or its data was
		// given up.
		answer.State = membership.Syncing
	}
	if itself {
		answer.Keys = uint64(a.Store.Len())
		p := a.Syncer.Progress()
		answer.progress(p.Pulled, p.Offered)
		return answer
	}
	if status, known := a.Monitor.Peer(m.ID); known {
		answer.RTT, answer.ClockSkew = milliseconds(status.RTT), milliseconds(status.Skew)
		answer.Keys, answer.Behind, answer.answered = status.Keys, status.Behind, true
		answer.progress(status.Pulled, status.Offered)
	}
	return answer
}

// progress enters how far the member has got, unless it has everything.
func (m *memberAnswer) progress(pulled, offered uint64) {
	if !m.Synced {
		m.Progress = &progressAnswer{pulled, offered}
	}
}

// condition is the state for people, with how far the member has got.
func (m *memberAnswer) condition() string {
	if m.Progress != nil && m.Progress.Offered > 0 {
		return fmt.Sprintf("%s(%d/%d)", m.State, m.Progress.Pulled, m.Progress.Offered)
	}
	return string(m.State)
}

// milliseconds returns d in milliseconds, to the microsecond.
func milliseconds(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond).Microseconds()) / 1000
}

// table returns the members as `snakes members` prints them.
func (m membersAnswer) table() []byte {
	writable := "writable"
	if !m.Writable {
		writable = "not writable"
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "cluster %s: %d known, %d alive, quorum %d, %s", m.Cluster, m.Known, m.Alive, m.Quorum, writable)
	switch {
	case m.Protected:
		b.WriteString(", protected")
	case m.exposed:
		b.WriteString(", INSECURE")
	}
	if m.Tombstones > 0 {
		b.WriteString(", " + count(m.Tombstones, "tombstone", "tombstones"))
	}
	if m.learners > 0 {
		b.WriteString(", " + count(m.learners, "learner", "learners"))
	}
	b.WriteString("\n")
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(cells ...any) {
		fmt.Fprintln(t, strings.TrimSuffix(fmt.Sprintf(strings.Repeat("%v\t", len(cells)), cells...), "\t"))
	}
	row("NAME", "ADDRESS", "STATE", "SINCE", "RTT", "SKEW", "KEYS", "BEHIND", "BLOCKS", "VERSION", "ID")
	for _, member := range m.Members {
		rtt, skew, keys, behind := any("-"), any("-"), any("-"), any("-")
		if member.answered {
			rtt, skew = fmt.Sprintf("%.1fms", member.RTT), fmt.Sprintf("%.1fms", member.ClockSkew)
			keys, behind = member.Keys, member.Behind
		}
		name := member.Name
		if member.itself {
			name, keys = name+"*", member.Keys
		}
		row(name, member.Address, member.condition(), member.Since.Format(time.RFC3339), rtt, skew, keys, behind, member.Blocks,
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
	err = a.Cluster.Forget(r.Context(), member, present)
	if errors.Is(err, membership.ErrMemberAlive) && a.isSilent(member) {
		err = errMaybeAlive // to stop it is not what is left to do
	}
	if err != nil {
		return fmt.Errorf("forget member: %w", err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
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
