package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// targets are the systems that releases are for.
var targets = []string{"darwin/amd64", "darwin/arm64", "linux/amd64", "linux/arm64", "windows/amd64", "windows/arm64"}

// settings are all that could make other bytes of the same source; they are not taken from the environment.
var settings = []string{"CGO_ENABLED=0", "GOFLAGS=-mod=readonly", "GOEXPERIMENT=", "GOAMD64=v1", "GOARM64=v8.0", "GOFIPS140=off", "GOWORK=off"}

// versions are those that nodes tell each other: 32 bytes at most.
var versions = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.+~-]{0,31}$`)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	version := flag.String("version", "", "the release (default: the tag on this commit, or dev)")
	out := flag.String("o", "dist", "the directory to write to")
	only := flag.String("only", strings.Join(targets, ","), "the systems to build for")
	flag.Parse()
	if err := release(ctx, *version, *out, strings.Split(*only, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func release(ctx context.Context, version, out string, wanted []string) error {
	if version == "" {
		version = tagged(ctx)
	}
	if !versions.MatchString(version) {
		return fmt.Errorf("%q is no version: 1 to 32 letters, digits and .+~-", version)
	}
	// Not in out: a file in the source that is in no commit would make it a changed one, and other bytes.
	built, err := os.MkdirTemp("", "snakes-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(built)
	var sums bytes.Buffer
	for _, target := range wanted {
		if !slices.Contains(targets, target) {
			return fmt.Errorf("%q is none of %s", target, strings.Join(targets, ", "))
		}
		name, err := build(ctx, version, built, target)
		if err != nil {
			return fmt.Errorf("build for %s: %w", target, err)
		}
		content, err := os.ReadFile(filepath.Join(built, name))
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%x  %s\n", sha256.Sum256(content), name)
		fmt.Print(line)
		sums.WriteString(line)
	}
	if err := os.WriteFile(filepath.Join(built, "SHA256SUMS"), sums.Bytes(), 0o644); err != nil {
		return err
	}
	return publish(built, out)
}

// publish copies the files of one directory into another.
func publish(from, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	files, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, file := range files {
		info, err := file.Info()
		if err != nil {
			return err
		}
		content, err := os.ReadFile(filepath.Join(from, file.Name()))
		if err != nil {
			return err
		}
		path := filepath.Join(to, file.Name())
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) { // it may be running
			return err
		}
		if err := os.WriteFile(path, content, info.Mode().Perm()); err != nil {
			return err
		}
	}
	return nil
}

// tagged returns the version that the tag on this commit names.
func tagged(ctx context.Context) string {
	tag, err := exec.CommandContext(ctx, "git", "describe", "--tags", "--exact-match", "--match", "v[0-9]*").Output()
	if err != nil {
		return "dev" // there is no such tag, or no repository
	}
	return strings.TrimPrefix(strings.TrimSpace(string(tag)), "v")
}

// build writes the program for one system into out and returns the name of the file.
func build(ctx context.Context, version, out, target string) (string, error) {
	system, processor, _ := strings.Cut(target, "/")
	name := fmt.Sprintf("snakes-%s-%s-%s", version, system, processor)
	if system == "windows" {
		name += ".exe"
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=auto", "-ldflags", "-s -w -X main.version="+version,
		"-o", filepath.Join(out, name), "./cmd/snakes")
	cmd.Env = append(os.Environ(), append(slices.Clone(settings), "GOOS="+system, "GOARCH="+processor)...)
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", errors.Join(err, errors.New(strings.TrimSpace(string(output))))
	}
	return name, nil
}
