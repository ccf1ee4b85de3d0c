package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/protocol7/snakes/node/client"
)

const (
	// leavePace is how often a node that leaves is looked for.
	leavePace = 200 * time.Millisecond
	// leaveSilence is for how long a node that leaves may give no answer, and all others neither, before that is all
	// that can be said of it.
	leaveSilence = 10 * time.Second
)

func (r *remote) leave() *cobra.Command {
	cmd := &cobra.Command{
		Use: "leave", Short: "Have a node leave the cluster for good",
		Long: `Tells the node at --server to leave its cluster for good, and waits until it has: it takes no more writes,
waits until the others have all that it has, leaves, so that there is one member less, and ends. Ctrl-C ends the
wait and not the leaving; SIGTERM to the node ends that, and the node stays a member. A node that is started again with
the data of one that has left joins the cluster as a new one. It asks before it begins, unless --yes is given.`,
		Example: "  snakes leave --server http://127.0.0.1:9002",
		Args:    arguments(""), DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			server, err := r.oneServer(cmd)
			if err != nil {
				return err
			}
			return r.waitUntilGone(cmd.Context(), server)
		},
	}
	return cmd
}

// oneServer returns the server to ask, for commands that must not go to the next one.
func (r *remote) oneServer(cmd *cobra.Command) (string, error) {
	servers, source := r.addresses()
	switch len(servers) {
	case 0:
		return client.DefaultServer, nil
	case 1:
		return servers[0], nil
	}
	return "", misused(cmd, "%s names %d nodes; %s is for one", source, len(servers), cmd.Name())
}

// waitUntilGone tells the node at server to leave and returns nil once it has left.
func (r *remote) waitUntilGone(ctx context.Context, server string) error {
	members, err := r.membersAt(ctx, []string{server})
	if err != nil {
		return err
	}
	if isJoining(members) {
		return fmt.Errorf("%w: %s is in no cluster yet, so there is nothing to leave", client.ErrNotReady, members.Self)
	}
	what := fmt.Sprintf("leave takes %s at %s out of cluster %s for good.\nThe cluster has %s and will have %d.",
		members.Self, server, members.Cluster, countMembers(members.Known), members.Known-1)
	if err := r.confirm(ctx, what); err != nil {
		return err
	}
	var leaving client.Begun
	err = r.askAt(ctx, []string{server}, func(ctx context.Context, c *client.Client) (err error) {
		leaving, err = c.Leave(ctx)
		return err
	})
	if err != nil {
		return err
	}
	if r.output.value == "json" {
		if err := r.write(leaving.Body); err != nil {
			return err
		}
	}
	fmt.Fprintf(r.stderr, "%s is leaving. %s\n", leaving.Name, leaving.Detail)
	d := departure{remote: r, leaving: leaving, server: server, silence: leaveSilence}
	for _, m := range members.Members {
		if m.ID != leaving.ID && m.Address != "" {
			d.others = append(d.others, m.Address)
		}
	}
	return d.wait(ctx)
}

// isJoining reports whether the node that answered has reached no cluster yet.
func isJoining(members client.Members) bool {
	return slices.ContainsFunc(members.Members, func(m client.Member) bool { return m.Name == members.Self && m.State == "joining" })
}

// countMembers returns "1 member" or "n members".
func countMembers(n int) string {
	if n == 1 {
		return "1 member"
	}
	return fmt.Sprintf("%d members", n)
}

// remain returns "1 member remains" or "n members remain".
func remain(n int) string {
	if n == 1 {
		return countMembers(n) + " remains"
	}
	return countMembers(n) + " remain"
}

// departure is a node on its way out, as seen from here.
type departure struct {
	*remote
	leaving client.Begun
	server  string
	others  []string // addresses
	silence time.Duration
}

// wait returns once nobody counts the node, or once it has ended and nobody else can be asked.
func (d *departure) wait(ctx context.Context) error {
	heard := time.Now() // of it or of another member
	for {
		alive := d.alive(ctx)
		members, err := d.membersAt(ctx, d.others)
		switch {
		case ctx.Err() != nil:
			fmt.Fprintf(d.stderr, "%s goes on leaving; to stop it, stop the node\n", d.leaving.Name)
			return errInterrupted
		case err == nil && !lists(members, d.leaving.ID):
			fmt.Fprintf(d.stderr, "%s has left; %s\n", d.leaving.Name, remain(members.Known))
			return nil
		case err == nil && !alive && time.Since(heard) > d.silence:
			return fmt.Errorf("%s has ended, but still counts as a member; start it, or forget it: snakes forget %s --server http://%s",
				d.leaving.Name, d.leaving.ID, d.others[0])
		case err != nil && !alive && time.Since(heard) > d.silence:
			fmt.Fprintf(d.stderr, "%s has ended; no other member answers that could tell whether it has left\n", d.leaving.Name)
			return err
		case alive:
			heard = time.Now()
		}
		select {
		case <-ctx.Done():
		case <-time.After(leavePace):
		}
	}
}

// alive reports whether the node itself answers.
func (d *departure) alive(ctx context.Context) bool {
	members, err := d.membersAt(ctx, []string{d.server})
	return err == nil && lists(members, d.leaving.ID)
}

// membersAt asks one of servers who is in the cluster.
func (r *remote) membersAt(ctx context.Context, servers []string) (members client.Members, err error) {
	if len(servers) == 0 {
		return members, errors.New("no other member is known")
	}
	err = r.askAt(ctx, servers, func(ctx context.Context, c *client.Client) (err error) {
		members, err = c.Members(ctx)
		return err
	})
	return members, err
}

func lists(members client.Members, id string) bool {
	return slices.ContainsFunc(members.Members, func(m client.Member) bool { return m.ID == id })
}

func (r *remote) repair() *cobra.Command {
	var acceptLoss bool
	cmd := &cobra.Command{
		Use: "repair --accept-loss", Short: "Have a node go on without what nobody alive has",
		Long: `Tells the node at --server, which is not synced because members that it would have to ask are gone, to go on
with what the live members have. What only those that are gone had is lost: writes that were acknowledged may be
undone, and what was deleted may come back. Do it only if they never return; if they may, start them instead.`,
		Example: "  snakes repair --accept-loss --server http://127.0.0.1:9001",
		Args:    arguments(""), DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			server, err := r.oneServer(cmd)
			switch {
			case err != nil:
				return err
			case !acceptLoss:
				return &usageError{
					"repair needs --accept-loss: the node goes on without what only members had that are gone, and that is lost",
					"Run 'snakes repair --help' for when to do it.",
				}
			}
			if err := r.confirm(cmd.Context(), fmt.Sprintf("repair lets the node at %s go on without what only members had that are gone. That is lost.", server)); err != nil {
				return err
			}
			return r.askAt(cmd.Context(), []string{server}, func(ctx context.Context, c *client.Client) error {
				begun, err := c.Repair(ctx)
				if err != nil {
					return err
				}
				if r.output.value == "json" {
					return r.write(begun.Body)
				}
				fmt.Fprintf(r.stderr, "%s: %s\n", begun.Name, begun.Detail)
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&acceptLoss, "accept-loss", false, "go on without what only members had that are gone")
	return cmd
}
