package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/protocol7/snakes/node/client"
)

func (r *remote) get() *cobra.Command {
	var level string
	cmd := r.command("get", "KEY", "Write the value of a key to standard output", func(ctx context.Context, c *client.Client, args []string) error {
		value, _, err := c.Get(ctx, args[0], client.Level(level))
		if err != nil {
			return err
		}
		return r.write(value.Data)
	})
	cmd.Long = "Writes exactly the bytes of the value to standard output, with no newline of its own.\nExits with 3 if there is none."
	cmd.Example = "  snakes get greeting\n  snakes get logo -r 1 > logo.png"
	levelFlag(cmd.Flags(), &level, "read-level", "r", "read from")
	return cmd
}

func (r *remote) put() *cobra.Command {
	var level, contentType string
	cmd := &cobra.Command{
		Use: "put KEY [VALUE|-]", Short: "Store a value under a key",
		Long: `Stores VALUE, or with "-" or nothing what standard input has, in place of what is there. Standard input
is read whole, up to 256 MiB, before it is sent. A VALUE that begins with a dash goes after "--".`,
		Example: `  snakes put greeting "hello there"
  snakes put logo --content-type image/png < logo.png
  snakes put temperature -- -5`,
		Args:                  arguments("KEY [VALUE|-]"),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			value := client.Value{ContentType: contentType}
			if len(args) == 2 && args[1] != "-" {
				value.Data = []byte(args[1])
			} else {
				var err error
				if value.Data, err = readInput(cmd.Context(), r.stdin, client.DefaultMaxValue); err != nil {
					return err
				}
			}
			return r.ask(cmd.Context(), func(ctx context.Context, c *client.Client) error {
				receipt, err := c.Put(ctx, args[0], value, client.Level(level))
				return r.written(receipt, err)
			})
		},
	}
	cmd.Flags().StringVar(&contentType, "content-type", "", "media `TYPE` to return with the value (default text/plain; charset=utf-8)")
	levelFlag(cmd.Flags(), &level, "write-level", "w", "have stored it")
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &usageError{err.Error(), `Run 'snakes put --help' for the flags; a VALUE that begins with a dash goes after "--".`}
	})
	return cmd
}

func (r *remote) delete() *cobra.Command {
	var level string
	cmd := r.command("delete", "KEY", "Delete the value of a key", func(ctx context.Context, c *client.Client, args []string) error {
		receipt, err := c.Delete(ctx, args[0], client.Level(level))
		return r.written(receipt, err)
	})
	cmd.Long = "Deletes the value of a key. That there is none is no error."
	cmd.Example = "  snakes delete greeting\n  snakes delete greeting -w all"
	levelFlag(cmd.Flags(), &level, "write-level", "w", "know of it")
	return cmd
}

func levelFlag(f *pflag.FlagSet, level *string, name, short, what string) {
	f.StringVarP(level, name, short, "", "how many members must "+what+": a `NUMBER`, one, quorum or all (default: what survives the loss of a minority)")
}

// written tells of members that have not taken part in a write that is done.
func (r *remote) written(receipt client.Receipt, err error) error {
	if err == nil && len(receipt.Missing) > 0 {
		fmt.Fprintf(r.stderr, "done by %d of %d members; missing: %s\n", receipt.Acks, receipt.N, strings.Join(receipt.Missing, ", "))
	}
	return err
}
