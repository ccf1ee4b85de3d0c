package ui

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/protocol7/snakes/test/cluster"
)

// axe-core finds what keeps people from using a page. It is no part of this module: npm fetches the
// package, which must be exactly this one.
const (
	axePackage = "axe-core@4.14.1"
	axeSum     = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
)

// errNoAxe: the package cannot be had here.
var errNoAxe = errors.New("npm fetches no " + axePackage)

var fetchAxe = sync.OnceValues(func() (script string, err error) {
	dir, err := os.MkdirTemp("", "snakes-test-axe-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	cmd := exec.Command("npm", "pack", "--silent", "--prefer-offline", "--ignore-scripts", "--pack-destination", dir, axePackage)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %w\n%s", errNoAxe, err, out)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil || len(files) != 1 {
		return "", fmt.Errorf("npm pack left %q, %w", files, err)
	}
	archive, err := os.ReadFile(files[0])
	if err != nil {
		return "", err
	}
	sum := sha512.Sum512(archive)
	if got := base64.StdEncoding.EncodeToString(sum[:]); got != axeSum {
		return "", fmt.Errorf("%s has the checksum %s, want %s", axePackage, got, axeSum)
	}
	return fileIn(archive, "package/axe.min.js")
})

// fileIn returns a file of an archive.
func fileIn(archive []byte, name string) (string, error) {
	unpacked, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return "", err
	}
	for files := tar.NewReader(unpacked); ; {
		header, err := files.Next()
		if err != nil {
			return "", fmt.Errorf("look for %s: %w", name, err)
		}
		if header.Name == name {
			content, err := io.ReadAll(files)
			return string(content), err
		}
	}
}

// axe returns the script.
func axe(t testing.TB) string {
	t.Helper()
	script, err := fetchAxe()
	if errors.Is(err, errNoAxe) {
		cluster.Missing(t, "this test looks for barriers with axe-core: %v", err)
	}
	must(t, err)
	return script
}
