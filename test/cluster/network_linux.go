package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// nowhere is a link address that no interface has: what is sent there is lost without a word.
const nowhere = "02:00:00:00:00:00"

// wires is the network of a cluster in namespaces: one namespace for the switch and one for each node. None has a name
// in the file system: the kernel removes them, with all that they hold, when the last process and file is gone.
type wires struct {
	hub   *namespace
	nodes []*namespace
	cut   map[[2]int]bool // ordered pairs (from, to) whose packets vanish
	relay *relay          // carries all packets instead of the switch, if there is one
}

// namespace is a network stack of its own, kept by an open file.
type namespace struct {
	file *os.File
}

// newWires makes the switch, or a relay if the network is Relayed. Its error says what this machine lacks.
func newWires(n Network) (*wires, error) {
	if _, err := exec.LookPath("ip"); err != nil {
		return nil, fmt.Errorf("the ip command of iproute2: %w", err)
	}
	hub, err := newNamespace()
	if err != nil {
		return nil, fmt.Errorf("network namespaces (they need root): %w", err)
	}
	if n == Relayed {
		return &wires{hub: hub, relay: newRelay(1)}, nil
	}
	if err := hub.ip("link add hub type bridge", "link set hub up"); err != nil {
		return nil, errors.Join(fmt.Errorf("a bridge in a network namespace: %w", err), hub.file.Close())
	}
	return &wires{hub: hub, cut: make(map[[2]int]bool)}, nil
}

// addNode makes the next node's namespace, plugs it into the switch and returns it with its address. The addresses
// are the same in every cluster, since none can see another's.
func (w *wires) addNode() (*namespace, string, error) {
	i := len(w.nodes)
	if i >= 250 {
		return nil, "", errors.New("no more than 250 nodes in namespaces")
	}
	ns, err := newNamespace()
	if err != nil {
		return nil, "", err
	}
	w.nodes = append(w.nodes, ns)
	address := nodeAddress(i)
	if w.relay != nil {
		err = w.relay.plug(ns)
	} else {
		err = w.hub.ip(
			fmt.Sprintf("link add port%d type veth peer name eth0 netns /proc/%d/fd/%d", i, os.Getpid(), ns.file.Fd()),
			fmt.Sprintf("link set port%d master hub up", i),
		)
	}
	if err != nil {
		return nil, "", err
	}
	return ns, address, ns.ip("link set lo up", "addr add "+address+"/24 dev eth0", "link set eth0 up")
}

func nodeAddress(i int) string { return fmt.Sprintf("10.77.0.%d", i+1) }

// split makes the packets from one node to another vanish. The sender's table of neighbours gets a wrong, permanent
// entry: unlike with a route that refuses, neither new nor open connections hear of an error.
func (w *wires) split(from, to int) error {
	if w.relay != nil {
		w.relay.shape(from, to, Way{Loss: 1})
		return nil
	}
	pair := [2]int{from, to}
	if w.cut[pair] {
		return nil
	}
	w.cut[pair] = true
	return w.nodes[from].ip("neigh replace " + nodeAddress(to) + " lladdr " + nowhere + " nud permanent dev eth0")
}

// shape sets what happens to packets from one node to another. Only with a relay.
func (w *wires) shape(from, to int, how Way) { w.relay.shape(from, to, how) }

// heal undoes all splits.
func (w *wires) heal() error {
	var errs []error
	for pair := range w.cut {
		errs = append(errs, w.nodes[pair[0]].ip("neigh del "+nodeAddress(pair[1])+" dev eth0"))
	}
	clear(w.cut)
	if w.relay != nil {
		w.relay.heal()
	}
	return errors.Join(errs...)
}

// close lets go of the namespaces; the kernel removes those without a process.
func (w *wires) close() error {
	errs := []error{w.hub.file.Close()}
	if w.relay != nil {
		errs = append(errs, w.relay.close())
	}
	for _, ns := range w.nodes {
		errs = append(errs, ns.file.Close())
	}
	return errors.Join(errs...)
}

func newNamespace() (*namespace, error) {
	type result struct {
		file *os.File
		err  error
	}
	made := make(chan result, 1)
	go func() {
		// Never unlocked: the thread is in the new namespace and must end with this goroutine.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			made <- result{err: os.NewSyscallError("unshare", err)}
			return
		}
		file, err := os.Open(ownNamespace)
		made <- result{file, err}
	}()
	r := <-made
	return &namespace{r.file}, r.err
}

const ownNamespace = "/proc/thread-self/ns/net"

// do runs f on a thread inside the namespace: sockets that f makes and processes that it starts belong there. A nil
// namespace is the test's own.
func (ns *namespace) do(f func() error) error {
	if ns == nil {
		return f()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := os.Open(ownNamespace)
	if err != nil {
		return fmt.Errorf("remember the network namespace: %w", err)
	}
	defer home.Close()
	if err := unix.Setns(int(ns.file.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter the network namespace: %w", err)
	}
	defer func() {
		if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
			// The thread would go on serving other goroutines from inside a node's network.
			panic(fmt.Sprintf("leave the network namespace: %v", err))
		}
	}()
	return f()
}

// dial connects from inside the namespace. A socket belongs to the namespace of the thread that made it, and for a
// plain IP address the net package makes it on the calling thread.
func (ns *namespace) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	doErr := ns.do(func() error {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, doErr
}

// ip runs commands of the ip tool in the namespace, up to the first that fails.
func (ns *namespace) ip(commands ...string) error {
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := ns.do(cmd.Run); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(commands, "; "), err, strings.TrimSpace(out.String()))
	}
	return nil
}
