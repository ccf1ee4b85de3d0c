//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/protocol7/snakes/node/client"
	"github.com/protocol7/snakes/node/client/load"
	"github.com/protocol7/snakes/test/bench/proc"
)

// nodes is how many each cluster has.
const nodes = 3

// startLimit is how long a cluster may take to gather. It is generous: what is measured is measured elsewhere.
const startLimit = 60 * time.Second

// system is what can be driven: a cluster, or one process.
type system struct {
	name    string
	servers []string // base URLs, one for each process
	// format is its API at these levels of snakes.
	format func(read, write string) load.Format
	// launch starts process i, for the first time or again.
	launch func(i int) (*process, error)
	// ready returns nil when the servers given can do all work and know each other's state.
	ready     func(ctx context.Context, servers []string) error
	processes []*process // nil: not running
}

// start launches all processes and waits until they are ready.
func (s *system) start(ctx context.Context) error {
	s.processes = make([]*process, len(s.servers))
	for i := range s.servers {
		var err error
		if s.processes[i], err = s.launch(i); err != nil {
			return err
		}
	}
	return s.awaitReady(ctx)
}

// close kills what runs.
func (s *system) close() {
	for i, p := range s.processes {
		if p != nil {
			p.kill()
			s.processes[i] = nil
		}
	}
}

// kill ends process i as a crash does.
func (s *system) kill(i int) {
	s.processes[i].kill()
	s.processes[i] = nil
}

// restart launches process i again.
func (s *system) restart(i int) (err error) {
	s.processes[i], err = s.launch(i)
	return err
}

// running returns the servers and the process ids of those that run.
func (s *system) running() (servers []string, pids []int) {
	for i, p := range s.processes {
		if p != nil {
			servers = append(servers, s.servers[i])
			pids = append(pids, p.pid())
		}
	}
	return servers, pids
}

// awaitReady waits until all that run are ready.
func (s *system) awaitReady(ctx context.Context) error {
	servers, _ := s.running()
	return await(ctx, startLimit, s.name+" to be ready", func() error {
		for _, p := range s.processes {
			if p != nil && p.alive() != nil {
				return p.alive()
			}
		}
		return s.ready(ctx, servers)
	})
}

// usage is that of the processes that run, together.
func (s *system) usage() (proc.Usage, error) {
	_, pids := s.running()
	return proc.Sum(pids)
}

// largest returns the memory of the largest process that runs.
func (s *system) largest() (uint64, error) {
	_, pids := s.running()
	var most uint64
	for _, pid := range pids {
		u, err := proc.Of(pid)
		if err != nil {
			return 0, err
		}
		most = max(most, u.RSS)
	}
	return most, nil
}

// settle waits until the processes write nothing for 300 ms, but no longer than three seconds: writes that were put off
// belong to the load that has ended, not to the next one.
func (s *system) settle(ctx context.Context) error {
	begun := time.Now()
	last, err := s.usage()
	for quiet := time.Now(); err == nil && time.Since(quiet) < 300*time.Millisecond && time.Since(begun) < 3*time.Second; {
		if err = pause(ctx, 50*time.Millisecond); err != nil {
			break
		}
		var now proc.Usage
		if now, err = s.usage(); now.Written != last.Written {
			quiet = time.Now()
		}
		last = now
	}
	return err
}

// newSnakes declares three nodes of snakes with data under dir; args are those of each node, if any.
func newSnakes(binary, dir string, args map[int][]string) (*system, error) {
	ports, err := freePorts(nodes)
	if err != nil {
		return nil, err
	}
	s := &system{name: "snakes", format: load.Snakes, ready: snakesReady}
	for _, port := range ports {
		s.servers = append(s.servers, "http://"+loopback(port))
	}
	s.launch = func(i int) (*process, error) {
		line := []string{
			"--port", fmt.Sprint(ports[i]), "--data", filepath.Join(dir, fmt.Sprintf("snakes%d", i)),
			"--cluster", "bench", "--name", fmt.Sprintf("n%d", i),
		}
		if i > 0 {
			line = append(line, "--join", loopback(ports[0]))
		}
		line = append(line, args[i]...)
		return startProcess(fmt.Sprintf("snakes node %d", i), filepath.Join(dir, fmt.Sprintf("snakes%d.log", i)), binary, line...)
	}
	return s, nil
}

// newClosed declares three nodes of snakes that share a secret: all between them is proven and encrypted.
func newClosed(binary, dir string) (*system, error) {
	dir = filepath.Join(dir, "closed")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	secret := filepath.Join(dir, "secret")
	if out, err := exec.Command(binary, "secret", secret).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("draw a secret: %w: %s", err, out)
	}
	line := []string{"--bind", "127.0.0.1", "--secret-file", secret}
	s, err := newSnakes(binary, dir, map[int][]string{0: line, 1: line, 2: line})
	if err == nil {
		s.name = "closed"
	}
	return s, err
}

// snakesReady checks that each of servers is ready and counts as many live members as there are servers, out of three.
func snakesReady(ctx context.Context, servers []string) error {
	for _, server := range servers {
		c, err := client.New(client.Config{Servers: []string{server}})
		if err != nil {
			return err
		}
		defer c.Close()
		m, err := c.Members(ctx)
		if err != nil {
			return err
		}
		if m.Known != nodes || m.Alive != len(servers) {
			return fmt.Errorf("%s knows %d members and %d of them alive", server, m.Known, m.Alive)
		}
		if _, err := c.Raw(ctx, "/-/ready"); err != nil {
			return err
		}
	}
	return nil
}

// awaitSameDigests waits until all nodes of snakes have the same keys at the same versions.
func awaitSameDigests(ctx context.Context, s *system, limit time.Duration) error {
	return await(ctx, limit, "equal digests", func() error {
		var digests []string
		for _, server := range s.servers {
			body, err := get(ctx, server+"/-/digest")
			if err != nil {
				return err
			}
			digest, err := digestOf(body)
			if err != nil {
				return err
			}
			digests = append(digests, digest)
		}
		for _, digest := range digests {
			if digest != digests[0] {
				return fmt.Errorf("digests differ: %v", digests)
			}
		}
		return nil
	})
}

// newEtcd declares three members of etcd with data under dir.
func newEtcd(binary, dir string) (*system, error) {
	ports, err := freePorts(2 * nodes)
	if err != nil {
		return nil, err
	}
	s := &system{name: "etcd", format: etcdFormat, ready: etcdReady}
	cluster := ""
	for i := range nodes {
		s.servers = append(s.servers, "http://"+loopback(ports[i]))
		cluster += fmt.Sprintf(",e%d=http://%s", i, loopback(ports[nodes+i]))
	}
	s.launch = func(i int) (*process, error) {
		peer := "http://" + loopback(ports[nodes+i])
		return startProcess(fmt.Sprintf("etcd member %d", i), filepath.Join(dir, fmt.Sprintf("etcd%d.log", i)), binary,
			"--name", fmt.Sprintf("e%d", i), "--data-dir", filepath.Join(dir, fmt.Sprintf("etcd%d", i)),
			"--listen-client-urls", s.servers[i], "--advertise-client-urls", s.servers[i],
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
			"--initial-cluster", cluster[1:], "--initial-cluster-state", "new",
			"--enable-v2=true", "--logger", "zap", "--log-level", "error",
		)
	}
	return s, nil
}

// etcdFormat is etcd's v2 HTTP API. Its writes are acknowledged by a majority, whatever the level; a read of one node is
// its local one, any other level a quorum read.
func etcdFormat(read, _ string) load.Format {
	return func(op load.Op, key string, value []byte) load.Message {
		target := "/v2/keys/" + key
		switch op {
		case load.Get:
			if read != "1" {
				target += "?quorum=true"
			}
			return load.Message{Method: http.MethodGet, Target: target}
		case load.Delete:
			return load.Message{Method: http.MethodDelete, Target: target}
		default:
			return load.Message{
				Method: http.MethodPut, Target: target, ContentType: "application/x-www-form-urlencoded",
				Body: append([]byte("value="), value...),
			}
		}
	}
}

// etcdReady checks that each of servers passes a quorum read on.
func etcdReady(ctx context.Context, servers []string) error {
	for _, server := range servers {
		if _, err := get(ctx, server+"/v2/keys/?quorum=true"); err != nil {
			return err
		}
	}
	return nil
}

// newBare declares a process of this program that answers a constant. Clients spread over several would not make it
// faster: the processors are shared.
func newBare(self, dir string) (*system, error) {
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	return &system{
		name: "bare", servers: []string{"http://" + loopback(ports[0])}, format: load.Snakes,
		ready: func(ctx context.Context, servers []string) error {
			_, err := get(ctx, servers[0]+"/key")
			return err
		},
		launch: func(int) (*process, error) {
			return startProcess("bare net/http", filepath.Join(dir, "bare.log"), self, bareFlag, loopback(ports[0]))
		},
	}, nil
}

// get returns the body of a 200 answer, which comes within five seconds.
func get(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s: %.200s", url, response.Status, body)
	}
	return body, nil
}
