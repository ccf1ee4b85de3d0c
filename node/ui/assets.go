package ui

import (
	"crypto/sha256"
	"fmt"
	"path"
	"strings"
)

// Root is the path of the page, and what those of all that belongs to it begin with.
const Root = "/-/ui/"

// Policy is the content security policy of pages: all that they need comes from the node itself.
const Policy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// Asset is a file that pages refer to.
type Asset struct {
	// Type is its content type.
	Type  string
	Bytes []byte
}

// named is an asset and the name that it is asked for by.
type named struct {
	Asset
	name string
}

// assets has all assets by the names that pages in this package know them by.
var assets = func() map[string]named {
	all := make(map[string]named)
	add := func(name, contentType string, content []byte) {
		extension, sum := path.Ext(name), sha256.Sum256(content)
		hashed := fmt.Sprintf("%s-%x%s", strings.TrimSuffix(name, extension), sum[:6], extension)
		all[name] = named{Asset{contentType, content}, hashed}
	}
	for name, contentType := range map[string]string{
		"page.css": "text/css; charset=utf-8", "page.js": "text/javascript; charset=utf-8",
	} {
		content, err := files.ReadFile("files/" + name)
		if err != nil {
			panic(err) // it is built in
		}
		add(name, contentType, content)
	}
	for _, word := range append([]string{""}, Words...) {
		add(iconName(word), "image/svg+xml", icon(word))
	}
	return all
}()

// Assets returns all assets by the last part of their paths, which has a hash of the content.
// They must not be changed.
func Assets() map[string]Asset {
	byName := make(map[string]Asset, len(assets))
	for _, a := range assets {
		byName[a.name] = a.Asset
	}
	return byName
}

// Build names what this release's pages need: it is another one if any asset is.
func Build() string { return assets["page.css"].name + assets["page.js"].name }

func assetPath(name string) string { return Root + assets[name].name }

func iconName(word string) string { return "icon-" + class(word) + ".svg" }

// icon draws that of a verdict: a snake, and a badge of a shape and colour of its own.
func icon(word string) []byte {
	badge := map[string]string{
		"OK":        `<circle cx="23" cy="23" r="8" fill="#2da567"/><path d="M19 23l3 3 5-6" fill="none" stroke="#fff" stroke-width="2.4"/>`,
		"DEGRADED":  `<path d="M23 13l9 17H14z" fill="#e0a100"/><path d="M23 19v6m0 1.500v2" fill="none" stroke="#241a00" stroke-width="2.400"/>`,
		"INSECURE":  `<circle cx="23" cy="23" r="7" fill="none" stroke="#e0a100" stroke-width="4" stroke-dasharray="33 11"/>`,
		"SPLIT":     `<path d="M14 15h7v16h-7z" fill="#e5484d"/><path d="M25 15h7v16h-7z" fill="#e5484d"/>`,
		"NO WRITES": `<path d="M18.500 14h9L32 18.500v9L27.500 32h-9L14 27.500v-9z" fill="#e5484d"/><path d="M18 23h10" stroke="#fff" stroke-width="3"/>`,
	}[word]
	return []byte(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">` +
		`<path d="M3 20c4 4 8 1 9-4s5-9 9-7 6 0 6-3" fill="none" stroke="#7b8a83" stroke-width="4.500" stroke-linecap="round"/>` + badge + "</svg>\n")
}
