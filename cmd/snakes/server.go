package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/protocol7/snakes/node"
)

// server is the root command: a node.
type server struct {
	program
	cfg        node.Config
	maxValue   byteSize
	syncLimit  byteLimit
	checkpoint byteSize
	logLevel   choice
	logFormat  choice
	flags      *pflag.FlagSet // those that the environment can set, too
	tokenFile  *pflag.Flag    // one that means something to client commands, too
}

func newServer(p program) *server {
	return &server{
		program: p, maxValue: node.DefaultMaxValue, checkpoint: node.DefaultCheckpointBytes,
		logLevel: logLevel("info"), logFormat: choice{"text", []string{"text", "json"}},
		flags: pflag.NewFlagSet("snakes", pflag.ContinueOnError),
	}
}

func (s *server) command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "snakes",
		Short: "A replicated key-value store",
		Long: `A replicated key-value store. Without a command it runs a node until SIGTERM or Ctrl-C; every node
takes every request, and one seed address is enough to join the others.`,
		Example: `  snakes                                           node 1: port 9000, ./data
  snakes -p 9001 -d data2 --join 127.0.0.1:9000    node 2
  snakes put greeting "hello there"
  snakes get greeting --server http://127.0.0.1:9001`,
		Args:                       s.refuseArguments,
		RunE:                       s.run,
		SilenceErrors:              true,
		SilenceUsage:               true,
		SuggestionsMinimumDistance: 2,
	}
	f := s.flags
	f.IntVarP(&s.cfg.Port, "port", "p", node.DefaultPort, "TCP and UDP `PORT`; 0 picks a free one and prints it")
	f.StringVarP(&s.cfg.Data, "data", "d", node.DefaultData, "data `DIRECTORY`, of one process only")
	f.StringArrayVar(&s.cfg.Join, "join", nil, "`ADDRESS` of a member to join: host, host:port, http://host:port or [v6]:port; repeatable or comma separated")
	f.StringVar(&s.cfg.Bind, "bind", "", "`ADDRESS` to listen on (default 127.0.0.1, all with --secret-file; without that others need --insecure)")
	f.StringVar(&s.cfg.Advertise, "advertise", "", "`HOST[:PORT]` that others use (default: what it listens on, or the route to the seed)")
	f.StringVar(&s.cfg.Name, "name", "", "`NAME` for people: a-z, 0-9, dot and dash (default HOST-PORT)")
	f.StringVar(&s.cfg.Cluster, "cluster", node.DefaultCluster, "`NAME` of the cluster; clusters with other names never mix")
	f.StringVar(&s.cfg.SecretFile, "secret-file", "", "`FILE` with the secret that all nodes share: it protects all that they say to each other")
	f.StringVar(&s.cfg.TLSCert, "tls-cert", "", "`FILE` with the certificate to show to clients, who then have to come by TLS; PEM, read again when it changes")
	f.StringVar(&s.cfg.TLSKey, "tls-key", "", "`FILE` with the key of the certificate")
	f.BoolVar(&s.cfg.Insecure, "insecure", false, "listen to the network without any protection")
	f.Var(&s.maxValue, "max-value", "largest value that clients may put")
	f.Var(&s.syncLimit, "sync-limit", "how much to fetch in a second of what was missed; 0 for no limit")
	f.DurationVar(&s.cfg.DrainTimeout, "drain-timeout", node.DefaultDrainTimeout, "how long SIGTERM waits for requests under way, as `TIME` like 500ms or 10s")
	f.DurationVar(&s.cfg.TombstoneAge, "tombstone-age", node.DefaultTombstoneAge, "how long to keep the mark of a delete that every node has")
	f.Var(&s.checkpoint, "checkpoint-size", "how much journal is written from one checkpoint to the next")
	for _, name := range []string{"tombstone-age", "checkpoint-size"} {
		_ = f.MarkHidden(name) // it is there; nobody but tests should need another one
	}
	f.Var(&s.logLevel, "log-level", "how much to log")
	f.Var(&s.logFormat, "log-format", "how to log")
	cmd.Flags().AddFlagSet(f)
	return cmd
}

// shares has s take the token file from a flag that client commands have as well.
func (s *server) shares(tokenFile *pflag.Flag) {
	s.tokenFile = tokenFile
	s.flags.AddFlag(tokenFile)
}

// refuseArguments tells those who name peers without a flag how to name them, and others that there is no such command.
func (s *server) refuseArguments(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case strings.ContainsAny(args[0], ":/."):
		return &usageError{"peers are named by --join", "  " + s.withJoin(args)}
	}
	e := &usageError{fmt.Sprintf("there is no command %q", args[0]), "Run 'snakes --help' for those there are; to join a node: snakes --join HOST:PORT"}
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		e.hint = fmt.Sprintf("Did you mean %s?", strings.Join(near, " or "))
	}
	return e
}

// withJoin returns the command line as it was given, with --join before each of peers.
func (s *server) withJoin(peers []string) string {
	line := []string{"snakes"}
	for _, word := range s.args {
		if len(peers) > 0 && word == peers[0] {
			line = append(line, "--join")
			peers = peers[1:]
		}
		if word != "--" {
			line = append(line, word)
		}
	}
	return strings.Join(line, " ")
}

func (s *server) run(cmd *cobra.Command, _ []string) error {
	if err := noClientFlags(cmd, "token-file"); err != nil {
		return err
	}
	cfg, used, err := s.config()
	if err != nil {
		return err
	}
	if err := s.supervised(&cfg); err != nil {
		return err
	}
	if cfg.SecretFile != "" || cfg.Notify != nil { // else the signal ends the process, as when its terminal is closed
		hangups := make(chan os.Signal, 1)
		signal.Notify(hangups, syscall.SIGHUP)
		defer signal.Stop(hangups)
		cfg.Reload = hangups
	}
	err = node.Serve(cmd.Context(), cfg)
	if e, ok := errors.AsType[*node.UsageError](err); ok && len(used) > 0 {
		return &usageError{e.Error(), "Some of it may come from the environment: " + strings.Join(used, ", ")}
	}
	return err
}

// config returns what the flags and the environment say, and the variables that say something.
func (s *server) config() (node.Config, []string, error) {
	kubernetes := ""
	used, err := fromEnvironment(s.flags, s.getenv, func(name, value string) bool {
		// Kubernetes describes services by such variables to every container.
		if name == "SNAKES_PORT" && strings.HasPrefix(value, "tcp://") {
			kubernetes = value
			return true
		}
		return false
	})
	if err != nil {
		return node.Config{}, nil, err
	}
	cfg := s.cfg
	cfg.MaxValue = int64(s.maxValue)
	cfg.SyncLimit = int64(s.syncLimit)
	if s.tokenFile != nil {
		cfg.TokenFile = s.tokenFile.Value.String()
	}
	cfg.CheckpointBytes = int64(s.checkpoint)
	if cfg.DrainTimeout == 0 {
		cfg.DrainTimeout = time.Nanosecond // node takes zero for its default; here it means not to wait
	}
	cfg.Version = release()
	cfg.Logger = newLogger(s.program, s.logLevel.value, s.logFormat.value)
	cfg.Output = s.stderr
	if kubernetes != "" {
		cfg.Logger.Warn("environment variable of a kubernetes service ignored", "variable", "SNAKES_PORT", "value", kubernetes)
	}
	return cfg, used, nil
}

func newLogger(p program, level, format string) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{
		Level: hclog.LevelFromString(level), Output: p.stderr, JSONFormat: format == "json",
	})
}
