package cluster

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test binary is its own fake node: with SNAKES_FAKE in its environment it serves HTTP instead of running tests.
// Fake nodes know each other by files beside their data directories and call a member alive when it takes connections.
func TestMain(m *testing.M) {
	if mode := os.Getenv("SNAKES_FAKE"); mode != "" {
		if err := runFake(mode, os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(Main(m))
}

// fakeCluster declares a cluster of fake nodes. The mode is "good", or what is wrong with them.
func fakeCluster(t testing.TB, nodes int, network Network, mode string) *Cluster {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return New(t, Options{Nodes: nodes, Network: network, Binary: self, Env: []string{"SNAKES_FAKE=" + mode}})
}

type fake struct {
	name, address, data string
}

func runFake(mode string, args []string) error {
	flags := flag.NewFlagSet("fake", flag.ContinueOnError)
	port := flags.String("port", "", "")
	data := flags.String("data", "", "")
	name := flags.String("name", "", "")
	bind := flags.String("bind", "127.0.0.1", "")
	flags.String("cluster", "", "")
	flags.String("join", "", "")
	flags.Bool("insecure", false, "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch mode {
	case "exits":
		return fmt.Errorf("exit by request")
	case "races":
		fmt.Fprintln(os.Stderr, "WARNING: DATA RACE")
	}
	f := fake{name: *name, address: net.JoinHostPort(*bind, *port), data: *data}
	if err := os.MkdirAll(filepath.Join(f.data, "keys"), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(f.data+".member", []byte(f.address), 0o600); err != nil {
		return err
	}
	log.Println("fake node at", f.address)

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	server := http.Server{Addr: f.address, Handler: f}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	if mode == "dies badly" {
		return fmt.Errorf("no good end")
	}
	return server.Close()
}

func (f fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/-/healthy":
	case r.URL.Path == "/-/members":
		f.members(w)
	case r.URL.Path == "/-/digest":
		entries, _ := os.ReadDir(filepath.Join(f.data, "keys"))
		fmt.Fprintf(w, `{"digest":"%d","keys":%d,"seen":{}}`, len(entries), len(entries))
	case r.Method == http.MethodPut:
		body, _ := io.ReadAll(r.Body)
		if err := os.WriteFile(filepath.Join(f.data, "keys", filepath.Base(r.URL.Path)), body, 0o600); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusCreated)
	default:
		value, err := os.ReadFile(filepath.Join(f.data, "keys", filepath.Base(r.URL.Path)))
		if err != nil {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprintf(w, `{"type":"urn:snakes:error:not-found","title":"t","status":404,"detail":"d","node":"n","request_id":"i"}`+"\n")
			return
		}
		_, _ = w.Write(value)
	}
}

func (f fake) members(w io.Writer) {
	files, _ := filepath.Glob(filepath.Join(filepath.Dir(f.data), "*.member"))
	m := Members{Self: f.name, Known: len(files)}
	for _, file := range files {
		address, _ := os.ReadFile(file)
		member := Member{Name: strings.TrimSuffix(filepath.Base(file), ".member"), Address: string(address), State: "failed", Synced: true}
		if conn, err := net.DialTimeout("tcp", member.Address, 300*time.Millisecond); err == nil {
			_ = conn.Close()
			member.State = "alive"
			m.Alive++
		}
		m.Members = append(m.Members, member)
	}
	_ = json.NewEncoder(w).Encode(m)
}
