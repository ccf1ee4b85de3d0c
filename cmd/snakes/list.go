package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/protocol7/snakes/node/client"
)

func (r *remote) keys() *cobra.Command {
	var level string
	var limit int
	cmd := &cobra.Command{
		Use: "keys [PREFIX]", Short: "List the keys that have a value",
		Long: `Writes the keys that begin with PREFIX, or all, to standard output, one a line, in the order of their bytes. They
are fetched page by page; keys that are written or deleted meanwhile may be among them or not. With -o json each page is
a line, with the version and the size of each value.`,
		Example:               "  snakes keys user\n  snakes keys | wc -l",
		Args:                  arguments("[PREFIX]"),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if limit < 0 {
				return misused(cmd, "--limit %d is below zero", limit)
			}
			span := client.Span{Prefix: strings.Join(args, ""), Limit: client.MaxPage}
			servers, _ := r.addresses()
			return r.converse(cmd.Context(), servers, func(c *client.Client) error {
				return r.list(cmd.Context(), c, span, client.Level(level), limit)
			})
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 0, "how many keys at most, as `NUMBER`; 0 means all")
	levelFlag(cmd.Flags(), &level, "read-level", "r", "read from")
	return cmd
}

// list writes the pages from span on, limit keys at most unless that is 0. --timeout is for each of them.
func (r *remote) list(ctx context.Context, c *client.Client, span client.Span, level client.Level, limit int) error {
	for left := limit; ; {
		if limit > 0 {
			span.Limit = min(left, client.MaxPage)
		}
		limited, cancel := r.limit(ctx)
		page, err := c.Keys(limited, span, level)
		cancel()
		if err != nil {
			return err
		}
		if page.Next != "" && page.Next <= span.After {
			return fmt.Errorf("%w: it lists no further than %s", client.ErrNotSnakes, page.Next)
		}
		text := page.Body
		if r.output.value != "json" {
			text = nil
			for _, key := range page.Keys {
				text = append(append(text, key.Key...), '\n')
			}
		}
		if err := r.write(text); err != nil {
			return err
		}
		if left -= len(page.Keys); page.Next == "" || limit > 0 && left <= 0 {
			return nil
		}
		span.After = page.Next
	}
}
