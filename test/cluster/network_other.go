//go:build !linux

package cluster

import (
	"context"
	"errors"
	"net"
)

var errNoNamespaces = errors.New("network namespaces: only Linux has them")

// wires stands for a network that cannot be made here: newWires always fails.
type wires struct{}

// namespace is only ever nil here: the test's own network.
type namespace struct{}

func newWires(Network) (*wires, error)              { return nil, errNoNamespaces }
func (*wires) addNode() (*namespace, string, error) { return nil, "", errNoNamespaces }
func (*wires) split(from, to int) error             { return errNoNamespaces }
func (*wires) shape(from, to int, how Way)          {}
func (*wires) heal() error                          { return errNoNamespaces }
func (*wires) close() error                         { return nil }
func (*namespace) do(f func() error) error          { return f() }

func (*namespace) dial(ctx context.Context, network, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, address)
}
