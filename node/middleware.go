package node

import (
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/gorilla/mux"
	"github.com/hashicorp/go-hclog"
)

// response is an http.ResponseWriter that remembers what the request log and error answers
// need to know.
type response struct {
	http.ResponseWriter
	id     string
	status int // 0 until the header is sent
	bytes  int64
	quiet  bool     // log a 5xx, and a slow one, like any other answer
	err    error    // what an error answer stands for
	conn   *inbound // nil in tests of handlers
	// held is what the request takes of the room in heldIn, nil if nothing.
	held   int64
	heldIn *gate
	// values are those of the headers that set was called for, up to as many as answers have
	// that bring a value.
	values [10]string
	used   int
}

// set sets a header of the answer. name is in canonical form. It is http.Header.Set without an
// allocation for each.
func (w *response) set(name, value string) {
	if w.used == len(w.values) {
		w.Header()[name] = []string{value}
		return
	}
	of := w.values[w.used : w.used+1 : w.used+1]
	of[0] = value
	w.used++
	w.Header()[name] = of
}

// WriteHeader implements http.ResponseWriter.
func (w *response) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *response) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// slow is how long a request may take that is not worth a warning.
const slow = time.Second

// handler answers a request, or returns an error before anything was answered.
type handler func(w *response, r *http.Request) error

// serve makes h an http.Handler for use below ServeHTTP.
func (a *api) serve(h handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w := rw.(*response) // by ServeHTTP, around all that mux calls
		if err := h(w, r); err != nil {
			a.fail(w, r, err)
		}
	})
}

// ServeHTTP answers one request: everything goes through here, unknown paths and methods too,
// which mux's own middleware would miss.
func (a *api) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	a.respond(rw, r, a.handle)
}

// respond has h answer r, and looks after everything around that.
func (a *api) respond(rw http.ResponseWriter, r *http.Request, h handler) {
	w := &response{ResponseWriter: rw, id: requestID(r.Header)}
	defer a.finish(w, r, time.Now())
	if r.ContentLength != 0 {
		w.extendReadDeadline() // for bodies that nobody asks for, too
	}
	w.set("X-Request-Id", w.id)
	w.set("Snakes-Node", a.Name)
	// Without this, caches may serve what has a Last-Modified without asking again.
	w.set("Cache-Control", "no-cache")
	if a.Drained() && !isPeerPath(r) {
		w.set("Connection", "close") // whoever spreads connections over nodes opens the next one elsewhere
	}
	w.conn, _ = r.Context().Value(inboundKey{}).(*inbound)
	if err := h(w, r); err != nil {
		a.fail(w, r, err)
	}
}

// handle answers a request that may pass, by its route.
func (a *api) handle(w *response, r *http.Request) error {
	if err := w.conn.admit(w, r); err != nil {
		return err
	}
	if err := a.guard(w, r); err != nil {
		return err
	}
	a.route(w, r)
	return nil
}

// route calls the handler that the router has for r. Handlers take names from the path as it was
// sent, so that they need no copy of r with what mux found out about it: that would cost several
// times as much as finding the route.
func (a *api) route(w *response, r *http.Request) {
	var match mux.RouteMatch
	a.router.Match(r, &match) // something always does: see routes for unknown paths and methods
	match.Handler.ServeHTTP(w, r)
}

// finish turns a panic into an answer and logs the request.
func (a *api) finish(w *response, r *http.Request, started time.Time) {
	defer a.logRequest(w, r, started)
	w.letGo()
	switch p := recover(); {
	case p == nil:
	case p == http.ErrAbortHandler:
		panic(p)
	default:
		a.Log.Error("panic in handler", "panic", p, "request_id", w.id, "stack", string(debug.Stack()))
		if w.status != 0 {
			panic(http.ErrAbortHandler) // half an answer: cut it so that nobody takes it for whole
		}
		a.fail(w, r, errInternal)
	}
}

func (a *api) logRequest(w *response, r *http.Request, started time.Time) {
	took := time.Since(started)
	a.requests.Observe(r.Method, rawPath(r), w.status, took)
	level := hclog.Debug
	switch {
	case w.status == http.StatusInternalServerError:
		level = hclog.Error
	case w.quiet:
	case w.status > http.StatusInternalServerError, took > slow && a.slow.admit(started):
		level = hclog.Warn
	}
	if !logs(a.Log, level) {
		return
	}
	facts := []any{
		"method", r.Method, "status", w.status, "bytes", w.bytes,
		"duration", took, "request_id", w.id,
	}
	if a.Log.IsDebug() { // keys are the users' business
		facts = append(facts, "path", rawPath(r))
	}
	if w.err != nil {
		facts = append(facts, "error", w.err)
	}
	a.Log.Log(level, "request", facts...)
}

// maxSlowLines is how many requests are logged in a second for no more than having been slow: under load all are.
const maxSlowLines = 10

// lineRate bounds the number of lines in a second. Safe for concurrent use.
type lineRate struct{ second, written atomic.Int64 }

// admit reports whether one more line may be written at the time now. Two who come at the end of a second may both be counted to it.
func (l *lineRate) admit(now time.Time) bool {
	if second := now.Unix(); l.second.Swap(second) != second {
		l.written.Store(0)
	}
	return l.written.Add(1) <= maxSlowLines
}

// logs reports whether log writes lines of level, which is Debug, Warn or Error.
func logs(log hclog.Logger, level hclog.Level) bool {
	switch level {
	case hclog.Debug:
		return log.IsDebug()
	case hclog.Warn:
		return log.IsWarn()
	default:
		return log.IsError()
	}
}

// requestID returns the request id that the client sent, if it is fit for logs, or a new one.
func requestID(h http.Header) string {
	if ids := h["X-Request-Id"]; len(ids) == 1 && saneID(ids[0]) {
		return ids[0]
	}
	return strconv.FormatUint(rand.Uint64()|1<<63, 16)
}

func saneID(id string) bool {
	if len(id) == 0 || len(id) > 128 {
		return false
	}
	for _, c := range []byte(id) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.', c == ':', c == '/', c == '+', c == '=':
		default:
			return false
		}
	}
	return true
}
