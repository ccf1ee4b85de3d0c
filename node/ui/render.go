package ui

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"
)

//go:embed files
var files embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"asset": assetPath, "icon": func(word string) string { return assetPath(iconName(word)) },
	"class": class, "title": Title,
	"thousands": thousands, "bytes": func(n int64) string { return thousands(uint64(n)) },
	"size": size, "scarce": scarce, "ms": ms, "brief": brief, "short": short, "signed": signed,
	"ago": ago, "when": when, "clock": func(t time.Time) string { return t.UTC().Format("15:04:05 UTC") },
	"stamp": func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"facts": facts, "plots": plots,
	"width": func() int64 { return plotWidth }, "height": func() int { return plotHeight + 4 },
	"command": func(parts ...string) string { return strings.Join(parts, "") },
}).ParseFS(files, "files/*.html"))

// partNames are the ids of the parts of a page, each rendered by the template of that name.
var partNames = []string{"verdict", "facts", "members", "matrix", "traffic", "actions", "events"}

// Title is what the window of a page is called.
func Title(s State) string { return fmt.Sprintf("%s · snakes on %s", s.Verdict.Word, s.Self) }

// Icon is the path of the icon of a page with a verdict.
func Icon(v Verdict) string { return assetPath(iconName(v.Word)) }

// Class is what the document and the part "verdict" of a page with a verdict are classed as.
func Class(v Verdict) string { return class(v.Word) }

// class returns a word as the name of a class; "none" if it is not one of Words.
func class(word string) string {
	if !slices.Contains(Words, word) {
		return "none"
	}
	return strings.ToLower(strings.ReplaceAll(word, " ", ""))
}

// when is the time of day, with the date if it is another one than that of now.
func when(t, now time.Time) string {
	if now.Sub(t) < 12*time.Hour {
		return t.UTC().Format("15:04:05")
	}
	return t.UTC().Format("Jan 2 15:04")
}

// Page writes the page. Nothing of it waits but for lookUp, unless that is nil, which is called
// after what comes before the look-up of a key was written and sent by flush. An error is that of
// w.
func Page(w io.Writer, s State, flush func(), lookUp func() Lookup) error {
	var b bytes.Buffer
	render(&b, "top", s)
	var found Lookup
	if lookUp != nil {
		if _, err := b.WriteTo(w); err != nil {
			return fmt.Errorf("write page: %w", err)
		}
		flush()
		found = lookUp()
	}
	render(&b, "lookup", struct {
		State
		Lookup Lookup
	}{s, found})
	render(&b, "bottom", s)
	if _, err := b.WriteTo(w); err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	return nil
}

// Parts returns the parts of a page that change, by their ids.
func Parts(s State) map[string]string {
	parts := make(map[string]string, len(partNames))
	var b bytes.Buffer
	for _, name := range partNames {
		b.Reset()
		render(&b, name, s)
		parts[name] = b.String()
	}
	return parts
}

// Side is a page beside the page: a question before something is done, or what came of it.
type Side struct {
	Self, Cluster string
	Title         string
	// Text are paragraphs.
	Text []string
	// Button does it, by a POST to Action; empty: there is nothing to do here. Member goes along.
	Button, Action, Member string
	Danger                 bool // it cannot be undone
	// Force is the label of a box that can be ticked; empty: there is none.
	Force string
	// Command does the same; empty: there is none.
	Command string
}

// Bytes returns the page.
func (s Side) Bytes() []byte {
	var b bytes.Buffer
	render(&b, "side", s)
	return b.Bytes()
}

func render(b *bytes.Buffer, name string, data any) {
	if err := templates.ExecuteTemplate(b, name, data); err != nil {
		panic(err) // a buffer takes everything, and templates fit the types that they are given
	}
}
