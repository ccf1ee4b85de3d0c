package transport

import (
	"fmt"
	"net"
	"net/netip"
)

// FinalAdvertiseAddr returns the address that others are told to reach this node at. If ip is given it is
// that, with the given port, or the bound one for port 0. If ip is empty, port means nothing
// (memberlist's own default is there) and the result is the bound address; for an unspecified one, an
// address of an interface: private before public, IPv4 before IPv6, loopback only if there is no other,
// and else as the system lists them. On a machine in several networks it is better to give ip.
func (t *Transport) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	return advertiseAddr(ip, port, t.Addr(), net.InterfaceAddrs)
}

func advertiseAddr(ip string, port int, bound netip.AddrPort, interfaceAddrs func() ([]net.Addr, error)) (net.IP, int, error) {
	if ip != "" {
		addr, err := netip.ParseAddr(ip)
		if err != nil {
			return nil, 0, fmt.Errorf("advertise address: %w", err)
		}
		if port == 0 {
			port = int(bound.Port())
		}
		return addr.Unmap().AsSlice(), port, nil
	}
	addr := bound.Addr()
	if addr.IsUnspecified() {
		interfaces, err := interfaceAddrs()
		if err != nil {
			return nil, 0, fmt.Errorf("find an address to advertise: %w", err)
		}
		var ok bool
		if addr, ok = reachableAddr(interfaces, addr.Is4()); !ok {
			return nil, 0, fmt.Errorf("no interface has an address to advertise for %v", bound)
		}
	}
	return addr.AsSlice(), int(bound.Port()), nil
}

// reachableAddr picks from the addresses of interfaces the one that other nodes most likely reach.
func reachableAddr(interfaces []net.Addr, onlyIPv4 bool) (best netip.Addr, ok bool) {
	bestRank := 0
	for _, a := range interfaces {
		network, isNetwork := a.(*net.IPNet)
		if !isNetwork {
			continue
		}
		addr, valid := netip.AddrFromSlice(network.IP)
		addr = addr.Unmap()
		if !valid || onlyIPv4 && !addr.Is4() {
			continue
		}
		if rank := reachRank(addr); rank > bestRank {
			best, bestRank = addr, rank
		}
	}
	return best, bestRank > 0
}

// reachRank is higher for addresses that are more likely to be reached, and 0 for those that cannot be
// given to others, such as link-local ones, which need a zone.
func reachRank(addr netip.Addr) int {
	var rank int
	switch {
	case addr.IsPrivate():
		rank = 5
	case addr.IsGlobalUnicast():
		rank = 3
	case addr.IsLoopback():
		rank = 1
	default:
		return 0
	}
	if addr.Is4() {
		rank++
	}
	return rank
}
