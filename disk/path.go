package disk

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

const (
	// maxName is the longest file name that all common file systems take.
	maxName = 255
	// readablePart is how much of a key that is too long stays readable in its file name.
	readablePart = 100
)

// keyPath returns the file of a valid key: keys/<2 hex>/<name>.
//
// The name is the key with "_a" for "A" and so on: lower-case letters, digits and "_" only, so
// that no two keys share a file where "Foo" and "foo" are one name. A name that Windows keeps
// for a device gets a "-" behind it. One that would be longer than maxName becomes its
// beginning, "-" and the SHA-256 of the key in hexadecimal. The three forms have nothing in
// common: no "-", one at the end, one before other characters. The directory is the first byte
// of the SHA-256.
func keyPath(key string) string {
	hash := sha256.Sum256([]byte(key))
	return keysDir + "/" + hex.EncodeToString(hash[:1]) + "/" + fileName(key, hash)
}

func fileName(key string, hash [sha256.Size]byte) string {
	name := make([]byte, 0, len(key)+8)
	for _, c := range []byte(key) {
		if 'A' <= c && c <= 'Z' {
			name = append(name, '_', c+'a'-'A')
		} else {
			name = append(name, c)
		}
	}
	switch {
	case len(name) > maxName:
		return string(name[:readablePart]) + "-" + hex.EncodeToString(hash[:])
	case isDevice(string(name)):
		return string(name) + "-"
	}
	return string(name)
}

// isDevice reports whether Windows opens a device instead of a file of that lower-case name.
func isDevice(name string) bool {
	switch name {
	case "con", "prn", "aux", "nul":
		return true
	}
	port, found := strings.CutPrefix(name, "com")
	if !found {
		port, found = strings.CutPrefix(name, "lpt")
	}
	return found && len(port) == 1 && '0' <= port[0] && port[0] <= '9'
}
