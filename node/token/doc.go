// Package token tells what a client may do by the token that it shows.
//
// It leaves to others which request needs which role, and how a token travels. A file of tokens has a line for each:
//
//	read  2Wc5yDpYxSbcX8eA9rXcw3q1GZbYV0kq
//	admin M8hJ0iQ1vS7n4uFz6LkTtRxPp3aGdWeB
//
// A role may do what those before it may: read, write, admin. Several tokens may have one role, so that one can be
// replaced, or taken from one client alone.
//
// # Invariants
//
//   - Only hashes of tokens are kept, and nothing of a token is in an error or in what fmt prints.
//   - How long a look-up takes tells nothing about which tokens there are.
//
// # When others misbehave
//
// A file that others can read, that is empty, or that has a line which makes no sense is refused whole: half a file of
// tokens would keep some clients out and let others in.
//
// # Example
//
//	tokens, err := token.Load("tokens.txt")
//	...
//	if tokens.Role(shown) >= token.Write {
package token
