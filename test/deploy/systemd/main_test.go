package systemd

import (
	"os"
	"testing"

	"github.com/protocol7/snakes/test/cluster"
)

func TestMain(m *testing.M) { os.Exit(cluster.Main(m)) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
