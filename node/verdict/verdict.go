package verdict

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/protocol7/snakes/node/client"
)

// Word is a verdict in one word.
type Word string

// The words, from best to worst.
const (
	OK       Word = "OK"        // every member does its work
	Insecure Word = "INSECURE"  // so it is, but anybody can read and write everything
	Degraded Word = "DEGRADED"  // somebody is missing or ailing; reads and writes pass
	Split    Word = "SPLIT"     // members that run do not reach each other
	NoWrites Word = "NO WRITES" // no node that answers takes a write at the default level
)

var words = []Word{OK, Insecure, Degraded, Split, NoWrites}

// worse compares two words.
func worse(a, b Word) int { return cmp.Compare(slices.Index(words, a), slices.Index(words, b)) }

// Verdict is how a cluster is.
type Verdict struct {
	Word Word `json:"verdict"`
	// Sentence says in one or two sentences how the cluster is and whether reads and writes pass.
	Sentence string `json:"sentence"`
	// Problems are sorted from worst to least; those whose word is OK are worth knowing and change nothing.
	Problems []Problem `json:"problems"`
	// Sides are the names of the nodes on each side of a split, the sides that take writes first; none if there is no
	// split.
	Sides [][]string `json:"sides,omitempty"`
}

// Problem is one thing that is wrong.
type Problem struct {
	// Word is what this problem alone would make of the cluster.
	Word Word `json:"verdict"`
	// Node is the name of the member that it is about, empty if it is about several.
	Node string `json:"node,omitempty"`
	// What says what is wrong and Do what to do, each in a sentence. Command is the command line for that, or for
	// finding out more; where it is to be run on another machine, Do says so.
	What    string `json:"what"`
	Do      string `json:"do"`
	Command string `json:"command"`
}

// Of returns what views say together of their cluster at a time, which is now. It changes nothing and keeps nothing.
func Of(views []client.View, now time.Time) Verdict {
	c := newCluster(views, now)
	if len(c.answered) == 0 {
		return nobodyAnswers(views)
	}
	v := Verdict{Word: OK, Problems: []Problem{}}
	if sides := c.sides(); len(sides) > 1 {
		v.Sides = c.namesOf(sides)
		v.Problems = append(v.Problems, c.split(sides))
	} else {
		v.Problems = append(v.Problems, c.pairs()...)
	}
	v.Problems = append(v.Problems, c.problems()...)
	slices.SortStableFunc(v.Problems, func(a, b Problem) int { return worse(b.Word, a.Word) })
	if len(v.Problems) > 0 {
		v.Word = v.Problems[0].Word
	}
	v.Sentence = c.sentence(v)
	return v
}

// nobodyAnswers is the verdict if no node answered.
func nobodyAnswers(views []client.View) Verdict {
	v := Verdict{Word: NoWrites, Sentence: "No node answers.", Problems: []Problem{}}
	for _, view := range views {
		v.Problems = append(v.Problems, Problem{
			Word: NoWrites, What: fmt.Sprintf("%s gives no answer: %v.", view.Server, view.Err),
			Do: "See whether the node runs and can be reached from here.", Command: curl(view.Server, "/-/healthy"),
		})
	}
	return v
}

// sentence says how the cluster is, of which v has all but the sentence.
func (c *cluster) sentence(v Verdict) string {
	n := len(c.members())
	switch v.Word {
	case OK:
		return c.allWell() + " " + c.slack()
	case Insecure:
		return c.allWell() + " " + c.slack() + " Anybody who reaches them can read and write everything."
	case Split:
		return fmt.Sprintf("The members do not all reach each other: %s. %s", sidesText(v.Sides), c.writers())
	case NoWrites:
		if v.Sides != nil {
			return fmt.Sprintf("No node takes writes: the members do not all reach each other: %s.", sidesText(v.Sides))
		}
		return v.Problems[0].What
	}
	more := ""
	if others := count(v.Problems, Degraded) - 1; others > 0 {
		more = fmt.Sprintf(" (and %s)", plural(others, "other problem", "other problems"))
	}
	what := strings.TrimSuffix(v.Problems[0].What, ".")
	if n == 1 {
		return what + more + "."
	}
	return fmt.Sprintf("%s%s. Reads and writes go on. %s", what, more, c.slack())
}

func count(problems []Problem, word Word) (n int) {
	for _, p := range problems {
		if p.Word == word {
			n++
		}
	}
	return n
}

// allWell is the sentence for a cluster in which all is well.
func (c *cluster) allWell() string {
	switch n := len(c.members()); n {
	case 1:
		return "The only member is alive and takes reads and writes."
	case 2:
		return "Both members are alive and take reads and writes."
	default:
		return fmt.Sprintf("All %d members are alive and take reads and writes.", n)
	}
}

// slack says how many members more may be lost before writes end.
func (c *cluster) slack() string {
	v := c.best()
	spare := v.Alive - v.Quorum
	switch {
	case v.Known == 1:
		return "There is no other copy."
	case spare <= 0:
		return "The loss of one more would end writes."
	case v.Alive == v.Known:
		return fmt.Sprintf("Writes go on if %d of them %s.", spare, verb(spare, "fails", "fail"))
	}
	return fmt.Sprintf("Writes go on if %d more %s.", spare, verb(spare, "fails", "fail"))
}

// writers says where writes pass.
func (c *cluster) writers() string {
	var names []string
	for _, n := range c.answered {
		if n.view.Writable {
			names = append(names, n.name())
		}
	}
	return "Writes go on at " + list(names) + " only."
}

func sidesText(sides [][]string) string {
	var texts []string
	for _, side := range sides {
		texts = append(texts, list(side))
	}
	return strings.Join(texts, " | ")
}

// list returns "a", "a and b" or "a, b and c".
func list(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

func plural(n int, one, many string) string { return fmt.Sprintf("%d %s", n, verb(n, one, many)) }

func verb(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}
