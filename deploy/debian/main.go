package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
)

// nfpm makes packages. It is not in go.mod: it is no part of the program, and brings hundreds of modules along.
const nfpm = "github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	version := flag.String("version", "dev", "the release")
	arch := flag.String("arch", "amd64", "the processor, amd64 or arm64")
	out := flag.String("o", "dist", "the directory to write to")
	flag.Parse()
	if err := build(ctx, *version, *arch, *out); err != nil {
		fmt.Fprintln(os.Stderr, "debian:", err)
		os.Exit(1)
	}
}

func build(ctx context.Context, version, arch, out string) error {
	files, err := os.MkdirTemp("", "snakes-debian-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(files)
	if _, err := run(ctx, nil, "go", "run", "./deploy/release", "-version", version, "-only", "linux/"+arch, "-o", files); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(files, "snakes-"+version+"-linux-"+arch), filepath.Join(files, "snakes")); err != nil {
		return err
	}
	at, err := committed(ctx)
	if err != nil {
		return err
	}
	number := version
	if number == "dev" {
		number = "0.0.0-dev"
	}
	if err := document(ctx, files, number, at); err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	said, err := run(ctx, []string{"FILES=" + files, "VERSION=" + number, "PROCESSOR=" + arch, fmt.Sprintf("SOURCE_DATE_EPOCH=%d", at.Unix())},
		"go", "run", nfpm, "package", "--packager", "deb", "--config", "deploy/debian/nfpm.yaml", "--target", out)
	fmt.Print(string(said))
	return err
}

// committed is when the commit was made: the time of all that the package has.
func committed(ctx context.Context) (time.Time, error) {
	said, err := run(ctx, nil, "git", "log", "-1", "--format=%ct")
	if err != nil {
		return time.Time{}, err
	}
	var seconds int64
	if _, err := fmt.Sscan(string(said), &seconds); err != nil {
		return time.Time{}, fmt.Errorf("time of the commit: %w", err)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// document writes manual pages, completions and changelogs.
func document(ctx context.Context, files, version string, at time.Time) error {
	pages := filepath.Join(files, "man")
	if _, err := run(ctx, nil, "go", "run", "-ldflags", "-X main.version="+version, "./cmd/snakes", "man", pages); err != nil {
		return err
	}
	written, err := os.ReadDir(pages)
	if err != nil {
		return err
	}
	for _, page := range written {
		path := filepath.Join(pages, page.Name())
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := errors.Join(compressed(path+".gz", content), os.Remove(path)); err != nil {
			return err
		}
	}
	for shell, name := range map[string]string{"bash": "snakes.bash", "zsh": "_snakes", "fish": "snakes.fish"} {
		script, err := run(ctx, nil, "go", "run", "./cmd/snakes", "completion", shell)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(files, name), script, 0o644); err != nil {
			return err
		}
	}
	changes, err := os.ReadFile("CHANGELOG.md")
	if err != nil {
		return err
	}
	debian := fmt.Sprintf("snakes (%s-1) unstable; urgency=medium\n\n  * See changelog.gz.\n\n -- The snakes authors <snakes@protocol7.com>  %s\n",
		strings.Replace(version, "-", "~", 1), at.Format(time.RFC1123Z))
	return errors.Join(
		compressed(filepath.Join(files, "changelog.gz"), changes),
		compressed(filepath.Join(files, "changelog.Debian.gz"), []byte(debian)),
	)
}

// compressed writes content as gzip -9n does.
func compressed(path string, content []byte) error {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := w.Write(content); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}

// run returns what a program prints to standard output.
func run(ctx context.Context, environment []string, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), environment...)
	var said, complained bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &complained
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, said.Bytes(), complained.Bytes())
	}
	return said.Bytes(), nil
}
