// Package secret turns one secret, a line of text in a file, into all that protects the traffic between nodes:
// keys for gossip, and certificates by which two nodes prove each other that both have the secret.
//
// It leaves to others which traffic that is, when the file is read, and who may ask for what: it opens no connection
// and starts no goroutine.
//
// # Terms
//
//   - secret: a line of the file. Several lines are several accepted secrets, and the first is the used one. A [Set] is
//     the lines of one reading.
//   - identity: what one node shows, and accepts, in TLS between nodes. An [Identity] goes from one Set to the next
//     while connections come and go.
//
// # What is derived
//
// By HKDF-SHA256 from each secret, with the cluster's name in what is expanded, so that clusters that share a secret
// share no key:
//
//	secret ──extract──┬─expand "gossip"─> 32 bytes, for AES-256-GCM
//	                  └─expand "nodes" ─> the seed of an Ed25519 key, the cluster's certificate authority
//
// Each node makes itself certificates of that authority; nothing has to be handed out. A certificate has a key of its
// own, names the node id as the URI snakes:node:ID, holds for a day, and is made anew after a quarter of one. It is
// also good for the twelve hours before it was made, so that clocks may differ by so much: nodes with worse clocks find
// out that their clocks are wrong by other means, and have to be let in for it.
//
// # Invariants
//
//   - No secret, and nothing that is derived from one, is in an error, or in what fmt prints of a value of this package,
//     however deep it is buried.
//   - TLS between nodes is 1.3, has [Protocol], and both sides have shown a certificate that an accepted secret has
//     signed. A session is never resumed: a resumed one would be as good as the secrets of an earlier day.
//   - A connection counts only as long as the secret that signed the other side's certificate is accepted, see
//     [Identity.Peer].
//
// # When others misbehave
//
// A file that others than its owner can read is refused, with the command that mends it; so are secrets that are short
// enough to guess. What cannot be read never replaces what was read before; that is up to the caller of [Read].
//
// A node whose file is one step of a rotation behind is understood, since each of two nodes accepts the secret that the
// other uses. One that is two steps behind is not.
//
// Whoever has the secret is a node, and may read, write and remove everything. Whoever sees the traffic can try
// guesses, at home and in any number: a secret must be drawn, as [Generate] does, and not made up.
//
// # Example
//
//	secrets, err := secret.Read("secret.txt")
//	...
//	id, err := secret.NewIdentity(secrets, "snakes", nodeID, nil)
//	...
//	conn := tls.Server(tcp, id.Server())
package secret
