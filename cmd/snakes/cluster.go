package main

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/protocol7/snakes/node/client"
)

func (r *remote) members() *cobra.Command {
	return r.command("members", "", "Show who is in the cluster", func(ctx context.Context, c *client.Client, _ []string) error {
		path := "/-/members"
		if r.output.value == "table" {
			path += "?format=text"
		}
		answer, err := c.Raw(ctx, path)
		if err != nil {
			return err
		}
		return r.write(answer)
	})
}

func (r *remote) inspect() *cobra.Command {
	cmd := r.command("inspect", "KEY", "Show what each member has for a key", func(ctx context.Context, c *client.Client, args []string) error {
		if r.output.value == "json" {
			answer, err := c.Raw(ctx, "/-/inspect/"+url.PathEscape(args[0]))
			if err != nil {
				return err
			}
			return r.write(answer)
		}
		found, err := c.Inspect(ctx, args[0])
		if err != nil {
			return err
		}
		return r.write(inspectionTable(found))
	})
	cmd.Long = "Shows what each member has for a key, and which version wins. That nobody has it is no error: exits with 0 then, too."
	return cmd
}

// inspectionTable returns found for people.
func inspectionTable(found client.Inspection) []byte {
	var b bytes.Buffer
	winner := found.Winner
	if winner == "" {
		winner = "none"
	}
	fmt.Fprintf(&b, "key %s: winner %s", found.Key, winner)
	if found.Why != "" {
		fmt.Fprintf(&b, ", %s", found.Why)
	}
	b.WriteString("\n")
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(cells ...string) {
		for i, cell := range cells {
			if cell == "" {
				cells[i] = "-"
			}
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	row("NAME", "STATE", "WINS", "VERSION", "SIZE", "CHECKSUM", "ID", "ERROR")
	for _, replica := range found.Replicas {
		wins, size := "", ""
		if found.Winner != "" && replica.Version == found.Winner {
			wins = "yes"
		}
		if replica.State == "present" {
			size = fmt.Sprint(replica.Size)
		}
		row(replica.Name, replica.State, wins, replica.Version, size, replica.Checksum, replica.ID, replica.Error)
	}
	_ = t.Flush() // a buffer takes everything
	return b.Bytes()
}
