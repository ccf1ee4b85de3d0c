package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/protocol7/snakes/node/client"
)

func (r *remote) forget() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "forget NAME-OR-ID [--force]", Short: "Take a member that is gone out of the cluster for good",
		Long: `Has the cluster count no longer on a member that is gone and will not come back, so that there is one member
less. It must be failed or stopped; a killed one takes some seconds until it is failed. A majority of the members must
be alive to agree. A node that runs leaves by 'snakes leave'. It asks before it does it, unless --yes is given.

With --force it needs no majority. That is for when the others are lost for ever. If they still run somewhere, both
sides may go on separately, with another number of members each: never do it for nodes that are merely unreachable.`,
		Example: "  snakes forget laptop-9002",
		Args:    arguments("NAME-OR-ID"), DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error { return r.forgetMember(cmd.Context(), args[0], force) },
	}
	cmd.Flags().BoolVar(&force, "force", false, "do it without a majority, if the other members are lost for ever")
	return cmd
}

// forgetMember asks whether the member with a name or id is to be forgotten, and has the cluster do it.
func (r *remote) forgetMember(ctx context.Context, nameOrID string, force bool) error {
	servers, _ := r.addresses()
	if len(servers) == 0 {
		servers = []string{client.DefaultServer}
	}
	members, err := r.membersAt(ctx, servers)
	if err != nil {
		return err
	}
	member, err := findMember(members, nameOrID)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("forget takes %s at %s (%s) out of cluster %s for good.\nThe cluster has %s", member.Name, member.Address,
		member.State, members.Cluster, countMembers(members.Known))
	if member.State != "syncing" { // a learner does not count; a member that syncs is alive, so that it is not forgotten
		what += fmt.Sprintf(" and will have %d", members.Known-1)
	}
	what += "."
	if force {
		what += "\n--force does it without a majority: if other members still run elsewhere, both sides may go on separately."
	}
	if err := r.confirm(ctx, what); err != nil {
		return err
	}
	// By its id: another one may have taken the name meanwhile.
	err = r.askAt(ctx, servers, func(ctx context.Context, c *client.Client) error { return c.Forget(ctx, member.ID, force) })
	if err != nil {
		return err
	}
	fmt.Fprintf(r.stderr, "%s is forgotten\n", member.Name)
	return nil
}

// findMember returns the one member with a name or id.
func findMember(members client.Members, nameOrID string) (client.Member, error) {
	var named []client.Member
	var ids []string
	for _, m := range members.Members {
		if m.ID == nameOrID {
			return m, nil
		}
		if m.Name == nameOrID {
			named, ids = append(named, m), append(ids, m.ID)
		}
	}
	switch len(named) {
	case 0:
		return client.Member{}, fmt.Errorf("forget %q: no member has this name or id; 'snakes members' lists them", nameOrID)
	case 1:
		return named[0], nil
	}
	return client.Member{}, fmt.Errorf("forget %q: several members have this name: %s; name the one you mean by its id", nameOrID, strings.Join(ids, ", "))
}
