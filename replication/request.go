package replication

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/version"
)

// request is one client's request on its way through the replicas. It belongs to the goroutine
// that serves the client; the calls that it starts only send to replies.
type request struct {
	c    *Coordinator
	op   string
	read bool
	// hedges: it asks one more when a replica is late. hedge: one is.
	hedges, hedge bool

	level Level
	self  string
	// parts are the replicas that may be asked, ascending by id: all members, learners
	// included, as of the start. Who turns up later is not asked and does not count.
	parts []part
	// replies has room for one reply of each part. It is made for the first call.
	// Invariant: a part has at most one call under way, so that no sender ever waits.
	replies chan reply

	deadline time.Time
	timer    *time.Timer // fires at wake, once there is something to wait for
	wake     time.Time
}

// part is one replica's part in a request.
type part struct {
	id      string
	verdict verdict
	asked   time.Time // when the call under way started
	late    bool      // the call has been under way for hedgeAfter. Reads of keys alone.
	err     error     // why, if failed or silent
	// held is what it is known to hold of the key. Reads alone.
	held Meta
	// damaged: it holds a record of the key that it cannot read. Reads alone.
	damaged bool
}

func (p *part) fail(err error) { p.verdict, p.err = failed, err }

// reply is what came of a call to one replica.
type reply struct {
	id   string
	held Meta
	// record is what held is the meta data of, if the call brought it.
	record *Record
	// stretch is what a list is made of, of a call for one.
	stretch *Stretch
	// seen is what the replica had seen, of a call for a backup; nil if that is no more than this node.
	seen *seen.Set
	// outcomes are those of many records, of a call for a restore.
	outcomes []Outcome
	err      error
}

func (c *Coordinator) newRequest(op string, level Level) *request {
	view := c.cfg.Members.View()
	r := &request{
		c: c, op: op, read: op == opGet || op == opList || op == opBackup, hedges: op == opGet || op == opList,
		level: level, self: view.Self,
		parts: make([]part, len(view.Members)),
	}
	for i, m := range view.Members {
		r.parts[i].id = m.ID
	}
	return r
}

// The operations, as QuorumError and logs name them.
const (
	opPut    = "put"
	opDelete = "delete"
	opGet    = "get"
	opList   = "list"
	// opBackup and opRestore are requests for all keys.
	opBackup  = "backup"
	opRestore = "restore"
)

// quorum returns the rule as of now. It must be taken anew after every answer: an answer may
// have brought the news that the cluster has more members than a moment ago.
func (r *request) quorum() quorum {
	return quorum{view: r.c.cfg.Members.View(), level: r.level, read: r.read}
}

// part returns the part of a replica; of one that takes none, a part that belongs to nobody.
func (r *request) part(id string) *part {
	i, known := slices.BinarySearchFunc(r.parts, id, func(p part, id string) int {
		return strings.Compare(p.id, id)
	})
	if !known {
		return &part{id: id}
	}
	return &r.parts[i]
}

func (r *request) verdict(id string) verdict { return r.part(id).verdict }

// weigh returns how the request stands now.
func (r *request) weigh() outlook { return r.quorum().weigh(r.verdict) }

// chance returns how the request would stand if all were asked who can be.
func (r *request) chance() outlook {
	q := r.quorum()
	return q.weigh(r.hopes(q))
}

// hopes returns the verdicts as they would be if all were asked who can be.
func (r *request) hopes(q quorum) func(id string) verdict {
	return func(id string) verdict {
		v := r.verdict(id)
		if m, known := q.view.Member(id); v == unasked && known && q.usable(m) {
			return open
		}
		return v
	}
}

// start sets the deadline, counted from now.
func (r *request) start() { r.deadline = time.Now().Add(r.c.cfg.Timeout) }

// stop releases what wait holds. Calls under way go on.
func (r *request) stop() {
	if r.timer != nil {
		r.timer.Stop()
	}
}

// ask marks the part as asked and runs call in a goroutine of its own.
func (r *request) ask(p *part, call func(id string) reply) {
	p.verdict, p.asked, p.late, p.err = open, time.Now(), false, nil
	if r.replies == nil {
		r.replies = make(chan reply, len(r.parts))
	}
	id, replies := p.id, r.replies // the goroutine must not hold the request beyond its end
	r.c.running.Go(func() { replies <- call(id) })
}

var errDeadline = errors.New("deadline")

// wait returns the next reply and true, or false when replicas have turned silent instead. The
// error is errDeadline, or ctx's.
func (r *request) wait(ctx context.Context) (got reply, ok bool, err error) {
	r.arm()
	select {
	case got := <-r.replies:
		return got, true, nil
	case <-ctx.Done():
		return reply{}, false, ctx.Err()
	case <-r.timer.C:
	}
	now := time.Now()
	if !now.Before(r.deadline) {
		return reply{}, false, errDeadline
	}
	for i := range r.parts {
		p := &r.parts[i]
		if r.hedges && p.verdict == open && !p.late && now.Sub(p.asked) >= hedgeAfter {
			p.late, r.hedge = true, true
			r.c.latecomers.Store(p.id, now)
		}
		if p.verdict == open && now.Sub(p.asked) >= r.c.cfg.Silence {
			p.verdict, p.err = silent, errSilent
			if p.id != r.self && r.c.cfg.Peers.Silent(p.id, p.asked) {
				r.c.cfg.Members.Failed(p.id, p.asked, errSilent)
			}
		}
	}
	return reply{}, false, nil
}

// awaits reports whether there are parts that are expected to answer.
func (r *request) awaits() bool {
	return slices.ContainsFunc(r.parts, func(p part) bool { return p.verdict == open })
}

// arm sets the timer to when the first part turns late or silent, or else the deadline.
func (r *request) arm() {
	wake := r.deadline
	for i := range r.parts {
		if p := &r.parts[i]; p.verdict == open {
			turns := p.asked.Add(r.c.cfg.Silence)
			if r.hedges && !p.late {
				turns = p.asked.Add(min(hedgeAfter, r.c.cfg.Silence))
			}
			if turns.Before(wake) {
				wake = turns
			}
		}
	}
	switch {
	case r.timer == nil:
		r.timer = time.NewTimer(time.Until(wake))
	case !wake.Equal(r.wake):
		r.timer.Reset(time.Until(wake))
	}
	r.wake = wake
}

// receipt returns who took part so far.
func (r *request) receipt(v version.Version) Receipt {
	q := r.quorum()
	roster := q.rosters()[0]
	receipt := Receipt{Version: v, N: len(roster)}
	for _, id := range roster {
		verdict := r.verdict(id)
		if verdict == acked {
			receipt.Acks++
			continue
		}
		m, _ := q.view.Member(id)
		if !m.Live || verdict == failed || verdict == silent {
			receipt.Missing = append(receipt.Missing, nameOf(q.view, id))
		}
	}
	slices.Sort(receipt.Missing)
	return receipt
}

// missed returns the error for a level that was not met. written is empty for reads, why is
// nil or the error of the client's context.
func (r *request) missed(written Written, why error) *QuorumError {
	q := r.quorum()
	var in tally // the roster where the request stands worst
	for i, roster := range q.rosters() {
		if t := q.tally(roster, r.hopes(q)); i == 0 || t.outlook() < in.outlook() {
			in = t
		}
	}
	e := &QuorumError{
		Op: r.op, Need: in.need, Alive: in.alive, Known: in.known, Acks: in.acks,
		Written: written, Receipt: r.receipt(version.Version{}), Err: why,
	}
	for _, p := range r.parts {
		if p.err != nil {
			e.Causes = append(e.Causes, Cause{ID: p.id, Name: nameOf(q.view, p.id), Self: p.id == r.self, Err: p.err})
		}
	}
	return e
}

// nameOf returns what to call a node: its id if it has told no name yet.
func nameOf(view *View, id string) string {
	m, _ := view.Member(id)
	return cmp.Or(m.Name, id)
}
