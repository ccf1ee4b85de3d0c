package secret

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

const (
	first  = "correct horse battery staple"
	second = "9dZ0GJ4x6yF1nD1X7m0i3k5q8wRrTtYyUuIiOoPp"
	third  = "yet another secret of some length"
)

func parse(t testing.TB, lines ...string) Set {
	t.Helper()
	set, err := Parse([]byte(strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func gossipKeys(t testing.TB, set Set, cluster string) [][]byte {
	t.Helper()
	keys, err := set.GossipKeys(cluster)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestParseTakesWhatPeopleWrite(t *testing.T) {
	want := parse(t, first, second)
	for _, text := range []string{
		first + "\n" + second + "\n",
		first + "\r\n" + second + "\r\n",
		"\n\n  " + first + "\t\n\n" + second,
		first + "\n" + second + "\n" + first + "\n", // the same line once more means nothing
	} {
		got, err := Parse([]byte(text))
		if err != nil || !got.Equal(want) {
			t.Errorf("Parse(%q) = %v, %v; want the same two secrets", text, got, err)
		}
	}
	if got := parse(t, second, first); got.Equal(want) {
		t.Error("got sets of another order equal, want them not: the first secret is the used one")
	}
}

func TestParseRefusesWhatIsNoSecret(t *testing.T) {
	for text, want := range map[string]string{
		"":                                      "no secret",
		" \n\t\n":                               "no secret",
		"fifteen bytes..":                       "line 1 has 15 bytes",
		first + "\nshort\n":                     "line 2 has 5 bytes",
		"# the secret of the cluster\n" + first: "line 1 looks like a comment",
		"sixteen\x00bytes and more":             "printable",
		"zwölf Boxkämpfer jagen Eva":            "printable",
		strings.Repeat("x", MaxBytes+1):         "at most 1024",
		strings.Repeat("x", 1<<20):              "too many",
		manySecrets(MaxSecrets + 1):             "17 secrets",
	} {
		_, err := Parse([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%.40q): got error %v, want one with %q", text, err, want)
		}
	}
	if _, err := Parse([]byte(manySecrets(MaxSecrets))); err != nil {
		t.Errorf("Parse of %d secrets: %v", MaxSecrets, err)
	}
}

func manySecrets(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "the secret with the number %d\n", i)
	}
	return b.String()
}

// Nothing that fmt can do with a value, and no error, shows what must stay secret.
func TestSecretsArePrintedNowhere(t *testing.T) {
	set := parse(t, first, second)
	id := identity(t, set, nodeA)
	type buried struct {
		Set   Set
		inner struct {
			set Set
			id  *Identity
		}
	}
	var b buried
	b.Set, b.inner.set, b.inner.id = set, set, id
	key := string(gossipKeys(t, set, "snakes")[0])
	hidden := []string{first, second, string(set.all()[0]), key, fmt.Sprint([]byte(key)), fmt.Sprint([]byte(set.all()[0])), fmt.Sprintf("%x", key)}
	var texts []string
	for _, value := range []any{set, &set, b, &b, []Set{set}, map[string]Set{"x": set}, id} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			texts = append(texts, fmt.Sprintf(verb, value))
		}
	}
	for _, line := range []string{"short", "#" + first, first + "\x01", first + strings.Repeat(second, 100)} {
		_, err := Parse([]byte(line))
		texts = append(texts, fmt.Sprint(err))
		hidden = append(hidden, strings.TrimSuffix(line, "\x01"))
	}
	for _, text := range texts {
		for _, secret := range hidden {
			if strings.Contains(text, secret) {
				t.Errorf("%.200q shows a secret", text)
			}
		}
	}
	if got := fmt.Sprint(set); got != "2 secrets" {
		t.Errorf("got %q, want 2 secrets", got)
	}
}

func TestKeysDifferByPurposeClusterAndSecret(t *testing.T) {
	set := parse(t, first, second)
	keys := gossipKeys(t, set, "snakes")
	if len(keys) != 2 || len(keys[0]) != KeyBytes {
		t.Fatalf("got %d keys of %d bytes, want 2 of %d", len(keys), len(keys[0]), KeyBytes)
	}
	all := append(keys, gossipKeys(t, set, "snakes2")...)
	for _, p := range set.all() {
		a, err := newAuthority(p, "snakes")
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, a.key.Seed(), p)
	}
	for i, a := range all {
		for _, b := range all[:i] {
			if bytes.Equal(a, b) {
				t.Errorf("keys of different purposes are equal: %x", a)
			}
		}
	}
	if again := gossipKeys(t, parse(t, first), "snakes"); !bytes.Equal(again[0], keys[0]) {
		t.Error("the same secret gave another key on another node")
	}
	// Releases that derive something else would not understand each other.
	const want = "ecddd332e6e97ff44ee7ddb4968c7e723baaf3f00f95ade9d3fcc436d2d72d02 " +
		"3598618be34dfa114d09c608e53cbc515ca946757fb7b9f27c2fe1b6a4eddaa7"
	if got := fmt.Sprintf("%x %x", keys[0], all[4]); got != want {
		t.Errorf("got keys %s, want %s", got, want)
	}
}

func TestGeneratedSecretsAreGoodAndDiffer(t *testing.T) {
	a, b := Generate(), Generate()
	if a == b || len(a) != 43 {
		t.Errorf("got %d bytes, twice the same: %v; want 43 bytes, never the same", len(a), a == b)
	}
	parse(t, a, b)
}

func TestReadRefusesFilesThatOthersCanRead(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes do not tell who can read a file")
	}
	path := filepath.Join(t.TempDir(), "secret")
	if err := Create(path); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []fs.FileMode{0o644, 0o604, 0o602, 0o601, 0o620, 0o660} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path); err == nil || !strings.Contains(err.Error(), "chmod 600 "+path) {
			t.Errorf("file of mode %o: got error %v, want one with the command that mends it", mode, err)
		}
	}
	for _, mode := range []fs.FileMode{0o600, 0o400} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path); err != nil {
			t.Errorf("file of mode %o: %v", mode, err)
		}
	}
}

func TestReadTellsWhatIsNoSecretFile(t *testing.T) {
	dir := t.TempDir()
	short := filepath.Join(dir, "short")
	if err := os.WriteFile(short, []byte("short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: got error %v, want %v", err, fs.ErrNotExist)
	}
	if _, err := Read(dir); err == nil || !strings.Contains(err.Error(), "is no file") {
		t.Errorf("a directory: got error %v", err)
	}
	if _, err := Read(short); err == nil || !strings.Contains(err.Error(), short+": line 1 has 5 bytes") {
		t.Errorf("a short secret: got error %v, want one that names file and line", err)
	}
}

func TestCreateNeverOverwrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	if err := Create(path); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("got mode %v, %v; want 0600", info.Mode(), err)
	}
	if err := Create(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got error %v, want %v", err, fs.ErrExist)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file has changed: %v", err)
	}
	if set, err := Read(path); err != nil || set.Len() != 1 {
		t.Errorf("Read = %v, %v; want one secret", set, err)
	}
}

// FuzzParse reads anything as a secret file: what is refused is refused without telling a line, and what is taken makes
// keys.
func FuzzParse(f *testing.F) {
	f.Add([]byte("0123456789abcdef0123456789abcdef\n\n  another secret that is long enough \r\n"))
	f.Add([]byte("# comment\n"))
	f.Add([]byte{0xff, 0})
	f.Fuzz(func(t *testing.T, text []byte) {
		set, err := Parse(text)
		if (err != nil) != set.IsZero() {
			t.Fatalf("got %v and %v, want secrets or an error", set, err)
		}
		if err == nil {
			return
		}
		for line := range bytes.Lines(text) {
			if line = bytes.TrimSpace(line); len(line) >= MinBytes && strings.Contains(err.Error(), string(line)) {
				t.Errorf("the error tells a line: %v", err)
			}
		}
	})
}
