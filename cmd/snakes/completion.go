package main

import (
	"bytes"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// shells are those that completion knows, and what writes the script for each.
var shells = []struct {
	name  string
	write func(root *cobra.Command, w io.Writer) error
}{
	{"bash", func(root *cobra.Command, w io.Writer) error { return root.GenBashCompletionV2(w, true) }},
	{"zsh", (*cobra.Command).GenZshCompletion},
	{"fish", func(root *cobra.Command, w io.Writer) error { return root.GenFishCompletion(w, true) }},
	{"powershell", (*cobra.Command).GenPowerShellCompletionWithDesc},
}

func (r *remote) completion() *cobra.Command {
	var names []string
	for _, shell := range shells {
		names = append(names, shell.name)
	}
	return &cobra.Command{
		Use: "completion " + strings.Join(names, "|"), Short: "Write what lets a shell complete commands and flags",
		Long: `Writes a script to standard output that lets a shell complete commands, flags and their values. It asks this program
whenever the Tab key is pressed, so that it does not go out of date.`,
		Example: `  source <(snakes completion bash)
  snakes completion bash > /etc/bash_completion.d/snakes
  snakes completion zsh > "${fpath[1]}/_snakes"
  snakes completion fish > ~/.config/fish/completions/snakes.fish
  snakes completion powershell | Out-String | Invoke-Expression`,
		Args: arguments("SHELL"), ValidArgs: names, Annotations: asksNobody, DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := noClientFlags(cmd); err != nil {
				return err
			}
			i := slices.Index(names, args[0])
			if i < 0 {
				return misused(cmd, "there is no completion for %q, but for %s", args[0], strings.Join(names, ", "))
			}
			var script bytes.Buffer
			if err := shells[i].write(cmd.Root(), &script); err != nil {
				return err
			}
			return r.write(script.Bytes())
		},
	}
}

// completes has shells complete the values of flags that are one of few words, on all commands that have them.
func completes(cmd *cobra.Command) {
	for name, values := range map[string][]string{
		"read-level": {"one", "quorum", "all"}, "write-level": {"one", "quorum", "all"}, "wait": {"ready", "alive="},
		"output": {"table", "json"}, "log-level": {"trace", "debug", "info", "warn", "error"}, "log-format": {"text", "json"},
	} {
		if cmd.Flags().Lookup(name) != nil || cmd.PersistentFlags().Lookup(name) != nil {
			// The error is that of a flag that is not there, or has been here before.
			_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
		}
	}
	for _, child := range cmd.Commands() {
		completes(child)
	}
}
