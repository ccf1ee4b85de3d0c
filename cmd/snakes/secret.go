package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/protocol7/snakes/node/secret"
)

// newSecret returns the command that draws a secret.
func newSecret(p program) *cobra.Command {
	return &cobra.Command{
		Use: "secret [FILE]", Short: "Draw a secret for --secret-file",
		Long: `Draws a secret, and prints it, or writes it to FILE, which must not exist and which nobody else can read then.
Nodes that are started with the same --secret-file form a cluster that is closed to all others.

To replace a secret without stopping anything, have each of these files on all nodes before you go to the next one,
and send SIGHUP to the nodes each time: the old secret and, on a second line, the new one; the new one first; the new
one alone.`,
		Example: `  snakes secret secret.txt
  snakes --secret-file secret.txt
  snakes secret >> secret.txt`,
		Args:                  arguments("[FILE]"),
		Annotations:           asksNobody,
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := noClientFlags(cmd); err != nil {
				return err
			}
			if len(args) == 0 {
				_, err := fmt.Fprintln(p.stdout, secret.Generate())
				return err
			}
			err := secret.Create(args[0])
			if errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("%s exists already and is left as it is; to add a secret: snakes secret >> %s", args[0], args[0])
			}
			if err == nil {
				fmt.Fprintf(p.stderr, "%s has a new secret; copy it to all nodes, and start each with --secret-file %s\n", args[0], args[0])
			}
			return err
		},
	}
}
