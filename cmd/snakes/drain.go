package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/protocol7/snakes/node/client"
)

// drainPace is how often it is looked whether the others know of a drain.
const drainPace = 100 * time.Millisecond

func (r *remote) drain() *cobra.Command {
	return r.onOneNode(&cobra.Command{
		Use: "drain", Short: "Have a node go out of the way, before a restart",
		Long: `Has the node at --server say that it is not ready, so that load balancers and the other members choose others, and waits
until the other members know. It stays a member, takes what others write, and answers whoever still comes; connections
of clients and watches end, to go on elsewhere. Nothing is lost if it is stopped then, nor if it is not drained
before: SIGTERM drains, too, but the port is gone soon after. A restart ends the drain, and so does 'snakes undrain'.`,
		Example: "  snakes drain --server http://127.0.0.1:9001\n  snakes drain --server http://127.0.0.1:9001 && systemctl restart snakes",
	}, (*client.Client).Drain, "alive")
}

func (r *remote) undrain() *cobra.Command {
	return r.onOneNode(&cobra.Command{
		Use: "undrain", Short: "Call a drain off",
		Long:    "Has the node at --server be chosen again, and waits until the other members know. A node that was not drained is left as it is.",
		Example: "  snakes undrain --server http://127.0.0.1:9001",
	}, (*client.Client).Undrain, "draining")
}

// onOneNode completes cmd, which has one node begin something and waits until nobody sees it in the state before.
func (r *remote) onOneNode(cmd *cobra.Command, begin func(*client.Client, context.Context) (client.Begun, error), before string) *cobra.Command {
	cmd.Args, cmd.DisableFlagsInUseLine = arguments(""), true
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		server, err := r.oneServer(cmd)
		if err != nil {
			return err
		}
		return r.askAt(cmd.Context(), []string{server}, func(ctx context.Context, c *client.Client) error {
			begun, err := begin(c, ctx)
			if err != nil {
				return err
			}
			if r.output.value == "json" {
				if err := r.write(begun.Body); err != nil {
					return err
				}
			}
			fmt.Fprintf(r.stderr, "%s: %s\n", begun.Name, begun.Detail)
			return awaitOther(ctx, c, begun.ID, before)
		})
	}
	return cmd
}

// awaitOther returns nil once nobody that answers sees the member in the state before.
func awaitOther(ctx context.Context, c *client.Client, id, before string) error {
	for {
		views, err := c.Survey(ctx)
		if err != nil {
			return err
		}
		var others []string
		for _, v := range views {
			for _, m := range v.Members.Members {
				if m.ID == id && m.State == before {
					others = append(others, v.Members.Self)
				}
			}
		}
		if len(others) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %s does not know of it yet", context.Cause(ctx), strings.Join(others, ", "))
		case <-time.After(drainPace):
		}
	}
}
