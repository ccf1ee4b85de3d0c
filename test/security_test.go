package test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each line of SECURITY.md names its tests; a test that was renamed would leave a line without one.
func TestSecurityNamesTestsThatThereAre(t *testing.T) {
	const root = ".."
	text, err := os.ReadFile(filepath.Join(root, "SECURITY.md"))
	must(t, err)
	var tests bytes.Buffer
	must(t, filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		tests.Write(source)
		return err
	}))
	named := regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9]+)`").FindAllSubmatch(text, -1)
	if len(named) < 30 {
		t.Fatalf("SECURITY.md names %d tests, want some for each line", len(named))
	}
	for _, name := range named {
		if !bytes.Contains(tests.Bytes(), append([]byte("func "), append(name[1], '(')...)) {
			t.Errorf("there is no %s", name[1])
		}
	}
}
