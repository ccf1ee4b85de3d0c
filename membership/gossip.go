package membership

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/memberlist"

	"github.com/protocol7/snakes/membership/roster"
)

// maxPacket keeps gossip packets below the smallest MTU that networks in use have (1,280
// bytes with IPv6), headers, label and encryption included.
const maxPacket = 1200

// advertiseTimeout bounds the look-up of the name that this node advertises.
const advertiseTimeout = 5 * time.Second

// gossip is what memberlist calls, with its own lock held: every method takes notes and
// returns.
type gossip struct{ *Membership }

func (m *Membership) listConfig() (*memberlist.Config, error) {
	host, port, err := net.SplitHostPort(m.cfg.Address)
	if err != nil {
		return nil, err
	}
	ip, err := advertisedIP(host)
	if err != nil {
		return nil, fmt.Errorf("advertised address: %w", err)
	}
	c := memberlist.DefaultLANConfig()
	c.Name = m.cfg.ID
	c.Label = m.cfg.Cluster
	c.Transport = m.cfg.Transport
	c.Keyring = m.keyring
	c.GossipVerifyIncoming, c.GossipVerifyOutgoing = true, true // nothing in the clear, if there are keys
	c.AdvertiseAddr = ip.String()
	c.AdvertisePort, _ = strconv.Atoi(port) // Validate has checked it
	c.BindAddr, c.BindPort = c.AdvertiseAddr, c.AdvertisePort
	c.UDPBufferSize = maxPacket - 100
	c.ProbeInterval = m.cfg.Pace
	c.ProbeTimeout = m.cfg.Pace / 2
	c.GossipInterval = m.cfg.Pace / 5
	c.PushPullInterval = 15 * m.cfg.Pace
	c.GossipToTheDeadTime = 30 * m.cfg.Pace
	c.TCPTimeout = 2 * time.Second
	c.DeadNodeReclaimTime = time.Nanosecond // a dead node may return at another address at once
	c.Delegate, c.Events, c.Merge, c.Alive, c.Ping = gossip{m}, gossip{m}, gossip{m}, gossip{m}, gossip{m}
	if c.MetricLabels, err = m.beginMeasuring(); err != nil {
		return nil, fmt.Errorf("measure gossip: %w", err)
	}
	c.Logger = log.New(&listLog{m.cfg.Logger.Named("memberlist")}, "", 0)
	return c, nil
}

// advertisedIP returns the address that gossip gives to others for host, of IPv4 if there is one.
func advertisedIP(host string) (netip.Addr, error) {
	ctx, cancel := context.WithTimeout(context.Background(), advertiseTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.Addr{}, err
	}
	for i, ip := range ips {
		ips[i] = ip.Unmap().WithZone("") // a zone means nothing elsewhere
	}
	return ips[max(0, slices.IndexFunc(ips, netip.Addr.Is4))], nil
}

// listLog takes memberlist's lines at the levels that they begin with. Those at info are written at
// debug: what a person acts on, this package says itself.
type listLog struct{ logger hclog.Logger }

// Write implements io.Writer.
func (l *listLog) Write(line []byte) (int, error) {
	level, text := hclog.Debug, strings.TrimSpace(string(line))
	for prefix, its := range map[string]hclog.Level{"[WARN] ": hclog.Warn, "[ERR] ": hclog.Error} {
		if rest, found := strings.CutPrefix(text, prefix); found {
			level, text = its, rest
		}
	}
	if level == hclog.Debug && !l.logger.IsDebug() {
		return len(line), nil
	}
	for _, prefix := range []string{"[DEBUG] ", "[INFO] ", "memberlist: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	l.logger.Log(level, constantPart(text), "line", text)
	return len(line), nil
}

// constantPart returns the words of a line of memberlist before the first that is not one, such as
// an address: a message that is the same each time.
func constantPart(line string) string {
	var words []string
	for word := range strings.FieldsSeq(line) {
		word, end := strings.CutSuffix(strings.ToLower(word), ":")
		if strings.Trim(word, "abcdefghijklmnopqrstuvwxyz/-,") != "" {
			break
		}
		if words = append(words, word); end {
			break
		}
	}
	return strings.Join(words, " ")
}

// NodeMeta implements memberlist.Delegate.
func (g gossip) NodeMeta(int) []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.self.encode()
}

// NotifyMsg implements memberlist.Delegate: we send no messages of our own this way.
func (g gossip) NotifyMsg([]byte) {}

// GetBroadcasts implements memberlist.Delegate, as NotifyMsg.
func (g gossip) GetBroadcasts(int, int) [][]byte { return nil }

// news is what nodes tell each other in a push/pull and when a roster changes.
type news struct {
	Knowledge roster.Knowledge `json:"knowledge"`
	Infos     map[string]info  `json:"infos"`
}

func (m *Membership) news() news {
	m.mu.Lock()
	defer m.mu.Unlock()
	return news{Knowledge: m.ledger.Knowledge(), Infos: m.infos()}
}

// LocalState implements memberlist.Delegate.
func (g gossip) LocalState(bool) []byte {
	b, err := json.Marshal(g.news())
	if err != nil {
		g.logger.Error("local state", "error", err)
	}
	return b
}

// MergeRemoteState implements memberlist.Delegate. memberlist calls it without its lock.
func (g gossip) MergeRemoteState(b []byte, _ bool) {
	var n news
	if err := json.Unmarshal(b, &n); err != nil {
		g.logger.Warn("state of another node makes no sense", "error", err)
		return
	}
	g.hearOf(n)
}

// NotifyJoin implements memberlist.EventDelegate.
func (g gossip) NotifyJoin(n *memberlist.Node) { g.note(n, true) }

// NotifyUpdate implements memberlist.EventDelegate.
func (g gossip) NotifyUpdate(n *memberlist.Node) { g.note(n, true) }

// NotifyLeave implements memberlist.EventDelegate, for those that left and those that died:
// memberlist does not say which, what a node told of itself before does.
func (g gossip) NotifyLeave(n *memberlist.Node) { g.note(n, false) }

func (g gossip) note(n *memberlist.Node, gossiping bool) {
	if n.Name == g.cfg.ID {
		return
	}
	i, err := decodeInfo(n.Meta)
	if err != nil {
		g.logger.Warn("member not understood", "id", n.Name, "error", err)
		return
	}
	g.update(func() {
		p := g.takeInfo(n.Name, i)
		if gossiping && !p.gossiping {
			p.metAt = time.Now()
			p.silent, p.backAt = false, p.metAt // it is new, or back
		}
		p.gossiping = gossiping
	})
}

// NotifyAlive implements memberlist.AliveDelegate: nodes of other clusters are kept out, unless
// one side is a node that looks for a cluster.
func (g gossip) NotifyAlive(n *memberlist.Node) error {
	if n.Name == g.cfg.ID {
		return nil
	}
	i, err := decodeInfo(n.Meta)
	if err != nil {
		return err
	}
	g.mu.Lock()
	mine := g.self
	g.mu.Unlock()
	if i.Cluster == mine.Cluster || i.Seeks || mine.Seeks {
		return nil
	}
	g.update(func() {
		if g.peers[n.Name] != nil {
			g.takeInfo(n.Name, i) // it has moved: its cluster here may be one of the past
		}
	})
	return fmt.Errorf("%w: %s at %s is of %s, this node of %s", ErrOtherCluster, i.Name, i.Address, i.Cluster, mine.Cluster)
}

// NotifyMerge implements memberlist.MergeDelegate: it cancels a join with another cluster.
func (g gossip) NotifyMerge(nodes []*memberlist.Node) error {
	for _, n := range nodes {
		if n.State != memberlist.StateAlive {
			continue
		}
		if err := g.NotifyAlive(n); err != nil {
			g.warnOnce("node of another cluster was kept out; if it lost its data directory, start it anew with --join", err)
			return err
		}
	}
	return nil
}

// warnOnce logs a warning that would otherwise return with every try.
func (m *Membership) warnOnce(message string, err error) {
	if _, before := m.warned.LoadOrStore(err.Error(), true); !before {
		m.logger.Warn(message, "error", err)
	}
}

// AckPayload implements memberlist.PingDelegate.
func (g gossip) AckPayload() []byte { return nil }

// NotifyPingComplete implements memberlist.PingDelegate: a packet was answered.
func (g gossip) NotifyPingComplete(n *memberlist.Node, _ time.Duration, _ []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p, known := g.peers[n.Name]; known {
		p.packetAt = time.Now()
	}
}
