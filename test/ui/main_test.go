package ui

import (
	"os"
	"testing"

	"github.com/protocol7/snakes/test/cluster"
)

func TestMain(m *testing.M) {
	code := cluster.Main(m)
	closeBrowser()
	os.Exit(code)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
