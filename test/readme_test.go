package test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/protocol7/snakes/test/cluster"
	"github.com/protocol7/snakes/test/readme"
)

// readmePorts are those of README's commands: the default port and the next ones.
var readmePorts = []int{9000, 9001, 9002, 9003}

// README's console blocks do what they show, in their order; package readme says how they are written. Its commands are
// run by the built binary, also where they say "go run ./cmd/snakes". A node counts as started when it is ready.
func TestReadmeCommandsDoWhatItSays(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	must(t, err)
	blocks, err := readme.Parse(string(text))
	must(t, err)
	if len(blocks) == 0 {
		t.Fatal("README.md has no console block")
	}
	if _, err := exec.LookPath("curl"); err != nil {
		cluster.Missing(t, "README's commands need curl: %v", err)
	}
	awaitReadmePorts(t)

	err = readme.Run(t.Context(), blocks, readme.Options{
		Dir:     t.TempDir(),
		Path:    filepath.Dir(cluster.Binary(t)),
		Rewrite: func(command string) string { return strings.ReplaceAll(command, "go run ./cmd/snakes", "snakes") },
		Answers: readyNodes,
		Logf:    t.Logf,
	})
	if errors.Is(err, readme.ErrNoShell) {
		cluster.Missing(t, "README's commands need bash")
	}
	must(t, err)
}

// awaitReadmePorts waits until nobody else, such as another package's test, has the ports.
func awaitReadmePorts(t *testing.T) {
	t.Helper()
	for start := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		var err error
		for _, port := range readmePorts {
			err = errors.Join(err, listenable(port))
		}
		if err == nil {
			return
		}
		if time.Since(start) > 20*time.Second {
			cluster.Missing(t, "README's commands need ports 9000 to 9003, and one is taken by another program: %v", err)
		}
	}
}

func listenable(port int) error {
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	u, err := net.ListenPacket("udp", address)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	return errors.Join(l.Close(), u.Close())
}

// readyNodes waits until the nodes that a command starts are ready. A command that starts none is not waited for.
func readyNodes(ctx context.Context, command string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	scheme := "http"
	if strings.Contains(command, "--tls-cert") {
		scheme = "https"
	}
	for _, port := range portsOf(command) {
		url := fmt.Sprintf("%s://127.0.0.1:%d/-/ready", scheme, port)
		for {
			err := ready(ctx, url)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return fmt.Errorf("the node at port %d is not ready: %w", port, err)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return nil
}

func ready(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} // it is asked for nothing but this
	answer, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, answer.Status)
	}
	return errors.Join(err, answer.Body.Close())
}

// portsOf returns the ports of the nodes that a command line starts: of snakes without a subcommand the one after -p,
// of snakes demo one for each node.
func portsOf(command string) []int {
	words := strings.Fields(strings.ReplaceAll(command, "go run ./cmd/snakes", "snakes"))
	for len(words) > 0 && strings.Contains(words[0], "=") { // environment
		words = words[1:]
	}
	if len(words) == 0 || filepath.Base(words[0]) != "snakes" {
		return nil
	}
	port, nodes := 9000, 1
	if len(words) > 1 && words[1] == "demo" {
		nodes = 3
	}
	for i, word := range words {
		name, value, inline := strings.Cut(word, "=")
		if !inline && i+1 < len(words) {
			value = words[i+1]
		}
		number, err := strconv.Atoi(value)
		if err != nil {
			continue
		}
		switch name {
		case "-p", "--port":
			port = number
		case "--nodes":
			nodes = number
		}
	}
	var ports []int
	for i := range nodes {
		ports = append(ports, port+i)
	}
	return ports
}

func TestPortsOfReadmeCommands(t *testing.T) {
	t.Parallel()
	for command, want := range map[string]string{
		"snakes":              "[9000]",
		"go run ./cmd/snakes": "[9000]",
		"go run ./cmd/snakes -p 9001 -d data2 --join 127.0.0.1:9000": "[9001]",
		"SNAKES_X=1 ./snakes --port=9002":                            "[9002]",
		"snakes demo":                                                "[9000 9001 9002]",
		"snakes demo --nodes 2":                                      "[9000 9001]",
		"curl -N http://localhost:9000/-/watch":                      "[]",
	} {
		if got := fmt.Sprint(portsOf(command)); got != want {
			t.Errorf("%s: got ports %s, want %s", command, got, want)
		}
	}
}
