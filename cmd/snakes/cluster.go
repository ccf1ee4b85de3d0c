package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/protocol7/snakes/node/client"
)

// membersPace is how often members --watch looks.
const membersPace = time.Second

func (r *remote) members() *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use: "members [--watch]", Short: "Show who is in the cluster",
		Long: `Shows who is in the cluster, as the node that answers sees it; * is that node. See 'snakes status' for what all of them
say together. With --watch it goes on until Ctrl-C: a terminal shows the table anew each second, anything else gets it
whenever more than times and clocks changed.`,
		Example: "  snakes members\n  snakes members --watch\n  snakes members -o json",
		Args:    arguments(""), DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !watch {
				return r.ask(cmd.Context(), r.showMembers)
			}
			servers, _ := r.addresses()
			return r.converse(cmd.Context(), servers, func(c *client.Client) error { return r.watchMembers(cmd.Context(), c) })
		},
	}
	cmd.Flags().BoolVar(&watch, "watch", false, "show it again whenever it changes, until Ctrl-C")
	return cmd
}

func (r *remote) membersPath() string {
	if r.output.value == "table" {
		return "/-/members?format=text"
	}
	return "/-/members"
}

func (r *remote) showMembers(ctx context.Context, c *client.Client) error {
	answer, err := c.Raw(ctx, r.membersPath())
	if err != nil {
		return err
	}
	return r.write(answer)
}

// clearScreen puts the cursor of a terminal into the corner and empties it.
const clearScreen = "\x1b[H\x1b[2J"

// watchMembers shows the members until ctx ends. That no server answers any more is told, and no reason to end.
func (r *remote) watchMembers(ctx context.Context, c *client.Client) error {
	terminal := r.output.value == "table" && isTerminal(r.stdout)
	for shown := ""; ; {
		answer, now, err := r.look(ctx, c)
		switch {
		case ctx.Err() != nil:
			return errInterrupted
		case err != nil && shown == "":
			return err // the command line may be wrong
		case err != nil && err.Error() != shown:
			fmt.Fprintln(r.stderr, "snakes:", err)
			shown = err.Error()
		case err == nil && (terminal || now != shown):
			if terminal {
				answer = append([]byte(clearScreen), answer...)
			}
			if err := r.write(answer); err != nil {
				return err
			}
			shown = now
		}
		select {
		case <-ctx.Done():
			return errInterrupted
		case <-time.After(membersPace):
		}
	}
}

// look returns the members as they are to be shown, and what of them is worth showing again when it is another.
func (r *remote) look(ctx context.Context, c *client.Client) (answer []byte, what string, err error) {
	limited, cancel := r.limit(ctx)
	defer cancel()
	m, err := c.Members(limited)
	if err != nil {
		return nil, "", err
	}
	if answer, err = c.Raw(limited, r.membersPath()); err != nil {
		return nil, "", err
	}
	m.Disk.Free, m.Tombstones = 0, 0
	for i := range m.Members {
		one := &m.Members[i]
		one.RTT, one.ClockSkew, one.Keys, one.Behind, one.Blocks = 0, 0, 0, 0, 0
	}
	text, err := json.Marshal(m)
	return answer, string(text), err
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
	cmd.Example = "  snakes inspect greeting\n  snakes inspect greeting -o json"
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
