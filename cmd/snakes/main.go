package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/protocol7/snakes/node"
	"github.com/protocol7/snakes/node/client"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // from then on the next signal ends the process at once
	p := program{args: os.Args[1:], getenv: os.Getenv, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	os.Exit(p.run(ctx))
}

// program is all that one run of the command gets from outside.
type program struct {
	args           []string // without the command's name
	getenv         func(name string) string
	stdin          io.Reader
	stdout, stderr io.Writer
}

// run does what the arguments say until ctx ends, and returns the exit code.
func (p program) run(ctx context.Context) int {
	root, remote := p.root()
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if e, ok := errors.AsType[*ended](err); ok {
		return e.code
	}
	if e, ok := errors.AsType[*client.Error](err); ok && remote.output.value == "json" && e.Code != "" {
		_, _ = p.stderr.Write(e.Body) // there is nobody else to tell
	} else {
		fmt.Fprintln(p.stderr, "snakes:", inFlags(err))
	}
	return exitCode(err)
}

// root returns the command with all others, and what those have in common that ask a node.
func (p program) root() (*cobra.Command, *remote) {
	remote := newRemote(p)
	version := remote.version()
	server := newServer(p)
	root := server.command()
	remote.addFlags(root.PersistentFlags())
	server.shares(root.PersistentFlags().Lookup("token-file"))
	root.AddCommand(
		remote.get(), remote.put(), remote.delete(), remote.keys(), remote.watch(), remote.events(), remote.members(), remote.status(), remote.inspect(), remote.bench(),
		remote.backup(), remote.verify(), remote.restore(),
		remote.drain(), remote.undrain(), remote.leave(), remote.forget(), remote.repair(),
		newDemo(p).command(), newSecret(p), remote.completion(), remote.man(), version,
	)
	root.CompletionOptions.DisableDefaultCmd = true // there is one above
	versionFlag(root, version)
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return noEmptyFlags(cmd) }
	completes(root)
	root.SetUsageTemplate(usageTemplate)
	root.SetFlagErrorFunc(flagError)
	root.SetArgs(append([]string{}, p.args...)) // nil would mean those of the process
	root.SetIn(p.stdin)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	return root, remote
}

// flagsOf are the parameters of requests that nodes advise in their error answers, and the flags that stand for them.
var flagsOf = strings.NewReplacer("?w=", "-w ", "?r=", "-r ", "?force=1", "--force")

// inFlags returns the text of err with the advice of a node in flags of this command.
func inFlags(err error) string {
	answer, ok := errors.AsType[*client.Error](err)
	if !ok {
		return err.Error()
	}
	advised := *answer
	advised.Detail = flagsOf.Replace(answer.Detail)
	return strings.Replace(err.Error(), answer.Error(), advised.Error(), 1)
}

// usageError is a command line or an environment that makes no sense.
type usageError struct {
	problem string
	hint    string // a line that says what to do, may be empty
}

// Error returns what is wrong and, on a line of its own, what to do.
func (e *usageError) Error() string {
	if e.hint == "" {
		return e.problem
	}
	return e.problem + "\n" + e.hint
}

// misused returns a *usageError that points to the help of cmd.
func misused(cmd *cobra.Command, format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...), fmt.Sprintf("Run '%s --help' for what it takes.", cmd.CommandPath())}
}

func flagError(cmd *cobra.Command, err error) error { return misused(cmd, "%s", flagProblem(err)) }

// errInterrupted is what a client command ends with on SIGTERM or Ctrl-C.
var errInterrupted = errors.New("interrupted")

// exitCodes are those of the errors that scripts tell apart; the first row that matches counts.
var exitCodes = []struct {
	matches func(error) bool
	code    int
}{
	{isA[*usageError], 2},
	{isA[*node.UsageError], 2},
	{is(errInterrupted), 130},
	{is(client.ErrBadRequest), 2},
	{is(client.ErrNotFound), 3},
	{is(client.ErrQuorum), 4},
	{is(client.ErrNotReady), 4},
	{is(client.ErrUnreachable), 5},
	{is(client.ErrPrecondition), 6},
}

func exitCode(err error) int {
	for _, row := range exitCodes {
		if row.matches(err) {
			return row.code
		}
	}
	return 1
}

func is(target error) func(error) bool { return func(err error) bool { return errors.Is(err, target) } }

func isA[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// asksNobody marks commands to which the flags of the commands that ask a node do not apply.
var asksNobody = map[string]string{"asks": "nobody"}

// usageTemplate is cobra's own with the flags of the root command told apart: those of a node, which are no other
// command's, and those of all client commands.
const usageTemplate = `Usage:
{{- if .HasParent}}
  {{.UseLine}}
{{- else}}
  snakes [flags]            run a node
  snakes COMMAND [flags]
{{- end}}
{{- if .HasExample}}

Examples:
{{.Example}}
{{- end}}
{{- if .HasAvailableSubCommands}}

Commands:
{{- range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}
{{- end}}{{end}}
{{- end}}
{{- if not .HasParent}}

Flags of a node (or SNAKES_ and the name in upper case, with _ for -, in the environment):
{{.LocalNonPersistentFlags.FlagUsages | trimTrailingWhitespaces}}

Flags of the commands that ask a node:
{{.PersistentFlags.FlagUsages | trimTrailingWhitespaces}}
{{- else}}
{{- if .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}
{{- end}}
{{- if and .HasAvailableInheritedFlags (ne (index .Annotations "asks") "nobody")}}

Flags of the commands that ask a node:
{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}
{{- end}}
{{- end}}
`
