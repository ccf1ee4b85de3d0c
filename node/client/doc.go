// Package client speaks the HTTP API of snakes: keys, lists, watches, members and their events, backups, and what an
// operator tells nodes to do.
//
// It needs nothing but the standard library and leaves to others: the choice of servers (it asks those that it is given
// and no other members, but for Survey, which asks every member and shows each the token), how long to wait (each call
// ends with its context) and trying again after an error answer.
//
// Terms: a server is a base URL, of a node or of something that forwards to nodes; an answer is what came back over
// HTTP, whatever its status; a level says how many members take part (see Level).
//
// # Failover
//
// Every member serves every request, so a call that gets no answer from one server (the connection is refused, times
// out or ends before an answer) goes to the next one, and later calls begin at the server that answered last. So does
// one whose answer is that the node is not ready: it joins, catches up, stops, or its disk failed. After any other
// answer, even an error, nobody else is asked: a node that is ready speaks for the cluster.
//
// Writes go to the next server, too. A lost connection does not tell whether the write was done, and to do it again is
// allowed because the last update wins: the key ends with the same value or, for a delete, with none. But the second
// one is a new version, so that it also wins over what somebody else wrote in between.
//
// A watch goes on by itself, at the next server too: its marker holds anywhere. It ends when none has answered for
// Watch.Patience.
//
// A backup is from one server. What is restored goes to the next one if the connection is lost: to do it again changes
// nothing. A body that cannot be read again is sent once.
//
// # When things go wrong
//
// An error answer is an *Error and is one of the sentinels, such as ErrNotFound or ErrQuorum. When no server answers,
// the error is ErrUnreachable with the cause for each server; if the context ended first it is context.Canceled or
// context.DeadlineExceeded, too. A write that ended with either, or with an *Error whose Written is WrittenUnknown, may
// have been done and may be seen later.
//
// An answer that no node of snakes gives is ErrNotSnakes, never a value. Redirects are such answers; they are not
// followed. Answers are read up to Config.MaxValue, so that a server that never ends one costs no more than that.
//
//	c, err := client.New(client.Config{Servers: []string{"http://127.0.0.1:9000", "http://127.0.0.1:9001"}})
//	...
//	_, err = c.Put(ctx, "greeting", client.Value{Data: []byte("hello")}, client.Quorum)
//	value, _, err := c.Get(ctx, "greeting", client.Default)
//	if errors.Is(err, client.ErrNotFound) { ... }
package client
