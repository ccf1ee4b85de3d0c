//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is one server under test.
type process struct {
	name  string
	cmd   *exec.Cmd
	log   string        // the file that has what it printed
	ended chan struct{} // closed when it is gone
}

// startProcess runs binary. It is killed when this process ends, however that happens; because of how Linux does that,
// all are started by the main goroutine, which stays on the main thread.
func startProcess(name, log, binary string, args ...string) (*process, error) {
	output, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer output.Close()
	p := &process{name: name, cmd: exec.Command(binary, args...), log: log, ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = output, output
	// A process group of its own: Ctrl-C is for us, and we end it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "SNAKES_") && !strings.HasPrefix(variable, "ETCD_") {
			p.cmd.Env = append(p.cmd.Env, variable)
		}
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait() // who waits for its end knows whether it should have
		close(p.ended)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) signal(s syscall.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("signal %v to %s: %w", s, p.name, err)
	}
	return nil
}

// kill ends the process at once and waits until it is gone. Killing one that is gone is harmless.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended already
	<-p.ended
}

// stop asks the process to end, and kills it if it has not after half a minute, which is an error.
func (p *process) stop() error {
	if err := p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.ended:
		return nil
	case <-time.After(30 * time.Second):
		p.kill()
		return fmt.Errorf("%s has not ended 30 s after SIGTERM", p.name)
	}
}

// alive returns an error with the end of its log if the process has ended.
func (p *process) alive() error {
	select {
	case <-p.ended:
	default:
		return nil
	}
	text, err := os.ReadFile(p.log)
	if err != nil {
		text = []byte(err.Error())
	}
	return fmt.Errorf("%s has ended: %s", p.name, text[max(0, len(text)-1000):])
}

// await calls check until it returns nil.
func await(ctx context.Context, limit time.Duration, what string, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("wait for %s: %w", what, context.Cause(ctx)), err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// freePorts returns n ports of the loopback address that are free for TCP and UDP. They are below those that Linux gives
// to outgoing connections, one of which could otherwise take the port of a node that is down.
func freePorts(n int) ([]int, error) {
	var ports []int
	for port := 20000 + os.Getpid()%100*100; port < 32000; port++ {
		if len(ports) == n {
			return ports, nil
		}
		tcp, err := net.Listen("tcp", loopback(port))
		if err != nil {
			continue
		}
		udp, err := net.ListenPacket("udp", loopback(port))
		if err == nil {
			err = udp.Close()
		}
		if errors.Join(err, tcp.Close()) == nil {
			ports = append(ports, port)
		}
	}
	return nil, errors.New("no free ports below 32000")
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
