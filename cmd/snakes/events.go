package main

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/protocol7/snakes/node/client"
)

func (r *remote) events() *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use: "events [-f]", Short: "What happened to a node of late",
		Long: `Tells the last of what happened to the node that answers, 500 events at most, since its start: members that changed,
catching up, repairs, deletes that were forgotten, a disk that failed. With -f it goes on with what happens, until Ctrl-C or
until the node gives no answer for some time. With -o json each event is a line.`,
		Example: "  snakes events\n  snakes events -f --server http://127.0.0.1:9001 -o json",
		Args:    arguments(""), DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !follow {
				return r.ask(cmd.Context(), func(ctx context.Context, c *client.Client) error { return r.tellEvents(c.Events(ctx, false)) })
			}
			servers, _ := r.addresses()
			return r.converse(cmd.Context(), servers, func(c *client.Client) error { return r.tellEvents(c.Events(cmd.Context(), true)) })
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what happens, until Ctrl-C")
	return cmd
}

func (r *remote) tellEvents(all iter.Seq2[client.Happening, error]) error {
	for h, err := range all {
		if err != nil {
			return err
		}
		text := []byte(line(h))
		if r.output.value == "json" {
			if text, err = json.Marshal(h); err != nil {
				return err
			}
			text = append(text, '\n')
		}
		if err := r.write(text); err != nil {
			return err
		}
	}
	return nil
}

// line returns an event in a line for people.
func line(h client.Happening) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %-5s %s: %s", h.Time.UTC().Format(time.RFC3339), h.Level, h.Part, h.What)
	for _, name := range slices.Sorted(maps.Keys(h.Facts)) {
		fmt.Fprintf(&b, " %s=%q", name, h.Facts[name])
	}
	return b.String() + "\n"
}
