// Package transport lets gossip and everything else share one port number: the TCP and the UDP port
// of one address.
//
// It opens the port, tells gossip from other connections by their first byte, and is the transport
// that a memberlist node runs on. What a request is, and when a member counts as reachable, it leaves
// to others.
//
// # Terms
//
// A packet is one UDP datagram of gossip. A stream is a TCP connection of gossip. A request
// connection is any other TCP connection that opens as a text protocol or TLS does. A connection is
// unclaimed from the moment it is accepted until its owner (memberlist or the caller of
// [net.Listener.Accept] on [Transport.Requests]) takes it.
//
// # How connections are told apart
//
// memberlist with a label begins every packet and every stream with the byte 0xF4, encrypted or not.
// The methods of a text protocol begin with a capital letter, a TLS handshake with 0x16:
//
//	first byte   goes to
//	0xF4         StreamCh (memberlist)
//	'A'..'Z'     Requests
//	0x16         Requests
//	other        closed
//
// The byte is read, and given back to whoever claims the connection. [OpensTLS] tells the two kinds of requests apart.
//
// Hazard: a memberlist node without a label cannot use this transport. Its packets are refused by
// WriteTo with [ErrUnlabelled], and its streams are closed by the peer.
//
// # Invariants
//
//   - A connection has one owner at a time; one that is never claimed is closed.
//   - No connection keeps another from being accepted for more than 500 ms. Each unclaimed one waits in a
//     goroutine of its own; at most Config.MaxUnclaimed of them exist, and then the oldest gives way to a
//     new one, once it has had 500 ms for itself.
//   - Only Close ends the acceptance of connections.
//
// # When things misbehave
//
// A client that sends nothing is closed after Config.SniffTimeout. A crowd of silent clients can at
// most push out each other, and clients that say nothing for 500 ms: closing the newest instead would let
// a thousand idle connections lock everybody out. Once the first byte has arrived, time limits
// are the business of the owner; until an owner appears the connection waits, as it would in the
// backlog of a listener.
//
// When the process is out of file descriptors, or accept fails in another way, accepting pauses for 5 ms
// to 1 s and goes on. Packets that memberlist does not take in time stay in the receive buffer of the
// kernel, which drops what does not fit: gossip repeats itself, and a second queue would only make packets
// older. A packet that is not gossip is dropped and counted.
//
// # Ending
//
// memberlist calls Shutdown, which ends gossip only: requests under way may still need the port. Streams that come after it are reset.
// Closing a listener of Requests ends that listener only, so that another one can take over the port. Close ends both, and
// waits until every goroutine of the transport has ended:
//
//	gossip + requests --Shutdown--> requests --Close--> closed
//
// # Example
//
//	port, err := transport.Listen(transport.Config{Bind: "127.0.0.1:9000"})
//	...
//	defer port.Close()
//	gossip := memberlist.DefaultLANConfig()
//	gossip.Label = "snakes" // required
//	gossip.Transport = port
//	members, err := memberlist.Create(gossip)
//	...
//	err = server.Serve(port.Requests())
package transport
