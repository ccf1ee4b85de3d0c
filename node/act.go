package node

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/protocol7/snakes/membership"
	"github.com/protocol7/snakes/node/ui"
)

// act is something that the page can do, after a question.
type act struct {
	// question says what it will do and what the button is called, or why it cannot be done.
	question func(m *membership.Member) ui.Side
	// do does it and returns what to say then.
	do func(ctx context.Context, m *membership.Member, force bool) (said string, err error)
}

// acts are all acts by the last part of their paths.
func (a *api) acts() map[string]act {
	return map[string]act{
		"forget":  {a.askForget, a.doForget},
		"drain":   {a.askDrain, a.doDrain},
		"undrain": {a.askUndrain, a.doUndrain},
		"leave":   {a.askLeave, a.doLeave},
	}
}

// actOf returns the act that r is about, and the member that it names, nil if none.
func (a *api) actOf(r *http.Request, id string) (name string, asked act, m *membership.Member) {
	name = strings.TrimPrefix(rawPath(r), ui.Root)
	if found, known := a.Cluster.Snapshot().Member(id); known {
		m = &found
	}
	return name, a.acts()[name], m
}

// ask is the question before an act.
func (a *api) ask(w *response, r *http.Request) error {
	given, err := parameters(r, "member")
	if err != nil {
		return err
	}
	name, asked, m := a.actOf(r, given["member"])
	side := asked.question(m)
	side.Self, side.Cluster, side.Action = a.Name, a.Cluster.Snapshot().Cluster, ui.Root+name
	if side.Button != "" && !a.mayChangeCluster(r) {
		side.Button = ""
		where := "Here this page can only be looked at: what changes the cluster is taken from the machine of the node alone. Run the command there."
		if a.Tokens != nil {
			where = "The token that you gave is not for this: it takes one for admin. Run the command with that."
		}
		side.Text = append(side.Text, where)
	}
	w.pageHeaders()
	return w.send(http.StatusOK, htmlType, side.Bytes())
}

// act does what was asked. The guard has seen to it that whoever sent r may do it.
func (a *api) act(w *response, r *http.Request) error {
	fields, err := a.form(w, r)
	if err != nil {
		return err
	}
	name, asked, m := a.actOf(r, fields.Get("member"))
	if fields.Get("member") != "" && m == nil {
		return membership.ErrUnknownMember
	}
	said, err := asked.do(r.Context(), m, fields.Get("force") == "1")
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	side := ui.Side{Self: a.Name, Cluster: a.Cluster.Snapshot().Cluster, Title: "Done", Text: []string{said}}
	w.pageHeaders()
	return w.send(http.StatusOK, htmlType, side.Bytes())
}

func (a *api) askForget(m *membership.Member) ui.Side {
	if m == nil {
		return ui.Side{Title: "There is no such member", Text: []string{"It was forgotten, or has left. The page shows who is there now."}}
	}
	known := a.Cluster.Snapshot().Known()
	side := ui.Side{
		Title: fmt.Sprintf("Forget %s?", m.Name), Member: m.ID, Command: a.command("forget " + a.nameOf(m)),
		Text: []string{fmt.Sprintf("%s at %s is %s since %s.", m.Name, m.Address, m.State, m.Since.UTC().Format("15:04:05 UTC, January 2"))},
	}
	if m.State != membership.Failed && m.State != membership.Stopped {
		side.Text = append(side.Text, "Only a member that has failed or was stopped can be forgotten.")
		side.Command = ""
		return side
	}
	if m.Counted {
		side.Text = append(side.Text, fmt.Sprintf("The cluster will count %s instead of %d, so that %s are a majority.",
			count(known-1, "member", "members"), known, count((known-1)/2+1, "member", "members")))
	}
	side.Text = append(side.Text, "Do this only if it will never come back. If it does all the same, it joins as a new node, "+
		"and what only the old one had is set aside on its disk. To replace it, start a new node under its name instead.")
	side.Button, side.Danger = "Forget "+m.Name, true
	if a.liveMembers() <= known/2 {
		side.Force = "A majority of the members is not alive, so they cannot agree to this. Forget it all the same, because those that are " +
			"missing are lost for ever; if any of them still runs somewhere, both sides may go on separately."
		side.Command = a.command("forget " + a.nameOf(m) + " --force")
	}
	return side
}

func (a *api) doForget(ctx context.Context, m *membership.Member, force bool) (string, error) {
	if m == nil {
		return "", membership.ErrUnknownMember
	}
	if err := a.forgetMember(ctx, m.ID, force); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s is forgotten. The cluster counts %s now.", m.Name, count(a.Cluster.Snapshot().Known(), "member", "members")), nil
}

func (a *api) askDrain(*membership.Member) ui.Side {
	return ui.Side{
		Title: fmt.Sprintf("Drain %s?", a.Name), Button: "Drain " + a.Name, Command: a.command("drain"),
		Text: []string{
			"It is not ready from then on, so that clients and other members choose others. It stays a member, takes what others write, and answers whoever still comes.",
			"That is what to do before a restart, which ends it. It can be called off.",
		},
	}
}

func (a *api) doDrain(context.Context, *membership.Member, bool) (string, error) {
	return a.Name + " is drained. Restart it when its clients have gone, or call that off.", a.Operations.Drain()
}

func (a *api) askUndrain(*membership.Member) ui.Side {
	return ui.Side{
		Title: fmt.Sprintf("Undrain %s?", a.Name), Button: "Undrain " + a.Name, Command: a.command("undrain"),
		Text: []string{"Clients and other members may choose it again."},
	}
}

func (a *api) doUndrain(context.Context, *membership.Member, bool) (string, error) {
	return a.Name + " may be chosen again.", a.Operations.Undrain()
}

func (a *api) askLeave(*membership.Member) ui.Side {
	return ui.Side{
		Title: fmt.Sprintf("Have %s leave for good?", a.Name), Button: "Leave the cluster", Danger: true, Command: a.command("leave"),
		Text: []string{
			fmt.Sprintf("%s takes no more writes, waits until the others have all that it has, leaves the cluster, so that it counts one member less, and ends.", a.Name),
			"For a while, stop it instead: it stays a member and catches up when it is back.",
		},
	}
}

func (a *api) doLeave(context.Context, *membership.Member, bool) (string, error) {
	if err := a.Operations.Leave(); err != nil {
		return "", err
	}
	return a.Name + " is leaving. Once the others have all that it has, it ends, and this page with it; look at that of another member.", nil
}

// command returns one for a terminal.
func (a *api) command(what string) string {
	return "snakes " + what + a.commandOptions()
}

func (a *api) commandOptions() string {
	self, _ := a.Cluster.Snapshot().Member(a.Self)
	options := " --server " + serverURL(self.Address, a.TLS)
	if a.Tokens != nil {
		options += " --token-file FILE"
	}
	return options
}

// nameOf is what to call a member by in a command: its id if others have its name.
func (a *api) nameOf(m *membership.Member) string {
	same := 0
	for _, other := range a.Cluster.Snapshot().Members {
		if other.Name == m.Name {
			same++
		}
	}
	if same > 1 {
		return m.ID
	}
	return m.Name
}

// liveMembers is how many that count can be asked.
func (a *api) liveMembers() (live int) {
	for _, m := range a.Cluster.Snapshot().Members {
		if m.Counted && m.Live {
			live++
		}
	}
	return live
}

// pageActions are those that the page offers, besides what it offers beside a member.
func (a *api) pageActions(s ui.State) (all []ui.Action) {
	for _, m := range s.Members {
		if m.Gone {
			found, _ := a.Cluster.Snapshot().Member(m.ID)
			all = append(all, ui.Action{
				Path: "forget?member=" + m.ID, Title: "Forget", Label: "Forget " + m.Name + "…", Text: "Count on " + m.Name + " no longer: it will never come back.",
				Command: a.command("forget " + a.nameOf(&found)),
			})
		}
	}
	drain := ui.Action{
		Path: "drain", Title: "Drain", Text: "Clients choose others than " + a.Name + ", until it is restarted.", Command: a.command("drain"),
	}
	if a.Drained() {
		drain = ui.Action{Path: "undrain", Title: "Undrain", Text: "Clients may choose " + a.Name + " again.", Command: a.command("undrain")}
	}
	return slices.Concat(all, []ui.Action{
		drain,
		{Path: "leave", Title: "Leave", Text: a.Name + " leaves for good, once the others have all that it has, and ends.", Command: a.command("leave")},
		{Title: "Status", Text: "The verdict and the members, in a terminal.", Command: a.command("status")},
		{Title: "Events", Text: "All that is kept of what happened here.", Command: a.command("events")},
	})
}
