package node

import (
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/version"
)

const (
	// plainText is the content type of values that were put without one.
	plainText = "text/plain; charset=utf-8"
	// formType is what clients say who were told of no content type.
	formType = "application/x-www-form-urlencoded"
	// maxContentType is the length of the longest content type.
	maxContentType = 255
)

func (a *api) put(w *response, r *http.Request) error {
	key, level, err := keyAndLevel(r, "w")
	if err != nil {
		return err
	}
	if err := unconditional(r.Header); err != nil {
		return err
	}
	if err := wholeAndPlain(r.Header); err != nil {
		return err
	}
	contentType, err := contentTypeOf(r.Header)
	if err != nil {
		return err
	}
	value, err := w.body(r, a.MaxValue, a.sent)
	if err != nil {
		return err
	}
	receipt, err := a.Coordinator.Put(r.Context(), key, value, contentType, level)
	w.receipt(receipt)
	if err != nil {
		return err // it says by itself what failed
	}
	w.version(receipt.Version)
	w.set("Content-Length", "0")
	w.WriteHeader(http.StatusCreated)
	return nil
}

func (a *api) delete(w *response, r *http.Request) error {
	key, level, err := keyAndLevel(r, "w")
	if err != nil {
		return err
	}
	if err := unconditional(r.Header); err != nil {
		return err
	}
	receipt, err := a.Coordinator.Delete(r.Context(), key, level)
	w.receipt(receipt)
	if err != nil {
		return err // it says by itself what failed
	}
	w.version(receipt.Version)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// get serves HEAD, too. Of the conditions it knows If-None-Match alone: times of one second
// cannot tell versions apart. Ranges are not served; a client gets the whole value instead.
func (a *api) get(w *response, r *http.Request) error {
	key, level, err := keyAndLevel(r, "r")
	if err != nil {
		return err
	}
	record, receipt, err := a.read(w, r, key, level)
	w.receipt(receipt)
	if err != nil {
		return err // it says by itself what failed
	}
	tag := w.version(record.Version)
	if matchesETag(r.Header["If-None-Match"], tag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	w.set("Content-Type", record.ContentType)
	w.set("Content-Length", strconv.Itoa(len(record.Value)))
	// Anybody may have put this value: a browser must not run it as a page of this node.
	w.set("X-Content-Type-Options", "nosniff")
	w.set("Content-Security-Policy", "sandbox")
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(record.Value) // a client that is gone needs no answer
	}
	return nil
}

// read gets the record of key and takes the room that its value needs until it is shown. It gives up its place among the reads
// under way only then: else those that wait for room, as many as there are connections, would each have a value already.
func (a *api) read(w *response, r *http.Request, key string, level replication.Level) (replication.Record, replication.Receipt, error) {
	if err := a.reads.enter(r.Context(), 1); err != nil {
		return replication.Record{}, replication.Receipt{}, err
	}
	defer a.reads.leave(1)
	record, receipt, err := a.Coordinator.Get(r.Context(), key, level)
	if err == nil && len(record.Value) > firstBuffer && r.Method != http.MethodHead {
		err = w.hold(r.Context(), a.shown, int64(len(record.Value)))
	}
	return record, receipt, err
}

func keyAndLevel(r *http.Request, parameter string) (string, replication.Level, error) {
	key, err := rawKey(r, "/")
	if err != nil {
		return "", replication.LevelDefault, err
	}
	if level, plain := plainLevel(r.URL.RawQuery, parameter); plain {
		return key, level, nil
	}
	given, err := parameters(r, parameter)
	if err != nil {
		return "", replication.LevelDefault, err
	}
	level, err := levelIn(given, parameter)
	return key, level, err
}

// plainLevel reads the queries that nearly all requests have: none, or one level in plain text.
// All others are for parameters to read, and to say what is wrong with them.
func plainLevel(query, parameter string) (level replication.Level, plain bool) {
	if query == "" {
		return replication.LevelDefault, true
	}
	name, text, _ := strings.Cut(query, "=")
	if name != parameter {
		return replication.LevelDefault, false
	}
	level, err := replication.ParseLevel(text)
	return level, err == nil
}

// levelIn returns the level that a parameter among those given says, or the default.
func levelIn(given map[string]string, parameter string) (replication.Level, error) {
	text, present := given[parameter]
	if !present {
		return replication.LevelDefault, nil
	}
	level, err := replication.ParseLevel(text)
	if err != nil {
		return replication.LevelDefault, refuse(errBadParameter,
			"%s is one, quorum, all or a number of 1 to 9 digits from 1 on, not %q.", parameter, shortened(text))
	}
	return level, nil
}

// parameters returns the query parameters of r. All of them must be among known and none may
// be repeated: a typing error in a level must not pass for the default.
func parameters(r *http.Request, known ...string) (map[string]string, error) {
	if r.URL.RawQuery == "" {
		return nil, nil
	}
	given := make(map[string]string)
	for pair := range strings.SplitSeq(r.URL.RawQuery, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, nameErr := url.QueryUnescape(name)
		value, valueErr := url.QueryUnescape(value)
		if nameErr != nil || valueErr != nil {
			return nil, refuse(errBadParameter, "The query has an escape that makes no sense.")
		}
		if _, repeated := given[name]; repeated {
			return nil, refuse(errBadParameter, "The parameter %q is there twice.", shortened(name))
		}
		if !slices.Contains(known, name) {
			return nil, refuse(errBadParameter, "There is no parameter %q for %s here%s.", shortened(name), r.Method, knownHint(known))
		}
		given[name] = value
	}
	return given, nil
}

func knownHint(known []string) string {
	if len(known) == 0 {
		return ""
	}
	return "; there is " + strings.Join(known, ", ")
}

// shortened returns the beginning of what a client sent, for showing it back.
func shortened(s string) string {
	if len(s) > 40 {
		return s[:40] + "..."
	}
	return s
}

// unconditional refuses the conditions of h. They would have to be checked by all replicas in
// one step with the write; a check before it would be a promise that does not hold.
func unconditional(h http.Header) error {
	for _, name := range []string{"If-Match", "If-None-Match", "If-Unmodified-Since"} {
		if _, present := h[name]; present {
			return refuse(errUnsupported, "%s is not supported on writes, which are last update wins. Send the request without it.", name)
		}
	}
	return nil
}

// wholeAndPlain refuses headers by which the body would not be the value: a part of it, or a
// coded form that readers would get without being told.
func wholeAndPlain(h http.Header) error {
	if _, present := h["Content-Range"]; present { // RFC 9110 section 14.4
		return refuse(errBadHeader, "A PUT replaces the whole value, so Content-Range makes no sense. Send the whole value without it.")
	}
	for _, given := range h["Content-Encoding"] {
		for coding := range strings.SplitSeq(given, ",") {
			if coding = strings.TrimSpace(coding); coding != "" && !strings.EqualFold(coding, "identity") {
				return refuse(errUnsupported, "Content-Encoding %q is not kept with a value. Send the value as readers are to get it, or name its form in Content-Type.", shortened(coding))
			}
		}
	}
	return nil
}

// contentTypeOf returns the content type to keep with a value.
func contentTypeOf(h http.Header) (string, error) {
	given := h["Content-Type"]
	switch {
	case len(given) == 0 || len(given) == 1 && given[0] == "":
		return plainText, nil
	case len(given) > 1:
		return "", refuse(errBadHeader, "There are %d Content-Type headers; send one.", len(given))
	}
	text := given[0]
	if text == formType { // curl -d says so whatever the data are
		return plainText, nil
	}
	if len(text) > maxContentType {
		return "", refuse(errBadHeader, "Content-Type has %d characters; up to %d are taken.", len(text), maxContentType)
	}
	mediaType, _, err := mime.ParseMediaType(text)
	if err != nil || !strings.Contains(mediaType, "/") || !printable(text) {
		return "", refuse(errBadHeader, "Content-Type %q is no media type. Send one like text/plain, or none.", shortened(text))
	}
	if mediaType == formType {
		return plainText, nil // with parameters, as above
	}
	return text, nil
}

// printable reports whether s is printable ASCII, blanks included.
func printable(s string) bool {
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// receipt tells the client which replicas took part in a decision; the zero Receipt stands
// for no decision.
func (w *response) receipt(r replication.Receipt) {
	if r.N == 0 {
		return
	}
	text := strconv.Itoa(r.Acks) + "/" + strconv.Itoa(r.N)
	if len(r.Missing) > 0 {
		text += "; missing=" + strings.Join(r.Missing, ",")
	}
	w.set("Snakes-Acks", text)
}

// version tells the client which version it wrote or reads, and returns its ETag.
func (w *response) version(v version.Version) string {
	tag := etag(v)
	w.set("Etag", tag)
	w.set("Last-Modified", v.Time().Format(http.TimeFormat))
	return tag
}

func etag(v version.Version) string {
	b, _ := v.AppendText(append(make([]byte, 0, 64), '"')) // the error is always nil
	return string(append(b, '"'))
}

// matchesETag reports whether one of the If-None-Match headers given names etag, by the weak
// comparison of RFC 9110 section 13.1.2. What cannot be read matches nothing: the client
// then gets the value, which is never wrong.
func matchesETag(headers []string, etag string) bool {
	for _, rest := range headers {
		for {
			rest = strings.TrimLeft(rest, " \t,")
			if strings.HasPrefix(rest, "*") {
				return true
			}
			rest = strings.TrimPrefix(rest, "W/")
			if !strings.HasPrefix(rest, `"`) {
				break
			}
			end := strings.IndexByte(rest[1:], '"')
			if end < 0 {
				break
			}
			if rest[:end+2] == etag {
				return true
			}
			rest = rest[end+2:]
		}
	}
	return false
}
