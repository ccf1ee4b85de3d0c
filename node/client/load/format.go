package load

import (
	"bytes"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Op is what a load does with its keys.
type Op int

// The operations. Mix is 95 % Get and 5 % Put.
const (
	Put Op = iota
	Get
	Delete
	Mix
)

// String implements fmt.Stringer.
func (o Op) String() string {
	return [...]string{"PUT", "GET", "DELETE", "MIX"}[o]
}

// Message is one HTTP request. ContentType is for those with a Body.
type Message struct {
	Method, Target, ContentType string
	Body                        []byte
}

// Format is an API of key and value: it returns the request of an operation, which is not Mix. The key stands in Target
// as it is; value is for Put.
type Format func(op Op, key string, value []byte) Message

// Snakes is the API of snakes. read and write are levels, such as "1" or "quorum"; empty means the default one.
func Snakes(read, write string) Format {
	level := func(name, text string) string {
		if text == "" {
			return ""
		}
		return "?" + name + "=" + url.QueryEscape(text)
	}
	return func(op Op, key string, value []byte) Message {
		switch op {
		case Get:
			return Message{Method: http.MethodGet, Target: "/" + key + level("r", read)}
		case Delete:
			return Message{Method: http.MethodDelete, Target: "/" + key + level("w", write)}
		default:
			return Message{
				Method: http.MethodPut, Target: "/" + key + level("w", write),
				ContentType: "application/octet-stream", Body: value,
			}
		}
	}
}

// request is a request as it is sent. digits are the part of it where the number of the key stands.
type request struct {
	bytes, digits []byte
}

// newRequest lays out what message asks of server. message is for the key with number 0 under prefix.
func newRequest(server *url.URL, message Message, prefix, token string) request {
	var b bytes.Buffer
	b.Grow(512 + len(message.Body)) // there may be thousands of large ones
	b.WriteString(message.Method + " " + server.Path)
	at := b.Len() + strings.LastIndex(message.Target, KeyName(prefix, 0)) + len(prefix)
	b.WriteString(message.Target + " HTTP/1.1\r\nHost: " + server.Host + "\r\n")
	if token != "" {
		b.WriteString("Authorization: Bearer " + token + "\r\n")
	}
	if message.Body != nil {
		b.WriteString("Content-Type: " + message.ContentType + "\r\n" +
			"Content-Length: " + strconv.Itoa(len(message.Body)) + "\r\n")
	}
	b.WriteString("\r\n")
	b.Write(message.Body)
	return request{b.Bytes(), b.Bytes()[at : at+keyDigits]}
}
