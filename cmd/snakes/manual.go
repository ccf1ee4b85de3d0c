package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (r *remote) man() *cobra.Command {
	return &cobra.Command{
		Use: "man DIRECTORY", Short: "Write the manual pages of all commands into a directory",
		Long: `Writes a manual page for each command, snakes.1, snakes-get.1 and so on, into a directory, which is made if it is not
there. What it replaces there are pages of the same names.`,
		Example: "  snakes man /usr/local/share/man/man1\n  snakes man . && man ./snakes-status.1",
		Args:    arguments("DIRECTORY"), Annotations: asksNobody, DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := noClientFlags(cmd); err != nil {
				return err
			}
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			for _, one := range documented(cmd.Root()) {
				name := filepath.Join(args[0], pageName(one)+".1")
				if err := os.WriteFile(name, manual(one), 0o644); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// documented returns root and all its commands that people are told of.
func documented(root *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{root}
	for _, cmd := range root.Commands() {
		if cmd.IsAvailableCommand() {
			all = append(all, documented(cmd)...)
		}
	}
	return all
}

func pageName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// exitStatus are the exit codes as doc.go lists them.
const exitStatus = `0  done
1  another error
2  the command line, the environment, or what they ask for makes no sense
3  there is no value under the key
4  the quorum was not met, or the node is not ready
5  no server answered in time
6  a condition of the request does not hold
130  interrupted`

// manual returns the page of cmd, for man(7).
func manual(cmd *cobra.Command) []byte {
	var b bytes.Buffer
	name := pageName(cmd)
	fmt.Fprintf(&b, ".TH %s 1 \"\" %s \"snakes\"\n", quotedRoff(strings.ToUpper(name)), quotedRoff("snakes "+release()))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(name), roff(strings.ToLower(cmd.Short[:1])+cmd.Short[1:]))
	b.WriteString(".SH SYNOPSIS\n")
	if cmd.HasParent() {
		fmt.Fprintf(&b, ".B %s\n", roff(cmd.UseLine()))
	} else {
		fmt.Fprintf(&b, ".B snakes\n[flags]\n.br\n.B snakes\n.I COMMAND\n[flags]\n")
	}
	long := cmd.Long
	if long == "" {
		long = cmd.Short + "."
	}
	fmt.Fprintf(&b, ".SH DESCRIPTION\n%s", paragraphs(long))
	if cmd.Example != "" {
		fmt.Fprintf(&b, ".SH EXAMPLES\n.nf\n%s\n.fi\n", roff(cmd.Example))
	}
	options(&b, "OPTIONS", cmd.NonInheritedFlags())
	if cmd.Annotations["asks"] != "nobody" && cmd.HasParent() {
		options(&b, "OPTIONS OF ALL COMMANDS THAT ASK A NODE", cmd.InheritedFlags())
	}
	b.WriteString(".SH EXIT STATUS\n")
	for line := range strings.SplitSeq(exitStatus, "\n") {
		code, meaning, _ := strings.Cut(line, "  ")
		fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", code, roff(meaning))
	}
	var also []string
	for _, other := range documented(cmd.Root()) {
		if other == cmd.Parent() || other.Parent() == cmd {
			also = append(also, fmt.Sprintf(".BR %s (1)", roff(pageName(other))))
		}
	}
	if len(also) > 0 {
		fmt.Fprintf(&b, ".SH SEE ALSO\n%s\n", strings.Join(also, ",\n"))
	}
	return b.Bytes()
}

// options adds a section with flags, if there are any.
func options(b *bytes.Buffer, title string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	fmt.Fprintf(b, ".SH %s\n", title)
	flags.VisitAll(func(flag *pflag.Flag) {
		if flag.Hidden {
			return
		}
		value, usage := pflag.UnquoteUsage(flag)
		names := "--" + flag.Name
		if flag.Shorthand != "" {
			names = "-" + flag.Shorthand + ", " + names
		}
		fmt.Fprintf(b, ".TP\n\\fB%s\\fR \\fI%s\\fR\n%s", roff(names), roff(value), roff(usage))
		switch flag.DefValue {
		case "", "false", "0", "0s", "[]":
		default:
			fmt.Fprintf(b, " (default %s)", roff(flag.DefValue))
		}
		b.WriteString("\n")
	})
}

// indented is a line that is to be shown as it is.
var indented = regexp.MustCompile(`^ +`)

// paragraphs returns text with its empty lines as ends of paragraphs and its indented lines as they are.
func paragraphs(text string) string {
	var b strings.Builder
	asIs := false
	for line := range strings.SplitSeq(text, "\n") {
		if is := indented.MatchString(line); is != asIs {
			asIs = is
			b.WriteString(map[bool]string{true: ".nf\n", false: ".fi\n"}[is])
		}
		if line == "" {
			b.WriteString(".PP\n")
			continue
		}
		b.WriteString(roff(line) + "\n")
	}
	if asIs {
		b.WriteString(".fi\n")
	}
	return b.String()
}

// roff returns text in which nothing is a command to the formatter, and dashes can be copied.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}

// quotedRoff returns text as one argument of a macro.
func quotedRoff(text string) string { return `"` + strings.ReplaceAll(roff(text), `"`, `\(dq`) + `"` }
