package cluster

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"
)

// requestDeadline ends a request that a node never answers; beyond any wait that the contract allows.
const requestDeadline = 15 * time.Second

// Response is a node's answer, or the reason why there was none.
type Response struct {
	Status int // 0 when there was no answer
	Header http.Header
	Body   string
	Took   time.Duration // from the call to the end of the body, connecting included
	Err    error         // why there was no answer

	asked string // node, method and path, for messages
}

// newClient makes a client that opens a connection for every request, as curl does, follows no redirects and takes no
// proxy from the environment.
func newClient(ns *namespace) *http.Client {
	return &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true, DialContext: ns.dial},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       requestDeadline,
	}
}

// NewClient makes a client for this node that keeps its connections, for load. Its owner sets deadlines by contexts and
// closes what is idle in the end.
func (n *Node) NewClient() *http.Client {
	c := newClient(n.namespace)
	c.Timeout = 0
	t := c.Transport.(*http.Transport)
	t.DisableKeepAlives, t.MaxIdleConnsPerHost = false, 64
	return c
}

// Put writes value under key, which may carry a query: "foo?w=2".
func (n *Node) Put(key, value string) Response { return n.Do(http.MethodPut, "/"+key, value) }

// Get reads key, which may carry a query.
func (n *Node) Get(key string) Response { return n.Do(http.MethodGet, "/"+key, "") }

// Delete deletes key, which may carry a query.
func (n *Node) Delete(key string) Response { return n.Do(http.MethodDelete, "/"+key, "") }

// Do sends one request. headers are lines of the form "Name: value". Safe for concurrent use.
func (n *Node) Do(method, pathAndQuery, body string, headers ...string) Response {
	req, err := http.NewRequest(method, "http://"+n.Addr()+pathAndQuery, strings.NewReader(body))
	if err != nil {
		return Response{Err: err, asked: n.String()}
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ":")
		req.Header.Set(name, strings.TrimSpace(value))
	}
	return n.Send(req)
}

// Send sends a request that the caller has made for this node's address; only its answer is read here. Safe for
// concurrent use.
func (n *Node) Send(req *http.Request) Response {
	start := time.Now()
	r := Response{asked: fmt.Sprintf("%s: %s %s", n, req.Method, req.URL.RequestURI())}
	answer, err := n.client.Do(req)
	if err != nil {
		r.Err, r.Took = err, time.Since(start)
		return r
	}
	r.read(answer, start)
	return r
}

// SendRaw sends text as it stands on a new connection, with CRLF for each newline, and reads one answer. It is for what
// net/http would not send. Safe for concurrent use.
func (n *Node) SendRaw(text string) Response {
	line, _, _ := strings.Cut(text, "\n")
	r := Response{asked: fmt.Sprintf("%s: %s", n, line)}
	start := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), requestDeadline)
	defer cancel()
	conn, err := n.namespace.dial(ctx, "tcp", n.Addr())
	if err != nil {
		r.Err = err
		return r
	}
	defer conn.Close()
	_, writeErr := io.WriteString(conn, strings.ReplaceAll(text, "\n", "\r\n"))
	deadlineErr := conn.SetReadDeadline(start.Add(requestDeadline))
	method, _, _ := strings.Cut(line, " ")
	answer, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		// A node may refuse before it has read all: a write error counts only when there is no answer either.
		r.Err = errors.Join(writeErr, deadlineErr, err)
		return r
	}
	r.read(answer, start)
	return r
}

func (r *Response) read(answer *http.Response, start time.Time) {
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	r.Status, r.Header, r.Body, r.Took = answer.StatusCode, answer.Header, string(body), time.Since(start)
	if err != nil {
		r.Err = fmt.Errorf("read the answer %d: %w", answer.StatusCode, err)
	}
}

// String describes question and answer in one line.
func (r Response) String() string {
	took := r.Took.Round(time.Millisecond)
	if r.Err != nil {
		return fmt.Sprintf("%s: no answer after %v: %v", r.asked, took, r.Err)
	}
	body := r.Body
	if len(body) > 300 {
		body = body[:300] + "..."
	}
	return fmt.Sprintf("%s: %d %q after %v", r.asked, r.Status, body, took)
}

// Expect returns nil when the answer has this status and, if a body is given, exactly that body.
func (r Response) Expect(status int, body ...string) error {
	if r.Err != nil || r.Status != status {
		return fmt.Errorf("%s, want %d", r, status)
	}
	if len(body) > 0 && r.Body != body[0] {
		return fmt.Errorf("%s, want the body %q", r, body[0])
	}
	return nil
}

// Problem is the body of an error, CONTRACT section 5.
type Problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail"`
	Node      string `json:"node"`
	RequestID string `json:"request_id"`

	// Of quorum errors only. Written is false or "unknown".
	Need    *int `json:"need"`
	Alive   *int `json:"alive"`
	Known   *int `json:"known"`
	Acks    *int `json:"acks"`
	Written any  `json:"written"`
}

// ExpectProblem returns nil when the answer is a well-formed problem with this status and one of these codes, and the
// decoded problem, zero when there is none.
func (r Response) ExpectProblem(status int, codes ...string) (Problem, error) {
	if err := r.Expect(status); err != nil {
		return Problem{}, err
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/problem+json" {
		return Problem{}, fmt.Errorf("%s: Content-Type %q, want application/problem+json", r, r.Header.Get("Content-Type"))
	}
	if strings.Count(r.Body, "\n") != 1 || !strings.HasSuffix(r.Body, "\n") {
		return Problem{}, fmt.Errorf("%s, want one line and a newline", r)
	}
	var p Problem
	if err := json.Unmarshal([]byte(r.Body), &p); err != nil {
		return Problem{}, fmt.Errorf("%s: %w", r, err)
	}
	if p.Status != status || p.Title == "" || p.Detail == "" || p.Node == "" || p.RequestID == "" {
		return p, fmt.Errorf("%s, want status %d and title, detail, node and request_id", r, status)
	}
	for _, code := range codes {
		if p.Type == "urn:snakes:error:"+code {
			return p, nil
		}
	}
	return p, fmt.Errorf("%s, want type urn:snakes:error: and one of %v", r, codes)
}

// Members is the answer of /-/members, CONTRACT section 4.
type Members struct {
	Cluster  string `json:"cluster"`
	Self     string `json:"self"`
	Known    int    `json:"known"`
	Alive    int    `json:"alive"`
	Quorum   int    `json:"quorum"`
	Writable bool   `json:"writable"`
	// Tombstones are those of the node that answers.
	Tombstones int      `json:"tombstones"`
	Members    []Member `json:"members"`
}

// Member is one member as another sees it.
type Member struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Address   string    `json:"address"`
	State     string    `json:"state"`
	Version   string    `json:"version"`
	Since     time.Time `json:"since"`
	RTT       float64   `json:"rtt_ms"`
	ClockSkew float64   `json:"clock_skew_ms"`
	Keys      int       `json:"keys"`
	Behind    int       `json:"behind"`
	Synced    bool      `json:"synced"`
	// Blocks is how many tombstones of the node that answers wait for this member.
	Blocks int `json:"blocks"`
	// Progress is that of a member that catches up, nil if it does not.
	Progress *Progress `json:"progress"`
}

// Progress is how far a node that catches up has got, in keys.
type Progress struct {
	Pulled  int `json:"pulled"`
	Offered int `json:"offered"`
}

// Find returns the member that is node n: by its name or, when it was given none, by its address.
func (m Members) Find(n *Node) (Member, bool) {
	for _, member := range m.Members {
		if n.Name != "" && member.Name == n.Name || n.Name == "" && member.Address == n.Addr() {
			return member, true
		}
	}
	return Member{}, false
}

// Me returns the member that answered.
func (m Members) Me() (Member, bool) {
	for _, member := range m.Members {
		if member.Name == m.Self {
			return member, true
		}
	}
	return Member{}, false
}

// String lists the members and their states in one line.
func (m Members) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "known=%d alive=%d writable=%t tombstones=%d", m.Known, m.Alive, m.Writable, m.Tombstones)
	for _, member := range m.Members {
		fmt.Fprintf(&b, " %s@%s=%s", member.Name, member.Address, member.State)
		if member.Blocks > 0 {
			fmt.Fprintf(&b, "(blocks %d)", member.Blocks)
		}
		if !member.Synced {
			b.WriteString("(not synced)")
		}
	}
	return b.String()
}

// Members asks the node who is in its cluster.
func (n *Node) Members() (Members, error) {
	var m Members
	err := n.getJSON("/-/members", &m)
	return m, err
}

// Digest is the answer of /-/digest, CONTRACT section 3.
type Digest struct {
	Digest string            `json:"digest"`
	Keys   int               `json:"keys"`
	Seen   map[string]string `json:"seen"`
}

// Digest asks the node for the digest of its live keys.
func (n *Node) Digest() (Digest, error) {
	var d Digest
	err := n.getJSON("/-/digest", &d)
	return d, err
}

func (n *Node) getJSON(path string, into any) error {
	r := n.Do(http.MethodGet, path, "")
	if err := r.Expect(http.StatusOK); err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(r.Body), into); err != nil {
		return fmt.Errorf("%s: %w", r, err)
	}
	return nil
}
