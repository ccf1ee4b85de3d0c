package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/protocol7/snakes/node/client"
)

func (r *remote) watch() *cobra.Command {
	var from string
	var limit int
	cmd := &cobra.Command{
		Use: "watch [PREFIX]", Short: "Tell what changes, as it changes",
		Long: `Writes a line to standard output for each change of a key that begins with PREFIX, or of any: "put KEY VERSION" or
"delete KEY VERSION". What is told last of a key is its current state; a key that changes quickly is told less often.
After "reset REASON" what was told before does not count, and the current state follows. When a node is lost it goes on
at the next one where it was, for --timeout.

With -o json a line has the marker too, with which --from goes on later, at any node. --from 0 tells the current state
first.`,
		Example:               "  snakes watch user\n  snakes watch --from 0 -o json",
		Args:                  arguments("[PREFIX]"),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if limit < 0 {
				return misused(cmd, "--limit %d is below zero", limit)
			}
			what := client.Watch{Prefix: strings.Join(args, ""), Marker: from, Patience: r.timeout}
			if r.timeout == 0 {
				what.Patience = -1
			}
			servers, _ := r.addresses()
			return r.converse(cmd.Context(), servers, func(c *client.Client) error {
				return r.follow(cmd.Context(), c, what, limit)
			})
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "`MARKER` to go on from; 0 tells the current state first (default: from now on)")
	cmd.Flags().IntVar(&limit, "limit", 0, "end after so many changes, as `NUMBER`; 0 means never")
	return cmd
}

// follow writes what is told until ctx ends, or until limit changes were, unless that is 0.
func (r *remote) follow(ctx context.Context, c *client.Client, what client.Watch, limit int) error {
	told := 0
	for e, err := range c.Watch(ctx, what) {
		if err != nil {
			return err
		}
		if err := r.tell(e); err != nil {
			return err
		}
		if e.Type == client.Put || e.Type == client.Deleted {
			told++
		}
		if limit > 0 && told == limit {
			return nil
		}
	}
	return nil
}

// tell writes one event.
func (r *remote) tell(e client.Event) error {
	if r.output.value == "json" {
		line, err := json.Marshal(e)
		if err != nil {
			return err
		}
		return r.write(append(line, '\n'))
	}
	switch e.Type {
	case client.Started:
		fmt.Fprintf(r.stderr, "watching at %s\n", e.Node)
		return nil
	case client.Reset:
		return r.write(fmt.Appendf(nil, "reset %s\n", e.Reason))
	}
	return r.write(fmt.Appendf(nil, "%s %s %s\n", e.Type, e.Key, e.ETag))
}
