package ui

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/protocol7/snakes/test/cluster"
)

// looks are those that every view of the page must stand.
var looks = []look{
	{width: 1400},
	{width: 1400, dark: true},
	{width: 320},
	{width: 320, dark: true},
	{width: 768, noScript: true},
	{width: 320, dark: true, noScript: true},
}

// TestAnOpenPageNamesAMemberThatDied: and takes it back when it returns. How long it took is logged.
func TestAnOpenPageNamesAMemberThatDied(t *testing.T) {
	c := cluster.Start(t, 3)
	page := open(t, c.Node(0), "/-/ui/", look{width: 1400})
	page.awaitTitle("OK")
	page.await("#members", "n0", "n1", "n2")
	icon := eval[string](page, "document.querySelector('#icon').href")

	c.Node(2).Kill()
	killed := time.Now()
	page.awaitTitle("DEGRADED")
	page.await("#verdict", "DEGRADED", "n2")
	t.Logf("from kill -9 to the open page naming the member: %v", time.Since(killed).Round(10*time.Millisecond))
	page.await("#verdict", "n2 is failed", "snakes forget n2 --server http://"+c.Node(0).Addr())
	page.await("#matrix", "no answer: it is failed")
	page.await("#events", "member changed state", "failed")
	if now := eval[string](page, "document.querySelector('#icon').href"); now == icon {
		t.Errorf("the icon stays %s", icon)
	}
	for _, l := range looks {
		open(t, c.Node(0), "/-/ui/", l).examine("degraded")
	}

	c.Node(2).Start()
	page.awaitTitle("OK")
	page.await("#members tbody tr:nth-child(3)", "n2", "alive")
}

// TestThePageIsThereForEverybody: dark and light, small and wide, with and without a script.
func TestThePageIsThereForEverybody(t *testing.T) {
	c := cluster.Start(t, 3)
	for i := range 300 {
		must(t, c.Node(0).Put(fmt.Sprint("key", i%50), strings.Repeat("x", i)).Expect(201))
		must(t, c.Node(0).Get(fmt.Sprint("key", i%50)).Expect(200))
	}
	for _, l := range looks {
		page := open(t, c.Node(0), "/-/ui/", l)
		page.await("#members", "n0", "n1", "n2", "alive")
		page.await("#matrix", "n2")
		page.await("#traffic", "Requests")
		page.awaitTitle("OK")
		page.examine("ok")
	}
	alone := cluster.Start(t, 1)
	open(t, alone.Node(0), "/-/ui/", look{width: 1400}).examine("alone")
}

func TestALookUpShowsEveryReplica(t *testing.T) {
	c := cluster.Start(t, 3)
	must(t, c.Node(1).Put("foo", "value").Expect(201))
	for _, l := range []look{{width: 1400, dark: true}, {width: 320}, {width: 320, noScript: true}} {
		page := open(t, c.Node(0), "/-/ui/", l)
		page.do(chromedp.SendKeys(chromedp.CSS("#key"), "foo\r"))
		page.await("#lookup", "3 of 3 members hold it", "n0", "n1", "n2", "present", "snakes inspect foo --server http://"+c.Node(0).Addr())
		page.examine("lookup")
	}
	page := open(t, c.Node(0), "/-/ui/?key=no-key", look{width: 320})
	page.await("#lookup", "ASCII letters and digits")
	page.examine("badkey")
	open(t, c.Node(0), "/-/ui/?key=nothing", look{width: 1400}).await("#lookup", "none has a record of the key", "absent")
}

func TestAMemberIsForgottenAfterAQuestion(t *testing.T) {
	for _, l := range []look{{width: 1400}, {width: 320, dark: true, noScript: true}} {
		c := cluster.Start(t, 3)
		c.Node(2).Stop()
		c.AwaitState(20*time.Second, "stopped", c.Node(2))
		page := open(t, c.Node(0), "/-/ui/", l)
		page.do(chromedp.Click("//a[text()='Forget…']"))
		page.await("main", "Forget n2?", "2 members instead of 3", "snakes forget n2 --server http://"+c.Node(0).Addr())
		page.examine("forget")
		page.do(chromedp.Click("//a[text()='Cancel']"))
		page.await("#members", "n2")

		page.do(chromedp.Click("//a[text()='Forget…']"))
		page.await("main", "Forget n2?")
		page.do(chromedp.Click(chromedp.CSS("form button")))
		page.await("main", "n2 is forgotten. The cluster counts 2 members now.")
		page.examine("forgotten")
		page.do(chromedp.Click("//a[text()='Back to the page']"))
		page.awaitTitle("OK")
		if text := eval[string](page, textOf("#members")); strings.Contains(text, "n2") {
			t.Errorf("n2 is still there: %s", text)
		}
	}
}

// TestAFrozenMemberHoldsUpNoPage: it is silent, and everything else is there.
func TestAFrozenMemberHoldsUpNoPage(t *testing.T) {
	c := cluster.Start(t, 3)
	must(t, c.Node(0).Put("foo", "value").Expect(201))
	c.Node(2).Freeze()
	began := time.Now()
	answer := c.Node(0).Do(http.MethodGet, "/-/ui/", "")
	must(t, answer.Expect(200))
	t.Logf("with a member that was frozen just now: %d bytes in %v", len(answer.Body), time.Since(began).Round(time.Millisecond))
	page := open(t, c.Node(0), "/-/ui/?key=foo", look{width: 1400})
	page.await("#lookup", "unreachable")
	page.awaitTitle("DEGRADED")
	page.await("#matrix", "no answer")
	page.examine("frozen")
	c.Node(2).Thaw()
	page.awaitTitle("OK")
}

// TestAPageWithoutItsNodeSaysSo: and goes on when the node is back.
func TestAPageWithoutItsNodeSaysSo(t *testing.T) {
	c := cluster.Start(t, 2)
	page := open(t, c.Node(0), "/-/ui/", look{width: 1400})
	page.await("#link", "live")
	c.Node(0).Kill()
	page.awaitTitle("NO ANSWER")
	page.await("#lost", "No answer from this node since")
	page.examine("lost")
	c.Node(0).Start()
	page.awaitTitle("OK")
	if text := eval[string](page, textOf("#lost")); text != "" {
		t.Errorf("it still says %q", text)
	}
}

func TestAPageThatIsPausedStandsStill(t *testing.T) {
	c := cluster.Start(t, 3)
	page := open(t, c.Node(0), "/-/ui/", look{width: 1400})
	page.await("#link", "live")
	page.do(chromedp.Click(chromedp.CSS("#pause")))
	page.await("#link", "")
	c.Node(2).Kill()
	going := open(t, c.Node(0), "/-/ui/", look{width: 1400})
	going.awaitTitle("DEGRADED")
	if title := eval[string](page, "document.title"); !strings.HasPrefix(title, "OK") {
		t.Errorf("it goes on while it is paused: %s", title)
	}
	page.do(chromedp.Click(chromedp.CSS("#pause")))
	page.awaitTitle("DEGRADED")
}

// TestANodeIsDrainedFromItsPage: which goes on telling, and can call it off.
func TestANodeIsDrainedFromItsPage(t *testing.T) {
	c := cluster.Start(t, 3)
	watching := open(t, c.Node(0), "/-/ui/", look{width: 1400})
	page := open(t, c.Node(0), "/-/ui/", look{width: 320})
	page.do(chromedp.Click("//a[text()='Drain…']"))
	page.await("main", "Drain n0?", "snakes drain --server http://"+c.Node(0).Addr())
	page.do(chromedp.Click(chromedp.CSS("form button")))
	page.await("main", "n0 is drained.")
	watching.awaitTitle("DEGRADED")
	watching.await("#members tbody tr:nth-child(1)", "draining")
	watching.examine("drained")
	watching.do(chromedp.Click("//a[text()='Undrain…']"))
	watching.await("main", "Undrain n0?")
	watching.do(chromedp.Click(chromedp.CSS("form button")))
	watching.await("main", "n0 may be chosen again.")
	watching.do(chromedp.Click("//a[text()='Back to the page']"))
	watching.awaitTitle("OK")
}

// TestABrowserIsAskedForAToken: and then shows it with all that the page asks for.
func TestABrowserIsAskedForAToken(t *testing.T) {
	dir := t.TempDir()
	const reads = "the-token-that-reads"
	secret, tokens := filepath.Join(dir, "secret"), filepath.Join(dir, "tokens")
	must(t, os.WriteFile(secret, []byte("a-secret-of-some-length-or-other\n"), 0o600))
	must(t, os.WriteFile(tokens, []byte("read "+reads+"\n"), 0o600))
	c := cluster.New(t, cluster.Options{Nodes: 1, Args: []string{"--bind", "127.0.0.1", "--secret-file", secret, "--token-file", tokens}})
	n := c.Node(0)
	n.Start()
	must(t, n.Do(http.MethodGet, "/-/ui/", "").Expect(401))
	for _, l := range []look{{width: 1400, userinfo: "me:" + reads}, {width: 320, noScript: true, userinfo: "me:" + reads}} {
		page := open(t, n, "/-/ui/", l)
		page.awaitTitle("OK")
		page.await("#facts", "protected")
		if !l.noScript {
			page.await("#link", "live")
		}
		page.examine("token")
		page.do(chromedp.Click("//a[text()='Leave…']"))
		page.await("main", "it takes one for admin", "snakes leave --server http://"+n.Addr()+" --token-file FILE")
		page.examine("mayread")
	}
}
