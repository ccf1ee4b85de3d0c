package test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/protocol7/snakes/test/cluster"
)

const (
	oldSecret = "what the cluster began with"
	newSecret = "what it is replaced by later"
)

// giveSecret has the node started with a secret file of its own, with these lines.
func giveSecret(t *testing.T, n *cluster.Node, lines ...string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret.txt")
	writeSecrets(t, file, lines...)
	n.Args = append(n.Args, "--bind", n.Host, "--secret-file", file)
}

func writeSecrets(t *testing.T, file string, lines ...string) {
	t.Helper()
	must(t, os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600))
}

// replaceSecrets gives the nodes another secret file and waits until they have read it.
func replaceSecrets(t *testing.T, c *cluster.Cluster, nodes []*cluster.Node, lines ...string) {
	t.Helper()
	const word = "secret file taken in"
	for _, n := range nodes {
		before := strings.Count(n.Log(), word)
		writeSecrets(t, n.Args[slices.Index(n.Args, "--secret-file")+1], lines...)
		n.HangUp()
		c.Await(10*time.Second, fmt.Sprintf("%s has read its secrets", n), func() error {
			if strings.Count(n.Log(), word) == before {
				return errors.New("the log does not say so")
			}
			return nil
		})
	}
}

// One node is away during the second of the three steps, and comes back with the file of the first.
func TestASecretIsReplacedUnderLoadAndWithANodeAway(t *testing.T) {
	t.Parallel()
	c := cluster.New(t, cluster.Options{Nodes: 3})
	for _, n := range c.Nodes() {
		giveSecret(t, n, oldSecret)
	}
	c.Start()
	stay, away := c.Nodes()[:2], c.Node(2)
	users := plainClients(t, stay...)
	replaceSecrets(t, c, c.Nodes(), oldSecret, newSecret)
	c.Throughout(2*time.Second, "all alive", func() error { return cluster.CheckMembers(c.Nodes()...) })

	away.Stop()
	replaceSecrets(t, c, stay, newSecret, oldSecret)
	must(t, stay[0].Put("meanwhile", "written").Expect(201))
	away.Start()
	c.AwaitMembers(20 * time.Second)
	must(t, away.Get("meanwhile?r=1").Expect(200, "written"))
	must(t, away.Put("back?w=all", "written").Expect(201))
	replaceSecrets(t, c, []*cluster.Node{away}, newSecret, oldSecret)

	replaceSecrets(t, c, c.Nodes(), newSecret)
	c.Throughout(5*time.Second, "all alive", func() error { return cluster.CheckMembers(c.Nodes()...) })
	users.finish(t)
	must(t, stay[1].Put("after?w=all", "written").Expect(201))
	c.AwaitConverged(10 * time.Second)

	late := c.AddNode()
	giveSecret(t, late, oldSecret)
	late.Start("--join", stay[0].Addr())
	c.Throughout(4*time.Second, "the old secret is of no use", func() error {
		return errors.Join(stateOfItself(late, "joining"), seesKnown(3, c.Nodes()[:3]...))
	})
	late.Stop()
	giveSecret(t, late, newSecret) // the last flag counts
	late.Start("--join", stay[0].Addr())
	c.AwaitMembers(20 * time.Second)
	for _, n := range c.Nodes() {
		for _, secret := range []string{oldSecret, newSecret} {
			if strings.Contains(n.Log(), secret) {
				t.Errorf("the log of %s shows a secret", n)
			}
		}
	}
}

func TestNodesWithoutTheSecretStayOutside(t *testing.T) {
	t.Parallel()
	c := cluster.New(t, cluster.Options{Nodes: 2})
	for _, n := range c.Nodes() {
		giveSecret(t, n, oldSecret)
	}
	c.Start()
	inside := c.Nodes()
	must(t, inside[0].Put("foo?w=all", "precious").Expect(201))
	open, other := c.AddNode(), c.AddNode()
	giveSecret(t, other, newSecret)
	for _, n := range []*cluster.Node{open, other} {
		n.Start("--join", inside[0].Addr()+","+inside[1].Addr())
	}
	c.Throughout(5*time.Second, "nobody sees a stranger", func() error {
		return errors.Join(
			cluster.CheckMembers(inside...), stateOfItself(open, "joining"), stateOfItself(other, "joining"),
			open.Get("foo?r=1").Expect(404), other.Get("foo?r=1").Expect(404),
		)
	})
	for _, op := range []string{"fetch", "pull", "write", "consent", "exchange", "anything"} {
		_, err := inside[0].Do("POST", "/-/peer/"+op, "\x03foo", "Snakes-Protocol", "1", "Snakes-From", idOf(t, inside[1]),
			"Snakes-To", idOf(t, inside[0]), "Snakes-Address", inside[1].Addr(), "Snakes-Origin", "1").ExpectProblem(403, "forbidden")
		must(t, err)
	}
}
