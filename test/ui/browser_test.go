package ui

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/protocol7/snakes/test/cluster"
)

// patience is how long a page may take to show what it should. What was measured is logged.
const patience = 60 * time.Second

// closeBrowser ends what startBrowser started.
var closeBrowser = func() {}

// startBrowser starts the one browser of this process. Its pages know nothing of each other.
var startBrowser = sync.OnceValues(func() (context.Context, error) {
	path, err := exec.LookPath("chromium")
	if err != nil {
		return nil, err
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("hide-scrollbars", true), chromedp.WSURLReadTimeout(patience))
	allocator, endAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	browser, endBrowser := chromedp.NewContext(allocator)
	closeBrowser = func() { endBrowser(); endAllocator() }
	return browser, chromedp.Do(browser)
})

// look is how somebody looks at a page.
type look struct {
	width    int64
	dark     bool
	noScript bool
	// userinfo is what to log in with, "name:password".
	userinfo string
}

func (l look) String() string {
	text := fmt.Sprint(l.width, "px")
	if l.dark {
		text += "-dark"
	}
	if l.noScript {
		text += "-noscript"
	}
	return text
}

// tab is a page that somebody looks at.
type tab struct {
	t    testing.TB
	ctx  context.Context
	look look

	mu     sync.Mutex // guards the fields below
	asked  []string   // URLs
	faults []string   // what the browser complained of
}

// open opens the page of a node, or another path of it. It is closed with the test, which then fails
// if the page asked anybody else for anything, or if the browser complained.
func open(t testing.TB, n *cluster.Node, path string, l look) *tab {
	t.Helper()
	browser, err := startBrowser()
	if err != nil {
		cluster.Missing(t, "this test looks at pages with chromium, Debian's package: %v", err)
	}
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	b := &tab{t: t, ctx: ctx, look: l}
	t.Cleanup(func() {
		cancel()
		b.check(n.Addr())
	})
	must(t, chromedp.Listen(ctx, b.note))
	scheme := "light"
	if l.dark {
		scheme = "dark"
	}
	address := url.URL{Scheme: "http", Host: n.Addr()}
	if name, password, given := strings.Cut(l.userinfo, ":"); given {
		address.User = url.UserPassword(name, password)
	}
	b.do(
		send(log.Enable, cdp.Empty{}),
		chromedp.EmulateViewport(l.width, 900),
		send(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		}),
		scripts(!l.noScript),
		chromedp.Navigate(address.String()+path),
	)
	return b
}

// note takes down what the browser tells.
func (b *tab) note(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		b.asked = append(b.asked, e.Request.URL)
	case *log.EventEntryAdded:
		// That a node is gone is a network error, which pages are there to survive.
		if e.Entry.Level == log.EntryLevelError && e.Entry.Source != log.EntrySourceNetwork {
			b.faults = append(b.faults, e.Entry.Text)
		}
	case *runtime.EventExceptionThrown:
		b.faults = append(b.faults, e.ExceptionDetails.Text)
	}
}

func (b *tab) check(address string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, asked := range b.asked {
		if u, err := url.Parse(asked); err != nil || u.Host != address {
			b.t.Errorf("the page of %s asked for %s", address, asked)
		}
	}
	for _, fault := range b.faults {
		b.t.Errorf("the browser complains: %s", fault)
	}
}

// send is an action that sends a command.
func send[P, R any](command cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, command, params)
		return err
	})
}

// scripts lets the page run scripts, or not.
func scripts(run bool) chromedp.Action[chromedp.Void] {
	return send(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !run})
}

// do does things in the page, and fails the test if that takes too long.
func (b *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	value(b, chromedp.Steps(actions...))
}

// value is do for an action that returns something.
func value[T any](b *tab, action chromedp.Action[T]) T {
	b.t.Helper()
	v, err := try(b, action)
	must(b.t, err)
	return v
}

// try is value for what may fail, such as a look at a page that is just about to become another one.
func try[T any](b *tab, action chromedp.Action[T]) (T, error) {
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	return chromedp.Run(ctx, action)
}

// eval returns what an expression is in the page.
func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	return value(b, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// textOf is an expression for the words of the first element that a selector finds, empty if there is none.
func textOf(selector string) string {
	return fmt.Sprintf("document.querySelector(%q)?.innerText ?? ''", selector)
}

// await waits until the words of an element hold all of want.
func (b *tab) await(selector string, want ...string) {
	b.t.Helper()
	cluster.Await(b.t, patience, fmt.Sprintf("%s to say %q", selector, want), func() error {
		text, err := try(b, chromedp.Evaluate[string](textOf(selector)))
		for _, part := range want {
			if err == nil && !strings.Contains(text, part) {
				err = fmt.Errorf("it says %q", text)
			}
		}
		return err
	})
}

// awaitTitle waits until the title begins with a verdict.
func (b *tab) awaitTitle(word string) {
	b.t.Helper()
	cluster.Await(b.t, patience, "the title to begin with "+word, func() error {
		title, err := try(b, chromedp.Title())
		if err == nil && !strings.HasPrefix(title, word+" · ") {
			err = fmt.Errorf("it is %q", title)
		}
		return err
	})
}

// examine takes a picture of all of the page and looks for barriers: by axe-core, for text that is cut off
// at this width.
func (b *tab) examine(name string) {
	b.t.Helper()
	b.picture(name)
	if b.look.noScript { // axe-core is one
		b.do(scripts(true))
		defer b.do(scripts(false))
	}
	if wide := eval[int64](b, "document.scrollingElement.scrollWidth"); wide > b.look.width {
		b.t.Errorf("%s, %s: the page is %d px wide", name, b.look, wide)
	}
	eval[int](b, axe(b.t)+"; 0")
	const ask = `axe.run({runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}).then((found) =>
		JSON.stringify({passes: found.passes.length, violations: found.violations.map((v) => v.id + ": " + v.help + ": " +
			v.nodes.map((n) => n.html.slice(0, 200) + " " + n.any.map((a) => a.message).join()).join("; "))}))`
	var found struct {
		Passes     int
		Violations []string
	}
	must(b.t, json.Unmarshal([]byte(eval[string](b, ask)), &found))
	if found.Passes < 15 {
		b.t.Errorf("%s, %s: axe-core checked %d rules only", name, b.look, found.Passes)
	}
	for _, v := range found.Violations {
		b.t.Errorf("%s, %s: axe-core: %s", name, b.look, v)
	}
}

// picture keeps one of all of the page.
func (b *tab) picture(name string) {
	b.t.Helper()
	png := value(b, chromedp.FullScreenshot(100))
	must(b.t, os.MkdirAll("screenshots", 0o755))
	must(b.t, os.WriteFile(filepath.Join("screenshots", name+"-"+b.look.String()+".png"), png, 0o644))
}
