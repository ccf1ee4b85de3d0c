package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"unicode"
)

// Errors that all methods of Client may return, for errors.Is. All but ErrUnreachable come with an *Error if a server
// answered.
var (
	// ErrBadRequest: the key or the level is none. Nothing was done.
	ErrBadRequest = errors.New("bad request")
	// ErrNotFound: there is no value under the key.
	ErrNotFound = errors.New("not found")
	// ErrPrecondition: a condition of the request does not hold. Nothing was done.
	ErrPrecondition = errors.New("precondition failed")
	// ErrTooLarge: the value is larger than the node takes, or than Config.MaxValue for a value to read.
	ErrTooLarge = errors.New("too large")
	// ErrQuorum: fewer members took part than the level needs. Error.Written says what became of a write.
	ErrQuorum = errors.New("quorum not met")
	// ErrNotReady: the node has not joined, is stopping or overloaded, or its disk is broken. Another one may do.
	ErrNotReady = errors.New("not ready")
	// ErrDiskFull: the node's disk has no room. It may still read and delete.
	ErrDiskFull = errors.New("disk full")
	// ErrUnreachable: no server gave an answer. A write may have been done; if so, the text says it.
	ErrUnreachable = errors.New("no server answered")
	// ErrNotSnakes: the answer is none that a node of snakes gives.
	ErrNotSnakes = errors.New("the answer is not from a snakes node")
)

// notReady is the code of a node that joins, catches up or stops, or whose disk failed.
const notReady = "not-ready"

// sentinels are what the codes of error answers stand for. Other codes are known by Error.Code alone.
var sentinels = map[string]error{
	"":                    ErrNotSnakes,
	"bad-key":             ErrBadRequest,
	"bad-parameter":       ErrBadRequest,
	"bad-header":          ErrBadRequest,
	"not-found":           ErrNotFound,
	"precondition-failed": ErrPrecondition,
	"too-large":           ErrTooLarge,
	"quorum":              ErrQuorum,
	notReady:              ErrNotReady,
	"overloaded":          ErrNotReady,
	"disk-full":           ErrDiskFull,
}

// Written says what became of a write that was answered with an error.
type Written string

// The values of Written; it is empty where nothing is known of a write.
const (
	WrittenNo      Written = "no"      // on no member
	WrittenUnknown Written = "unknown" // maybe on some: it may be seen later
)

// Error is an error answer. The texts are fit for a terminal.
type Error struct {
	// Status is the HTTP status.
	Status int
	// Code is what went wrong in one stable word, such as "quorum"; empty if the answer is none that a node gives.
	Code string
	// Title and Detail are for people.
	Title, Detail string
	// Node is the name of the node that answered, RequestID finds the request in its log.
	Node, RequestID string
	// Need, Alive, Known and Acks are set if Code is "quorum": the members that the level needs, those that are alive,
	// those that should exist and those that took part.
	Need, Alive, Known, Acks int
	// Written is set for writes if Code is "quorum".
	Written Written
	// Body is the answer's body as it came, 64 KiB at most.
	Body []byte
}

// Error returns what happened, what to do next, and who says so.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(strings.ToLower(e.Title))
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	switch {
	case e.Code == "":
		fmt.Fprintf(&b, " (status %d; %v)", e.Status, ErrNotSnakes)
	case e.RequestID != "":
		fmt.Fprintf(&b, " (node %s, request %s)", e.Node, e.RequestID)
	}
	return b.String()
}

// Is reports whether target is the sentinel that the code stands for.
func (e *Error) Is(target error) bool {
	sentinel, known := sentinels[e.Code]
	return known && target == sentinel
}

const (
	// maxProblem is how much is read of an error answer; those of a node have some hundred bytes.
	maxProblem = 64 << 10
	// maxWords is how much is shown of an error answer that is none of a node.
	maxWords = 200
)

// problemPrefix is what the type of all error answers begins with.
const problemPrefix = "urn:snakes:error:"

// problem is the body of an error answer, RFC 9457.
type problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Detail    string `json:"detail"`
	Node      string `json:"node"`
	RequestID string `json:"request_id"`
	Need      int    `json:"need"`
	Alive     int    `json:"alive"`
	Known     int    `json:"known"`
	Acks      int    `json:"acks"`
	Written   any    `json:"written"` // false or "unknown"
}

// errorOf returns the error that an answer stands for.
func errorOf(status int, contentType string, body []byte) *Error {
	mediaType, _, err := mime.ParseMediaType(contentType)
	var p problem
	if err == nil && mediaType == "application/problem+json" && json.Unmarshal(body, &p) == nil {
		if code, found := strings.CutPrefix(p.Type, problemPrefix); found && code != "" {
			e := &Error{
				Status: status, Code: words(code), Title: words(p.Title), Detail: words(p.Detail),
				Node: words(p.Node), RequestID: words(p.RequestID),
				Need: p.Need, Alive: p.Alive, Known: p.Known, Acks: p.Acks, Body: body,
			}
			switch p.Written {
			case false:
				e.Written = WrittenNo
			case string(WrittenUnknown):
				e.Written = WrittenUnknown
			}
			return e
		}
	}
	e := &Error{Status: status, Title: http.StatusText(status), Body: body}
	if e.Title == "" {
		e.Title = "unknown status"
	}
	if strings.HasPrefix(mediaType, "text/plain") { // pages for browsers say little in their first lines
		e.Detail = words(string(body[:min(len(body), maxWords)]))
	}
	return e
}

// words returns what can be shown of text that anybody may have sent: nothing that controls a terminal.
func words(text string) string {
	return strings.TrimSpace(strings.Map(func(c rune) rune {
		switch {
		case unicode.IsSpace(c):
			return ' '
		case !unicode.IsPrint(c) || c == unicode.ReplacementChar:
			return -1
		}
		return c
	}, text))
}
