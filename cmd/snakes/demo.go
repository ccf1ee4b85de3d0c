package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/protocol7/snakes/node"
	"github.com/protocol7/snakes/node/client"
)

const (
	// maxDemoNodes keeps a slip of the finger from filling the machine with nodes.
	maxDemoNodes = 20
	// gatherTimeout is how long the nodes may take to find each other, a hundred times what they need.
	gatherTimeout = 30 * time.Second
)

// demo is several nodes in this process.
type demo struct {
	program
	nodes    int
	port     int // of the first; 0: free ones
	logLevel choice
}

func newDemo(p program) *demo { return &demo{program: p, logLevel: logLevel("warn")} }

func (d *demo) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "demo", Short: "Run several nodes in one process, with data that goes away",
		Long: `Runs several nodes in one process, on --port and the next ones, or on free ports if any of them is taken.
Their data are temporary and removed at the end, at SIGTERM or Ctrl-C.`,
		Example:               "  snakes demo\n  snakes demo --nodes 5 -p 9100",
		Args:                  arguments(""),
		Annotations:           asksNobody,
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := noClientFlags(cmd); err != nil {
				return err
			}
			if d.nodes < 1 || d.nodes > maxDemoNodes {
				return misused(cmd, "--nodes %d is not 1 to %d", d.nodes, maxDemoNodes)
			}
			if d.port < 0 || d.port+d.nodes-1 > 65535 {
				return misused(cmd, "--port %d leaves no ports up to 65535 for %d nodes", d.port, d.nodes)
			}
			return d.run(cmd.Context())
		},
	}
	cmd.Flags().IntVar(&d.nodes, "nodes", 3, "`NUMBER` of nodes")
	cmd.Flags().IntVarP(&d.port, "port", "p", node.DefaultPort, "`PORT` of the first node; 0 picks free ones for all")
	cmd.Flags().Var(&d.logLevel, "log-level", "how much to log")
	return cmd
}

// run ends with ctx, which is no error, or with the first node that fails.
func (d *demo) run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "snakes-demo-")
	if err != nil {
		return fmt.Errorf("make a temporary directory: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	ended := make(chan error, d.nodes)
	defer func() {
		stop()
		running.Wait()
		close(ended)
		for cause := range ended {
			err = errors.Join(err, cause)
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()

	ports, taken := d.ports()
	if taken != nil {
		fmt.Fprintf(d.stderr, "Using free ports: %v\n", taken)
	}
	logger := newLogger(d.program, d.logLevel.value, "text")
	var addresses []string
	for i, port := range ports {
		n, err := node.Open(node.Config{
			Port: port, Data: filepath.Join(dir, fmt.Sprintf("data%d", i+1)), Join: addresses[max(i-1, 0):],
			Version: release(), Logger: logger.Named(fmt.Sprintf("node%d", i+1)),
		})
		if err != nil {
			return fmt.Errorf("node %d: %w", i+1, err)
		}
		addresses = append(addresses, n.Address())
		running.Go(func() {
			if err := n.Run(ctx); err != nil {
				ended <- fmt.Errorf("node %d: %w", i+1, err)
				stop()
			}
		})
	}
	if err := gather(ctx, addresses); err != nil {
		if ctx.Err() != nil {
			return nil // it was told to end, or a node has failed and says why
		}
		return err
	}
	if _, err := fmt.Fprint(d.stdout, d.guide(dir, addresses)); err != nil {
		return fmt.Errorf("write to standard output: %w", err)
	}
	<-ctx.Done()
	return nil
}

// ports returns those from the first one on, or zeros, which mean free ones, and if one of them is taken why.
func (d *demo) ports() (ports []int, taken error) {
	ports = make([]int, d.nodes)
	if d.port == 0 {
		return ports, nil
	}
	for i := range ports {
		if err := free(d.port + i); err != nil {
			return make([]int, d.nodes), err
		}
		ports[i] = d.port + i
	}
	return ports, nil
}

// free returns why a node could not listen on port of the loopback address.
func free(port int) error {
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	tcp, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	udp, err := net.ListenPacket("udp", address)
	if err != nil {
		return errors.Join(err, tcp.Close())
	}
	return errors.Join(tcp.Close(), udp.Close())
}

// gather waits until each of the nodes counts them all, for reads too.
func gather(ctx context.Context, addresses []string) error {
	ctx, cancel := context.WithTimeout(ctx, gatherTimeout)
	defer cancel()
	for _, address := range addresses {
		c, err := client.New(client.Config{Servers: []string{address}})
		if err != nil {
			return err
		}
		defer c.Close()
		for {
			m, err := c.Members(ctx)
			unsynced := slices.ContainsFunc(m.Members, func(member client.Member) bool { return !member.Synced })
			if err == nil && m.Known == len(addresses) && m.Alive == m.Known && !unsynced {
				break
			}
			select {
			case <-ctx.Done():
				return errors.Join(fmt.Errorf("node %s counts %d of %d members after %v; --log-level info tells more",
					address, m.Known, len(addresses), gatherTimeout), err)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}

// guide tells what runs and what to do with it.
func (d *demo) guide(dir string, addresses []string) string {
	var b strings.Builder
	last := len(addresses) - 1
	running, they := fmt.Sprintf("%d nodes are running", len(addresses)), "They are what these commands start"
	if len(addresses) == 1 {
		running, they = "1 node is running", "It is what this command starts"
	}
	fmt.Fprintf(&b, "%s, with data in %s until Ctrl-C. %s:\n\n", running, dir, they)
	for i, address := range addresses {
		_, port, _ := net.SplitHostPort(address) // it is one that a node listens on
		fmt.Fprintf(&b, "  snakes -p %s -d data%s", port, port)
		if i > 0 {
			fmt.Fprintf(&b, " --join %s", addresses[i-1])
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, `
Try, in another terminal:

  curl -X PUT -d "some value" http://%s/foo
  curl "http://%s/foo?r=2"
  curl "http://%s/-/members?format=text"
  snakes get foo --server http://%s
`, addresses[0], addresses[last], addresses[last/2], addresses[last])
	return b.String()
}
