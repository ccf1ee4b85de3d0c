package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// version is the release. Builds of releases set it: go build -ldflags "-X main.version=1.0.0".
var version string

// maxRelease is the longest release, in bytes, that nodes tell each other.
const maxRelease = 32

// build is what the program was built from.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision"` // of the source; empty if the build did not record it
	Modified bool   `json:"modified"` // the source had changes that are in no revision
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func thisBuild() build {
	b := build{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = new(debug.BuildInfo)
	}
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			b.Revision = setting.Value
		case "vcs.modified":
			b.Modified = setting.Value == "true"
		}
	}
	if b.Version == "" {
		// "go install MODULE@v1.0.0" records the module's version. Between releases it is a long one that repeats the
		// revision.
		b.Version = strings.TrimPrefix(info.Main.Version, "v")
		if b.Version == "" || b.Version == "(devel)" || len(b.Version) > maxRelease {
			b.Version = "dev"
		}
	}
	return b
}

// release is what other nodes and people are told.
func release() string { return thisBuild().Version }

// String returns the line that snakes version prints.
func (b build) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "snakes %s", b.Version)
	if b.Revision != "" {
		fmt.Fprintf(&text, ", revision %.12s", b.Revision)
		if b.Modified {
			text.WriteString(" and changes")
		}
	}
	fmt.Fprintf(&text, ", %s, %s", b.Go, b.Platform)
	return text.String()
}

func (r *remote) version() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the release and what it was built from", Args: arguments(""),
		Long:                  "Prints the release and what it was built from; with -o json, as JSON.",
		Example:               "  snakes version\n  snakes version -o json",
		Annotations:           asksNobody,
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := noClientFlags(cmd, "output"); err != nil {
				return err
			}
			text := []byte(thisBuild().String())
			if r.output.value == "json" {
				var err error
				if text, err = json.Marshal(thisBuild()); err != nil {
					return fmt.Errorf("encode version: %w", err)
				}
			}
			return r.write(append(text, '\n'))
		},
	}
}

// versionFlag lets root with --version do what the command version does.
func versionFlag(root, version *cobra.Command) {
	wanted := root.Flags().Bool("version", false, "what the command version does")
	run := root.RunE
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if *wanted {
			return version.RunE(cmd, args)
		}
		return run(cmd, args)
	}
}
