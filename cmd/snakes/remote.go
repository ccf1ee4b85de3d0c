package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/protocol7/snakes/node/client"
	"github.com/protocol7/snakes/node/secret"
)

// remote holds what all commands that ask a node have in common.
type remote struct {
	program
	servers []string
	output  choice
	timeout time.Duration
	yes     bool

	tokenFile string
	caFile    string
	shown     string         // the token, once somebody was asked
	trusted   *x509.CertPool // whose certificates are, once somebody was asked; nil: the system's
}

func newRemote(p program) *remote {
	return &remote{program: p, output: choice{"table", []string{"table", "json"}}}
}

// addFlags adds the flags that may stand before and after the command's name.
func (r *remote) addFlags(f *pflag.FlagSet) {
	f.StringArrayVar(&r.servers, "server", nil, "`URL[,URL]` of nodes, the next one if one does not answer (default $SNAKES_SERVER or "+client.DefaultServer+")")
	f.VarP(&r.output, "output", "o", "how to print; json is the API's answer as it came")
	f.DurationVar(&r.timeout, "timeout", 5*time.Second, "how long to wait for an answer, as `TIME`; 0 waits for ever")
	f.StringVar(&r.tokenFile, "token-file", "", "`FILE` with the token to show (default $SNAKES_TOKEN); of a node: with the tokens that it takes")
	f.StringVar(&r.caFile, "cacert", "", "`FILE` with the certificates to trust of https servers, instead of the system's (default $SNAKES_CACERT)")
	f.BoolVar(&r.yes, "yes", false, "answer all questions with yes")
}

// noClientFlags refuses flags that mean nothing to cmd; those named in but do mean something.
func noClientFlags(cmd *cobra.Command, but ...string) (err error) {
	// Not Visit: the set that a flag was defined in does not learn that another one, made by cobra, has set it.
	cmd.Root().PersistentFlags().VisitAll(func(flag *pflag.Flag) {
		if flag.Changed && !slices.Contains(but, flag.Name) {
			err = misused(cmd, "--%s is for the commands that ask a node", flag.Name)
		}
	})
	return err
}

// addresses returns the servers that were named, maybe none, and where.
func (r *remote) addresses() (servers []string, source string) {
	if env := r.getenv("SNAKES_SERVER"); len(r.servers) == 0 && env != "" {
		return split([]string{env}), "SNAKES_SERVER in the environment"
	}
	return split(r.servers), "--server"
}

// ask calls f with a client of the servers that were named, which has the time of --timeout.
func (r *remote) ask(ctx context.Context, f func(context.Context, *client.Client) error) error {
	servers, _ := r.addresses()
	return r.askAt(ctx, servers, f)
}

// askAt is ask with other servers.
func (r *remote) askAt(ctx context.Context, servers []string, f func(context.Context, *client.Client) error) error {
	return r.converse(ctx, servers, func(c *client.Client) error {
		limited, cancel := r.limit(ctx)
		defer cancel()
		return f(limited, c)
	})
}

// converse calls f with a client of servers. f itself limits how long it waits for each answer.
func (r *remote) converse(ctx context.Context, servers []string, f func(*client.Client) error) error {
	var err error
	if r.shown, err = r.token(); err != nil {
		return err
	}
	if r.trusted, err = r.authorities(); err != nil {
		return err
	}
	c, err := client.New(client.Config{Servers: servers, Token: r.shown, RootCAs: r.trusted})
	if err != nil {
		_, source := r.addresses()
		return &usageError{fmt.Sprintf("%s: %v", source, err), ""}
	}
	defer c.Close()
	for _, server := range servers {
		if hasPath(server) {
			_, source := r.addresses()
			return &usageError{fmt.Sprintf("%s: server %q has a path; a node's URL has none, like %s", source, server, client.DefaultServer), ""}
		}
	}
	if r.timeout < 0 {
		return &usageError{fmt.Sprintf("--timeout %v is below zero", r.timeout), ""}
	}
	err = f(c)
	if err != nil && ctx.Err() != nil {
		return errInterrupted
	}
	return err
}

// limit returns a context for one answer, which has the time of --timeout.
func (r *remote) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	if r.timeout == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, r.timeout, timeoutError(r.timeout))
}

// token returns what to show to nodes, empty if there is nothing: what SNAKES_TOKEN says or, before that, the last word
// of the first line in --token-file, which may be a line of a node's own.
func (r *remote) token() (string, error) {
	if r.tokenFile == "" {
		return r.getenv("SNAKES_TOKEN"), nil
	}
	text, err := secret.ReadFile(r.tokenFile)
	if err != nil {
		return "", &usageError{fmt.Sprintf("--token-file: %v", err), ""}
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	words := strings.Fields(first)
	if len(words) == 0 {
		return "", &usageError{"--token-file: there is no token in it", ""}
	}
	return words[len(words)-1], nil
}

// authorities returns whose certificates to trust, nil for those that the system trusts.
func (r *remote) authorities() (*x509.CertPool, error) {
	file, source := r.caFile, "--cacert"
	if file == "" {
		file, source = r.getenv("SNAKES_CACERT"), "SNAKES_CACERT in the environment"
	}
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, &usageError{fmt.Sprintf("%s: %v", source, err), ""}
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, &usageError{fmt.Sprintf("%s: there is no certificate in %s", source, file), ""}
	}
	return pool, nil
}

// hasPath reports whether more follows the host and port of a server than slashes.
func hasPath(server string) bool {
	if _, rest, found := strings.Cut(server, "://"); found {
		server = rest
	}
	_, path, _ := strings.Cut(server, "/")
	return strings.Trim(path, "/") != ""
}

// timeoutError says which deadline was exceeded.
type timeoutError time.Duration

// Error names the flag by which people can wait longer.
func (e timeoutError) Error() string {
	return fmt.Sprintf("no answer within --timeout %v", time.Duration(e))
}

// Is lets errors.Is take it for what the context would have said.
func (timeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// arguments returns a check for what the words of use stand for, such as "KEY [VALUE|-]".
func arguments(use string) cobra.PositionalArgs {
	words := strings.Fields(use)
	least := slices.IndexFunc(words, func(word string) bool { return word[0] == '[' })
	if least < 0 {
		least = len(words)
	}
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return misused(cmd, "%s needs a %s", cmd.Name(), words[len(args)])
		case len(args) > len(words):
			return misused(cmd, "%s does not know what to do with %q", cmd.Name(), args[len(words)])
		case len(args) > 0 && args[0] == "":
			return misused(cmd, "the %s is empty", strings.Trim(words[0], "[]"))
		}
		return nil
	}
}

// command returns a client command that takes what use says after its name.
func (r *remote) command(name, use, short string, run func(context.Context, *client.Client, []string) error) *cobra.Command {
	return &cobra.Command{
		Use: strings.TrimSpace(name + " " + use), Short: short, Args: arguments(use),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return r.ask(cmd.Context(), func(ctx context.Context, c *client.Client) error { return run(ctx, c, args) })
		},
	}
}

// write writes data to standard output as they are.
func (r *remote) write(data []byte) error {
	if _, err := r.stdout.Write(data); err != nil {
		return fmt.Errorf("write to standard output: %w", err)
	}
	return nil
}

// readInput reads standard input to its end, limit bytes at most. A read that ctx interrupts goes on in the background
// until the process ends: nothing else ends it.
func readInput(ctx context.Context, in io.Reader, limit int64) ([]byte, error) {
	type result struct {
		data []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		data, err := io.ReadAll(io.LimitReader(in, limit+1))
		done <- result{data, err}
	}()
	select {
	case <-ctx.Done():
		return nil, errInterrupted
	case r := <-done:
		if r.err != nil {
			return nil, fmt.Errorf("read standard input: %w", r.err)
		}
		if int64(len(r.data)) > limit {
			return nil, fmt.Errorf("%w: standard input has more than %d bytes", client.ErrTooLarge, limit)
		}
		return r.data, nil
	}
}
