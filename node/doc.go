// Package node is one running node: it wires disk, membership and replication together and
// serves their API over HTTP, to clients and to other nodes, on one port.
//
// What a write means is decided in package replication, who the members are in package
// membership, what is durable in package disk. This package parses, makes one call, answers.
//
// # Goroutines
//
// Run starts these and waits for them: the HTTP server on the request side of the transport,
// which has one per connection and ends by Shutdown; and, ending with a context, replication's
// Monitor, with one per member, its Syncer, Collector, Mender and Memory, the one that settles
// relics, the one that leaves the cluster, and the one that reads the secret, certificate and token files again, which wait
// for something to do, the one that samples what the page plots, and, if somebody supervises the process, the one that tells
// how the node is and the one that feeds the watchdog. Membership and
// transport have their own and end them in Stop and Close. Open starts the transport's alone.
// Each batch on its way to another node has one, which peers' Close ends, and each question for the page, which views' Close
// ends. While the node stops, a second server tells that to
// whoever comes on a new connection, see farewell.
// The order at the end is in shutdown; the Memory is saved after all that tell it something.
//
// # Beginning anew
//
// Serve is Run, and once more after the data of the node turned out not to count any more: it
// went back in time, or the node was removed from its cluster. The data is then set aside as the
// last step of the shutdown, and the node opens the same directory and port again. What was set
// aside is a relic; it is settled once the node is synced again, when what the node has seen
// tells which records of the relic nobody else has.
//
// # Draining
//
// A node that is drained, see Node.Drain, says so at GET /-/ready and to the other members, whose reads ask others first
// from then on. All else goes on: it is live, so that it gets what others write and counts for w=all, and whoever
// still sends requests to it gets answers, each with the end of its connection, so that whatever spreads connections
// over nodes opens the next one elsewhere. Watches end once, to go on at another node. It lasts until Undrain or the
// end of the process and is written nowhere: a node that is started is meant to serve. A stop drains first.
//
// # Leaving
//
// A node that leaves refuses writes first, so that what it has stands still; then waits until
// every live member has seen all of it; then is removed by agreement; and then Run ends. Until
// the agreement nothing has happened that a restart does not undo. If all others leave before it,
// it stays, and takes writes again.
//
// # HTTP
//
// All routes are in one function, (*api).routes. Keys have the top level for themselves;
// everything else is under /-/. The path is taken as it was sent: it is not cleaned, not
// decoded, and nobody is redirected, so that one key never has two spellings; but browsers that
// ask for / or /-/ are sent to the page.
//
// Departures from what HTTP allows, all on purpose: ranges are not served, a client gets the
// whole value; of the conditions on reads only If-None-Match is known, since times of one
// second cannot tell versions apart; conditions on writes are refused, not ignored.
//
// # The page
//
// Package ui renders the operators' page of what this package knows; package verdict says how the cluster is. What other
// members see is asked of them with the request between nodes "members", when somebody looks (views): each of them once
// at a time, and nobody waits for them for more than 25 ms. What came late is shown the next time. All open
// pages are told the same (frames), which one of them makes for all, so that nothing happens while there is none, but for
// a sample every 5 s of what was counted. Whatever a page does, a question comes before it, and it goes through
// guard like all else: a browser shows a token as a password, for the page alone.
//
// # Metrics
//
// Package metrics reads what the parts know of themselves when GET /-/metrics asks. What it cannot
// read later it is told at three places: when a request was answered (logRequest), when another
// node was asked (callAt), and when the journal was synced (disk.Config.Synced).
//
// # Who may ask
//
// Before its route a request passes guard: on loopback it must be for a name of this machine, so that
// no page of another site gets at the node through a browser; a browser must not have sent it for
// another site; and it must show a token for what it needs, if there are tokens, or come from this
// machine, if it changes the cluster. What is not known to need less needs the most. Paths between
// nodes have a guard of their own, see below.
//
// # Logs
//
// All loggers of a node are made of one that is quiet: a failure that repeats itself is written once
// and then with a count, and keys are written at debug alone. PUT /-/log-level changes the level of
// all of them, and of all nodes of the process that were given the same logger.
//
// # Errors
//
// One table, kinds, tells for each sort of error its status, its code, its title, and the
// detail for clients. An error that was made for the client (refuse) brings its own detail;
// that of others is never shown, since it may hold file paths. What the table does not know
// is a 500 with a bland text, and a line in the log under the same request id. Each kind also
// has a name by which it travels between nodes, where the same table is read backwards:
// errors.Is gives the same answer on both sides of a hop.
//
// # Streams
//
// A watch is an answer that goes on until its client leaves or the node stops. It keeps a seen set
// and nothing of what changes: the store is asked anew whenever something did, so that a slow
// reader costs no memory. One that takes nothing for ten seconds is cut off by a deadline of its
// connection. The end of the server ends the streams first, as they would not end by themselves.
//
// Events of the node are told the same way, from package events: the lines that its parts log, but
// for those about requests.
//
// # Backups
//
// A backup is read from the store as it is sent, and a restore written as it comes, batch by batch: both take the memory of
// some records, and go as fast as the slower side. A backup that cannot go on is cut, so that it lacks its trailer; package
// backup has the format. A reader that takes nothing for ten seconds is cut off.
//
// # Between nodes
//
// Requests under /-/peer/ are POSTs with the compact bodies that codec.go lists. Headers say
// who asks, for which cluster, and which node is meant; a node answers neither for another
// nor to one that was removed. The agreement on the roster alone is open to strangers, and
// membership decides what it tells them. Invariants:
//
//   - A request has an effect only at the node that it names, and an answer counts only if it
//     comes from that node.
//   - What the answering node knew of the roster when it had done what was asked is known here
//     before the caller sees the answer, be it an error or not. If it cannot be taken in, the
//     call fails.
//   - Timestamps in answers were shown to the clock when the caller sees them.
//   - With a secret, a request under /-/peer/ that did not come over TLS from the node that it says
//     it comes from gets 403 and nothing else, and none is sent to a node that has not proven to
//     be the one that is meant. See package secret for what that proof is.
//
// With a secret the port takes TLS from nodes, told by ALPN, and plain HTTP from clients; with a certificate for clients as well,
// their TLS and no plain HTTP. When the
// secret file was read again, requests go out on new connections, so that none lasts that was
// proven by a secret which is about to go; and what comes on a connection that was proven by one
// which is gone is refused.
//
// Writes and look-ups to one node share requests, a lane for each kind: what comes while a batch
// is on its way leaves with the next one, a lone call at once. DESIGN.md tells why it is like that, and
// what bounds it. More invariants:
//
//   - A look-up is answered by what the other node has after the look-up was begun, a write only once it is
//     durable there: calls share requests, never answers.
//   - Each call of a batch has its own outcome, and ends by its own context without harm to the others.
//   - What was not sent is told apart (replication.ErrNotSent) and is evidence against nobody.
//
// # Under a supervisor
//
// Config.Notify is told when the node is ready, how it is, that it reads files again and that it stops, see supervise. Ready
// means that it listens and has looked for the others once: whether it found any, GET /-/ready says. The watchdog is fed by
// progress alone: the journal has synced something, if need be a mark that means nothing, and membership has gone round. A disk that
// hangs starves it, one that fails does not.
//
// # When others misbehave
//
// A client that sends slowly: headers end after 10 s, a body of which less than 64 KiB, or than the rest, came in 10 s
// with 408. Clients that ask for more than can be done: 512 reads and as many writes of keys are under way, others
// wait for a second at most and are then refused with 503; so are bodies for which there is no room in memory. Requests of
// operators and of other nodes pass no gate. Too many connections: there are at most half as many as the process may have files
// open, 8,192 at most; then those that keep the node waiting longest, for headers, a body or the next request, make
// way for new ones, and if none does, what comes is refused with 503 but for vital requests. A client that takes nothing of an answer
// for half a minute is cut off. A client that sends too much, or to the wrong place: it gets its answer at once, and up
// to 64 MiB of the rest are thrown away for up to 2 s so that it can read it. A client
// that goes away while it sends: nothing is written. Lengths that are only claimed take no
// memory beyond 16 KiB, and four times what came after that.
//
// A peer that is gone, hangs, answers nonsense, is another node than the address promised or
// speaks another protocol: the call fails, with an error that says which of these; ctx bounds
// the wait. A peer that closed a connection on which it was idle costs nothing: all requests
// may be sent twice, so the transport sends them again. One that cannot prove who it is: the log
// says so once, with what may be the reason. Handshakes that fail at this end are logged at debug:
// anybody can begin them. A batch without an answer holds others back for a second and ends after
// 10. What is too much to wait for one node is refused at once, and catch-up brings it there later;
// no other node notices.
//
// A handler that panics: 500 and a line in the log, or, in the middle of an answer, an aborted
// connection.
//
// The end must come within the drain timeout, see shutdown: requests, writes, members or a disk
// that hang then are logged and left behind.
package node
