package disk

import (
	"path"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/protocol7/snakes/replication"
)

func TestFileNamesAreReadable(t *testing.T) {
	for key, want := range map[string]string{
		"foo":                    "keys/2c/foo",
		"Foo9":                   "keys/3f/_foo9",
		"NUL":                    "keys/22/_n_u_l",
		"nul":                    "keys/20/nul-",
		"com1":                   "keys/0d/com1-",
		"com10":                  "keys/0f/com10",
		"lpt0":                   "keys/8f/lpt0-",
		"console":                "keys/5a/console",
		strings.Repeat("a", 255): "keys/02/" + strings.Repeat("a", 255),
	} {
		if got := keyPath(key); path.Base(got) != path.Base(want) {
			t.Errorf("file of %.20s: got %s, want %s", key, got, want)
		}
	}
	long := keyPath(strings.Repeat("A", 128))
	if base := path.Base(long); !strings.HasPrefix(base, strings.Repeat("_a", 50)+"-") || len(base) != 165 {
		t.Errorf("file of a long key: got %s", base)
	}
}

var goodPath = regexp.MustCompile(`^keys/[0-9a-f]{2}/[a-z0-9_]{1,255}(-|-[0-9a-f]{64})?$`)

// checkPaths checks what must hold for any two keys on any file system.
func checkPaths(t rapid.TB, a, b string) {
	t.Helper()
	for _, key := range []string{a, b} {
		p := keyPath(key)
		if !goodPath.MatchString(p) || len(path.Base(p)) > maxName || isDevice(path.Base(p)) {
			t.Fatalf("file of %s: got %s", key, p)
		}
	}
	if same := strings.EqualFold(path.Base(keyPath(a)), path.Base(keyPath(b))); same != (a == b) {
		t.Fatalf("files of %s and %s: %s and %s", a, b, keyPath(a), keyPath(b))
	}
}

func TestDistinctKeysNeverShareAFile(t *testing.T) {
	key := rapid.OneOf(
		rapid.StringMatching(`[aA0]{1,4}`),
		rapid.StringMatching(`([cC][oO][nN]|[nN][uU][lL]|[cC][oO][mM][0-9])[aA0]{0,1}`),
		rapid.StringMatching(`[aA]{120,255}`),
		rapid.StringMatching(`[A-Za-z0-9]{1,255}`),
	)
	rapid.Check(t, func(t *rapid.T) {
		checkPaths(t, key.Draw(t, "a"), key.Draw(t, "b"))
	})
}

func FuzzKeyPath(f *testing.F) {
	f.Add("foo", "Foo")
	f.Add("nul", "NUL")
	f.Add(strings.Repeat("A", 128), strings.Repeat("A", 127)+"a")
	f.Fuzz(func(t *testing.T, a, b string) {
		if replication.ValidKey(a) == nil && replication.ValidKey(b) == nil {
			checkPaths(t, a, b)
		}
	})
}
