// Package verdict says in a sentence how a cluster is, and for each thing that is wrong what to do next.
//
// It is a pure function of what nodes say of their cluster: it asks nobody. Who is asked, and how, is left to
// client.Survey for the command line, and to whoever has only one node's view.
//
// Terms: a view is what one node says (client.View); a node that gave one has answered. Two nodes that answered are apart
// if each holds the other for failed, suspect or unknown; a side is a set of nodes that are not apart, be it by way of
// others. Who joins or catches up has not met everybody yet and is apart from nobody.
//
// Invariants: the word of a Verdict is the worst of its problems', and OK without any that is worse. Every problem comes
// with a command line that can be pasted; where nodes want a token, or have a certificate that the system does not know, its options
// (or SNAKES_TOKEN, SNAKES_CACERT) are the reader's to add. The order of the views changes nothing, unless none has an answer.
//
// When nodes disagree: what a node says of itself counts before what others say of it, and of those the one that has
// known it longest in its state. A node that gave no answer is missing only if one that did holds it for missing: from
// where the views were taken it may be out of reach while the others see it well.
//
// With one view alone no split can be told, and a node that others miss cannot be told from one that is fine; the rest
// holds.
//
//	views, err := c.Survey(ctx)
//	...
//	v := verdict.Of(views, time.Now())
//	fmt.Println(v.Word, v.Sentence)
package verdict
