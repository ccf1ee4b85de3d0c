package token

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	reader = "a-token-of-some-length"
	admin  = "another-token-of-some-length"
)

func TestATokenHasTheRoleOfItsLine(t *testing.T) {
	set, err := Parse([]byte("# for the dashboard\nread " + reader + "\n\n\tadmin   " + admin + "\r\nwrite sixteen.bytes...\n"))
	if err != nil {
		t.Fatal(err)
	}
	for shown, want := range map[string]Role{
		reader: Read, admin: Admin, "sixteen.bytes...": Write,
		"": None, reader + "x": None, reader[1:]: None, strings.ToUpper(admin): None, "read " + reader: None, " " + reader: None,
	} {
		if got := set.Role(shown); got != want {
			t.Errorf("Role(%q) = %v, want %v", shown, got, want)
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(verb, set); strings.Contains(text, reader) || strings.Contains(text, admin) {
			t.Errorf("%s shows a token: %s", verb, text)
		}
	}
}

func TestAFileThatMakesNoSenseIsRefusedWhole(t *testing.T) {
	for text, want := range map[string]string{
		"":                                     "no token",
		"# only a comment":                     "no token",
		reader:                                 "line 1 is not",
		"root " + reader:                       "line 1 is not",
		"nothing " + reader:                    "line 1 is not",
		"read " + reader + " dashboard":        "line 1 is not",
		"read " + reader + "\nread short":      "line 2 has a token of 5 bytes",
		"read " + strings.Repeat("x", 1025):    "1025 bytes",
		"read " + reader + "\nadmin " + reader: "line 2 has a token that was there before",
		"read " + reader + "\x01":              "printable",
	} {
		set, err := Parse([]byte(text))
		if set != nil || err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), reader) {
			t.Errorf("Parse(%.60q) = %v, %v; want an error with %q and no token", text, set, err, want)
		}
	}
}

func TestAFileThatOthersCanReadIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(path, []byte("admin "+admin+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if set, err := Load(path); err != nil || set.Role(admin) != Admin {
		t.Errorf("Load = %v, %v; want the token", set, err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o044 == 0 {
		t.Skip("modes do not tell who can read a file")
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "chmod 600 "+path) {
		t.Errorf("a file that all can read: got %v, want the command that mends it", err)
	}
}

// FuzzParse reads anything as a token file, and shows anything as a token: only what a line of the file has is one.
func FuzzParse(f *testing.F) {
	f.Add([]byte("admin 0123456789abcdef0123456789abcdef\n# comment\n\nread fedcba9876543210fedcba9876543210\r\n"), "fedcba9876543210fedcba9876543210")
	f.Add([]byte("write short\n"), "short")
	f.Fuzz(func(t *testing.T, text []byte, shown string) {
		set, err := Parse(text)
		if err != nil {
			if shown != "" && len(shown) >= MinBytes && strings.Contains(err.Error(), shown) {
				t.Errorf("the error tells a token: %v", err)
			}
			return
		}
		if role := set.Role(shown); role != None && !bytes.Contains(text, []byte(shown)) {
			t.Errorf("%q, which is not in the file, has role %v", shown, role)
		}
	})
}
