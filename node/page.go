package node

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/protocol7/snakes/node/ui"
)

const (
	htmlType = "text/html; charset=utf-8"
	// maxForm is the size in bytes of the largest form that the page sends.
	maxForm = 4 << 10
	// frameTime is how often a page that stays open is told what is new, frameRest how long it
	// takes at least until it is told again when something has happened.
	frameTime, frameRest = 2 * time.Second, 500 * time.Millisecond
)

// readsHTML reports whether a browser sent r, which wants to show what it gets.
func readsHTML(r *http.Request) bool { return strings.Contains(r.Header.Get("Accept"), "text/html") }

// page is the operators' page. What comes before the look-up of a key goes out first, so that a
// member that does not answer holds up no more than that.
func (a *api) page(w *response, r *http.Request) error {
	given, err := parameters(r, "key")
	if err != nil {
		return err
	}
	var lookUp func() ui.Lookup
	if key, asked := given["key"]; asked {
		lookUp = func() ui.Lookup { return a.lookUp(r.Context(), key) }
	}
	state := a.pageState(r.Context())
	w.pageHeaders()
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return nil
	}
	flush := func() { _ = http.NewResponseController(w).Flush() } // what fails here fails again below
	_ = ui.Page(w, state, flush, lookUp)                          // a client that is gone needs no answer
	return nil
}

// pageHeaders sets those of all that browsers show.
func (w *response) pageHeaders() {
	h := w.Header()
	h.Set("Content-Type", htmlType)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", ui.Policy)
	// Other members need not know where somebody comes from; this node does, see guard.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

func (a *api) lookUp(ctx context.Context, key string) ui.Lookup {
	found := ui.Lookup{Key: key}
	inspection, err := a.Coordinator.Inspect(ctx, key)
	if err != nil {
		found.Key, found.Error = shortened(key), detailOf(err, kindOf(err))
		return found
	}
	found.Winner, found.Why = versionText(inspection.Winner), inspection.Why
	for _, c := range inspection.Copies {
		shown := describeCopy(c)
		found.Copies = append(found.Copies, ui.Copy{
			Name: shown.Name, State: shown.State, Version: shown.Version, Size: shown.Size, Checksum: shown.Checksum,
			Error: shown.Error, Wins: shown.Version != "" && shown.Version == found.Winner,
		})
	}
	slices.SortStableFunc(found.Copies, func(x, y ui.Copy) int { return strings.Compare(x.Name, y.Name) })
	return found
}

// asset answers with a file that belongs to the page. Its name changes with what is in it.
func (a *api) asset(w *response, r *http.Request) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	asset, found := a.frames.assets[strings.TrimPrefix(rawPath(r), ui.Root)]
	if !found {
		return refuse(errNoResource, "There is nothing at this path. The page is at %s.", ui.Root)
	}
	w.Header().Set("Cache-Control", "private, max-age=31536000, immutable")
	return w.send(http.StatusOK, asset.Type, asset.Bytes)
}

// frames are what open pages are told. All of them are told the same, which is made when one of
// them asks, so that nothing happens while there is none.
type frames struct {
	assets map[string]ui.Asset
	turn   chan struct{} // has room for whoever makes the next frame, or looks at the last one
	last   frame
}

// frame is what a page shows at one time.
type frame struct {
	at                 time.Time
	title, icon, class string
	parts              map[string]string
}

func newFrames() *frames { return &frames{assets: ui.Assets(), turn: make(chan struct{}, 1)} }

// frame returns one that is at most so old. It waits for whoever makes one.
func (a *api) frame(ctx context.Context, age time.Duration) (frame, bool) {
	select {
	case a.frames.turn <- struct{}{}:
	case <-ctx.Done():
		return frame{}, false
	}
	defer func() { <-a.frames.turn }()
	if time.Since(a.frames.last.at) > age {
		s := a.pageState(ctx)
		a.frames.last = frame{
			at: s.Now, title: ui.Title(s), icon: ui.Icon(s.Verdict), class: ui.Class(s.Verdict), parts: ui.Parts(s),
		}
	}
	return a.frames.last, true
}

// news is what an open page is told: the parts that it does not have.
type news struct {
	Build string            `json:"build"`
	Title string            `json:"title"`
	Icon  string            `json:"icon"`
	Class string            `json:"class"`
	Stamp string            `json:"stamp"`
	Clock string            `json:"clock"`
	Parts map[string]string `json:"parts"`
}

// live tells an open page what is new, for as long as it is open.
func (a *api) live(w *response, r *http.Request) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	s, ctx, done := a.stream(w, r)
	defer done()
	if r.Method == http.MethodHead {
		return nil
	}
	s.field("retry", "1000") // milliseconds
	had, age := map[string]string(nil), frameRest
	for {
		f, made := a.frame(ctx, age)
		if !made {
			return nil
		}
		parts := maps.Clone(f.parts)
		maps.DeleteFunc(parts, func(id, text string) bool { return had[id] == text })
		had = f.parts
		s.event("page", "", news{
			ui.Build(), f.title, f.icon, f.class, f.at.UTC().Format(time.RFC3339), f.at.UTC().Format("15:04:05 UTC"), parts,
		})
		if s.flush() != nil {
			return nil // the client is gone
		}
		if age = a.nextFrame(ctx); age == 0 {
			return nil
		}
	}
}

// nextFrame waits until a page is to be told of what is new, and returns how old that may be; 0:
// there is nobody to tell any more.
func (a *api) nextFrame(ctx context.Context) (age time.Duration) {
	_, changed := a.Events.After(^uint64(0))
	rest, later := time.After(frameRest), time.After(frameTime)
	select {
	case <-ctx.Done():
		return 0
	case <-later:
		return frameTime / 2
	case <-changed:
	}
	select {
	case <-ctx.Done():
		return 0
	case <-rest:
		return frameRest / 2
	}
}

// problemPage is an error for somebody who looks at the page.
func (a *api) problemPage(p problem) []byte {
	side := ui.Side{Self: a.Name, Title: p.Title, Text: []string{p.Detail}}
	return side.Bytes()
}

// refusePage is refuse for browsers.
func (w *response) refusePage(r *http.Request, page []byte, status int) {
	w.pageHeaders()
	w.refuse(r, status, htmlType, page)
}

// form returns the fields of the form that r brings.
func (a *api) form(w *response, r *http.Request) (url.Values, error) {
	body, err := w.body(r, maxForm, a.sent)
	if err != nil {
		return nil, err
	}
	fields, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, refuse(errBadParameter, "The body is a form; this one makes no sense.")
	}
	return fields, nil
}

// sample adds to what the page plots, until ctx ends.
func (a *api) sample(ctx context.Context) {
	tick := time.NewTicker(ui.Step)
	defer tick.Stop()
	a.sampleAt(ctx, tick.C)
}

// sampleAt adds to what the page plots at each tick.
func (a *api) sampleAt(ctx context.Context, ticks <-chan time.Time) {
	reads, writes := a.requests.Keys()
	for {
		var now time.Time
		select {
		case <-ctx.Done():
			return
		case now = <-ticks:
		}
		before, wrote := reads, writes
		reads, writes = a.requests.Keys()
		r, w := reads.Since(before), writes.Since(wrote)
		rate := func(n uint64) float32 { return float32(float64(n) / ui.Step.Seconds()) }
		a.History.Add(ui.Sample{
			At: now.Unix(), Reads: rate(r.Count), Writes: rate(w.Count), Failed: rate(r.Failed + w.Failed),
			ReadHalf: float32(1e3 * r.Quantile(.5)), ReadMost: float32(1e3 * r.Quantile(.99)),
			WriteHalf: float32(1e3 * w.Quantile(.5)), WriteMost: float32(1e3 * w.Quantile(.99)),
		})
	}
}
