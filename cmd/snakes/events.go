package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/protocol7/snakes/node/client"
)

func (r *remote) events() *cobra.Command {
	cmd := r.command("events", "", "What happened to a node of late", func(ctx context.Context, c *client.Client, _ []string) error {
		all, err := c.Events(ctx)
		if err != nil {
			return err
		}
		var text []byte
		for _, h := range all {
			if r.output.value != "json" {
				text = append(text, line(h)...)
				continue
			}
			data, err := json.Marshal(h)
			if err != nil {
				return err
			}
			text = append(append(text, data...), '\n')
		}
		return r.write(text)
	})
	cmd.Long = "Tells the last of what happened to the node that answers, 500 events at most, since its start: members that changed,\n" +
		"catching up, repairs, deletes that were forgotten, a disk that failed. With -o json each is a line."
	cmd.Example = "  snakes events\n  snakes events --server http://127.0.0.1:9001 -o json"
	return cmd
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
