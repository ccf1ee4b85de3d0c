package ui

import "time"

// State is all that the page shows. Whoever made it must not change it while it is rendered.
type State struct {
	// Self is the name of the node whose page it is, Address its HOST:PORT, Version its release.
	Self, Address, Version string
	Cluster                string
	Verdict                Verdict
	// Now is when all this was so.
	Now time.Time

	// Known, Alive, Quorum and Writable are what GET /-/members says.
	Known, Alive, Quorum int
	Writable             bool
	// Protected: there is a secret. Exposed: anybody on the network can take part.
	Protected, Exposed bool
	Keys               uint64
	Tombstones         uint64

	// Members are in the order in which they are shown.
	Members []Member
	// Views are what members see of each other, in the order of Members.
	Views   []View
	Events  []Event // the latest first
	Traffic []Sample
	// Options are what the commands of this page need besides what they do, such as a server.
	Options string
	// Actions are what the node can be told here.
	Actions []Action
}

// Action is something that an operator can do, here or by a command.
type Action struct {
	// Path is the last part of that of its page, empty if it has none; Title what its button says,
	// and Label the same so that it can be told from others without seeing where it is, or empty.
	Path, Title, Label string
	// Text says what it does; Command does the same.
	Text, Command string
}

// Verdict is how the cluster is.
type Verdict struct {
	// Word is one of those in Words; Sentence says what is so.
	Word, Sentence string
	// Problems are the worst first; those whose Word is "OK" are only worth knowing.
	Problems []Problem
}

// Problem is one thing that is wrong.
type Problem struct {
	// Word is what it alone would make of the cluster. What says what is wrong, Do what to do about
	// it, and Command is the command line for that.
	Word, What, Do, Command string
}

// Words are those for verdicts, from the best on.
var Words = []string{"OK", "INSECURE", "DEGRADED", "SPLIT", "NO WRITES"}

// Member is one row of the table of members.
type Member struct {
	ID, Name, Address, Version string
	// URL is where its own page is.
	URL string
	// State is what GET /-/members says, Progress how far one that catches up has got, or empty.
	State, Progress string
	Since           time.Time
	Itself          bool // it is the node whose page it is
	// Answered: it has answered this node, so that Keys and Behind mean something; Measured: so does
	// RTT; SkewKnown: so does Skew. Of the node itself only Keys does.
	Answered, Measured, SkewKnown bool
	RTT, Skew                     float64 // milliseconds
	Keys, Behind                  uint64
	Blocks                        uint64
	// Free and Size are the room on its disk in bytes; a Size of 0 means that it is not known.
	Free, Size uint64
	// Gone: it is not alive, so that it can be forgotten.
	Gone bool
}

// View is what one member sees of the others.
type View struct {
	ID, Name string
	// Unknown is why there is no view, or empty.
	Unknown string
	// Sights are in the order of State.Members.
	Sights []Sight
}

// Sight is what one member sees of another.
type Sight struct {
	// State is as in Member, empty if it does not know the other one.
	State  string
	RTT    float64 // milliseconds, 0: not known
	Itself bool
}

// Event is something that happened to the node.
type Event struct {
	Number uint64
	Time   time.Time
	// Level is info, warn or error.
	Level, Part, What string
	Facts             map[string]string
}

// Lookup is what the members have of one key.
type Lookup struct {
	// Key is what was asked for, empty if nothing was. Error says why there is no answer, or is
	// empty.
	Key, Error  string
	Winner, Why string
	Copies      []Copy
}

// Copy is what one member has of a key.
type Copy struct {
	Name string
	// State is present, absent, deleted, damaged or unreachable.
	State, Version string
	Size           int64
	Checksum       string
	Error          string
	// Wins: it has the version that a read of all would return.
	Wins bool
}
