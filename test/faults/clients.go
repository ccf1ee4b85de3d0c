package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/protocol7/snakes/replication/version"
	"github.com/protocol7/snakes/test/cluster"
)

const (
	// patience is how long a client waits for an answer before it goes on without.
	patience = 2 * time.Second
	// pause is what a client rests at most between two requests.
	pause = 4 * time.Millisecond
	// keysEach is how many keys there are of each setting, per round: so few that clients meet.
	keysEach = 6
	// onceEach is how many keys there are that are put before the fault, half of which are deleted during it; all are read only
	// after that, so that nodes forget the tombstones.
	onceEach = 8
	// plainEach is how many clients with the default levels each node has; one more has all settings.
	plainEach = 2
)

// clients are users of all nodes who write, delete and read the keys of one round and record what comes of it. Each stays with one
// node, so that those of others go on when it hangs.
type clients struct {
	history *history
	nodes   []endpoint
	round   string // what its keys begin with
	plain   string // letters of the settings of the plain clients, "d" but for tests of other ones
	mixed   string // letters of the settings of those clients that have several; one that is there twice is drawn twice as often
	seed    uint64
	end     context.CancelFunc
	work    sync.WaitGroup
}

// endpoint is a node as its clients see it.
type endpoint struct {
	url  string
	http *http.Client
}

func endpointOf(n *cluster.Node) endpoint {
	return endpoint{url: "http://" + n.Addr(), http: n.NewClient()}
}

// start has clients work until stop.
func (c *clients) start() {
	ctx, cancel := context.WithCancel(context.Background())
	c.end = cancel
	id := 0
	for node := range c.nodes {
		for i := range plainEach + 1 {
			client, letters := id, c.plain
			if i == plainEach {
				letters = c.mixed
			}
			c.work.Go(func() {
				random := rand.New(rand.NewPCG(c.seed, uint64(client)))
				for ctx.Err() == nil {
					letter := letters[random.IntN(len(letters))]
					c.one(client, node, settings[string(letter)], random)
					time.Sleep(time.Duration(random.Int64N(int64(pause))))
				}
			})
			id++
		}
	}
}

// prepare puts the keys that are written once.
func (c *clients) prepare() {
	for i := range onceEach {
		c.send(operation{Kind: put, Key: c.once(i), Node: i % len(c.nodes), Value: c.history.number()})
	}
}

// deleteOnce deletes half of these keys through nodes.
func (c *clients) deleteOnce(nodes []int) {
	for i := 1; i < onceEach && len(nodes) > 0; i += 2 {
		c.send(operation{Kind: remove, Key: c.once(i), Node: nodes[i%len(nodes)]})
	}
}

func (c *clients) once(i int) string { return fmt.Sprintf("%sonce%d", c.round, i) }

// bulk puts that many large values under keys of their own through a node.
func (c *clients) bulk(node, keys int) {
	for i := range keys {
		c.send(operation{Kind: put, Key: fmt.Sprintf("%sbulk%d", c.round, i), Node: node, Value: c.history.number()})
	}
}

// send does and records an operation with default levels that is not one of the usual ones.
func (c *clients) send(o operation) {
	o.Client, o.Setting, o.Start = -1, "d", c.history.now()
	method, body := http.MethodDelete, ""
	if o.Kind == put {
		method, body = http.MethodPut, valueOf(o.Key, o.Value, sizeOf(o.Key, o.Value))
	}
	a := c.nodes[o.Node].ask(method, "/"+o.Key, body, nil)
	o.End = c.history.now()
	a.settle(&o)
	c.history.record(o)
}

// stop waits until all requests have ended.
func (c *clients) stop() {
	c.end()
	c.work.Wait()
	for _, n := range c.nodes {
		n.http.CloseIdleConnections()
	}
}

// one sends one request and records it.
func (c *clients) one(client, node int, s setting, random *rand.Rand) {
	o := operation{
		Client: client, Node: node, Setting: s.letter,
		Key: fmt.Sprintf("%s%s%d", c.round, s.letter, random.IntN(keysEach)),
	}
	var method, query, body string
	var header http.Header
	switch n := random.IntN(40); {
	case n < 18:
		o.Kind, method, query = get, http.MethodGet, s.r
		if s.letter == "d" && n < 3 {
			o.Key = c.once(random.IntN(onceEach))
		}
	case n < 21:
		o.Kind, method, query = remove, http.MethodDelete, s.w
	default:
		o.Kind, method, query = put, http.MethodPut, s.w
		o.Value = c.history.number()
		body = valueOf(o.Key, o.Value, sizeOf(o.Key, o.Value))
		if n == 39 {
			query, header = misuse(random, query)
		}
	}
	o.Start = c.history.now()
	a := c.nodes[node].ask(method, "/"+o.Key+query, body, header)
	o.End = c.history.now()
	a.settle(&o)
	c.history.record(o)
}

// misuse makes something of a PUT that must be refused and never be seen.
func misuse(random *rand.Rand, query string) (string, http.Header) {
	switch random.IntN(4) {
	case 0:
		return "?w=0", nil
	case 1:
		return "?r=1", nil
	case 2:
		return "?w=1&w=1", nil
	}
	return query, http.Header{"If-Match": {`"1"`}}
}

// answer is what came back; err says why nothing did, or not all.
type answer struct {
	status  int
	version version.Version
	body    string
	err     error
	strange error // an answer that no node may give
}

func (e endpoint) ask(method, path, body string, header http.Header) (a answer) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, e.url+path, strings.NewReader(body))
	if err != nil {
		return answer{err: err}
	}
	for name, values := range header {
		request.Header[name] = values
	}
	response, err := e.http.Do(request)
	if err != nil {
		return answer{err: err}
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	a = answer{status: response.StatusCode, body: string(content), err: err}
	if tag := response.Header.Get("ETag"); tag != "" {
		a.version, a.strange = version.Parse(strings.Trim(tag, `"`))
	}
	return a
}

// settle fills in what an answer says of an operation.
func (a answer) settle(o *operation) {
	o.Status, o.Version, o.Outcome = a.status, a.version, unknown
	strange := a.strange
	switch {
	case a.err != nil && (o.Kind == get || a.status/100 != 2):
		o.Version = version.Version{} // no answer, or half of one
	case o.Kind == get && a.status == http.StatusOK:
		number, err := numberOf(o.Key, a.body)
		o.Outcome, o.Value, strange = done, number, errors.Join(strange, err)
	case o.Kind == get && a.status == http.StatusNotFound:
		o.Outcome = absent
	case o.Kind == put && a.status == http.StatusCreated, o.Kind == remove && a.status == http.StatusNoContent:
		o.Outcome = done
	case a.status/100 == 4, a.status == http.StatusNotImplemented:
		o.Outcome = refused
	case a.status == http.StatusServiceUnavailable || a.status == http.StatusInsufficientStorage:
		var problem cluster.Problem
		strange = errors.Join(strange, json.Unmarshal([]byte(a.body), &problem))
		if problem.Written == false {
			o.Outcome = refused
		}
	default:
		strange = errors.Join(strange, fmt.Errorf("answer %d %.200q", a.status, a.body))
	}
	if o.Outcome == done && o.Version.IsZero() {
		strange = errors.Join(strange, errors.New("no version"))
	}
	if strange != nil {
		o.Note = strange.Error()
	}
}
