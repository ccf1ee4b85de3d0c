package faults

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/protocol7/snakes/test/volume"
)

// diskFaults are about disks that lose power, fill up, fail or rot.
var diskFaults = []fault{
	onVolumes("power cut of one", lasting(200*time.Millisecond, 800*time.Millisecond), func(s *subject, random *rand.Rand) injury {
		return s.powerCut(random.IntN(len(s.nodes)))
	}),
	onVolumes("power cut of all", lasting(0, 300*time.Millisecond), func(s *subject, random *rand.Rand) injury {
		return s.powerCut(random.Perm(len(s.nodes))...)
	}),
	onVolumes("disk gone", lasting(time.Second, 2*time.Second), breaking((*volume.Volume).Cut)),
	onVolumes("disk read-only", lasting(time.Second, 2*time.Second), breaking((*volume.Volume).Forbid)),
	onVolumes("disk full", lasting(time.Second, 2*time.Second), filling(0)),
	onVolumes("disk nearly full", lasting(time.Second, 2*time.Second), filling(600<<10)),
	onVolumes("no inodes", lasting(time.Second, 2*time.Second), filling(-1)),
	tampering("EIO on sync", "fdatasync,fsync,syncfs", "error=EIO:when=%d+"),
	tampering("EIO on write", "pwrite64,ftruncate,fallocate", "error=EIO:when=%d+"),
	tampering("EIO on rename", "renameat,renameat2,unlinkat,mkdirat", "error=EIO:when=%d+"),
	tampering("slow sync", "fdatasync,fsync,syncfs", "delay_enter=150000"),
	rotting("damaged values", "keys/*/*"),
	rotting("damaged journal", "journal/*"),
	rotting("damaged index", "index-?"),
	rotting("damaged state", "state/*", "begin"),
	rotting("damaged identity", "node", "format"),
}

func privateMounts() error { return volume.PrivateMounts() }

// volumeBytes is the size of a node's disk.
const volumeBytes = 96 << 20

func must(t interface{ Fatal(...any) }, err error) {
	if err != nil {
		t.Fatal(err)
	}
}

// onVolumes is a fault of nodes that have a file system of their own each.
func onVolumes(name string, hold [2]time.Duration, inject func(s *subject, random *rand.Rand) injury) fault {
	return fault{name: name, hold: hold, inject: inject, prepare: mountVolumes}
}

// mountVolumes gives each node a file system for its data.
func mountVolumes(s *subject, mount string) error {
	options := strings.TrimSuffix("errors=remount-ro,"+mount, ",")
	for i, n := range s.Nodes() {
		v, err := volume.New(s.t.TempDir(), options, volumeBytes)
		if err != nil {
			return err
		}
		s.volumes = append(s.volumes, v)
		s.t.Cleanup(func() {
			if n.Running() {
				n.Kill()
			}
			if err := v.Close(); err != nil {
				s.t.Errorf("close the file system of n%d: %v", i, err)
			}
		})
		n.Data = filepath.Join(v.Dir, "data")
	}
	return nil
}

// powerCut takes the power from nodes, one shortly after the other. What a node says from then on counts as not said: a sync that
// is under way when the power goes may return success, see volume.Volume.Cut.
func (s *subject) powerCut(victims ...int) injury {
	for _, v := range victims {
		must(s.t, s.volumes[v].Cut())
	}
	for _, v := range victims {
		s.Node(v).End()
	}
	return injury{victims: victims, doubtful: true, what: fmt.Sprintf("no power for %v", victims), heal: func() {
		for _, v := range victims {
			must(s.t, s.volumes[v].Restore())
		}
		s.StartAll()
	}}
}

// breaking has one disk fail for good; the node runs on until it is replaced.
func breaking(how func(*volume.Volume) error) func(*subject, *rand.Rand) injury {
	return func(s *subject, random *rand.Rand) injury {
		v := random.IntN(len(s.nodes))
		must(s.t, how(s.volumes[v]))
		return injury{victims: []int{v}, doubtful: true, what: fmt.Sprintf("the disk of n%d broken", v), heal: func() {
			s.Node(v).End()
			must(s.t, s.volumes[v].Restore())
			s.Node(v).Start()
		}}
	}
}

// filling takes the room of one disk but for some bytes, or all its inodes.
func filling(but int64) func(*subject, *rand.Rand) injury {
	return func(s *subject, random *rand.Rand) injury {
		v := random.IntN(len(s.nodes))
		must(s.t, s.volumes[v].Fill(but))
		return injury{victims: []int{v}, what: fmt.Sprintf("the disk of n%d full", v), heal: func() { must(s.t, s.volumes[v].Empty()) }}
	}
}

// tampering has system calls of one node fail or take long, from the nth of a thread on if the verb says so. The node is
// restarted after that.
func tampering(name, calls, verb string) fault {
	return fault{
		name: name, hold: lasting(time.Second, 2*time.Second),
		needs: func() error {
			_, err := exec.LookPath("strace")
			return err
		},
		inject: func(s *subject, random *rand.Rand) injury {
			v := random.IntN(len(s.nodes))
			how := verb
			if strings.Contains(verb, "%d") {
				how = fmt.Sprintf(verb, 1+random.IntN(5))
			}
			stop, err := tamper(s.Node(v).PID(), calls, how)
			must(s.t, err)
			return injury{victims: []int{v}, what: fmt.Sprintf("%s of n%d: %s", calls, v, how), heal: func() {
				s.Node(v).End()
				must(s.t, stop())
				s.Node(v).Start()
			}}
		},
	}
}

// tamper attaches strace to a process and returns when it is attached.
func tamper(pid int, calls, how string) (stop func() error, err error) {
	cmd := exec.Command("strace", "-f", "-o", "/dev/null", "-p", fmt.Sprint(pid), "-e", "trace="+calls, "-e", "inject="+calls+":"+how)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	said, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(said)
	if !lines.Scan() || !strings.Contains(lines.Text(), "attached") {
		return nil, errors.Join(fmt.Errorf("strace says %q", lines.Text()), cmd.Process.Kill(), cmd.Wait())
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		for lines.Scan() { // else it would wait for a reader
		}
	}()
	return func() error { // its process has ended
		<-drained
		if err := cmd.Wait(); err != nil && cmd.ProcessState.ExitCode() != 0 && cmd.ProcessState.Exited() {
			return fmt.Errorf("strace: %w", err)
		}
		return nil
	}, nil
}

// rotting flips bits in files of a node that does not run, or cuts them. A node that refuses to start then, and says why, gets an
// empty disk.
func rotting(name string, patterns ...string) fault {
	return fault{
		name: name, hold: lasting(200*time.Millisecond, 800*time.Millisecond),
		inject: func(s *subject, random *rand.Rand) injury {
			v := random.IntN(len(s.nodes))
			n := s.Node(v)
			n.Kill()
			done, err := rot(n.Data, patterns, random)
			must(s.t, err)
			return injury{victims: []int{v}, diskLost: true, what: fmt.Sprintf("n%d: %s", v, done), heal: func() { s.revive(v) }}
		},
	}
}

// rot damages some of the files in dir and says which.
func rot(dir string, patterns []string, random *rand.Rand) (string, error) {
	var files []string
	for _, pattern := range patterns {
		matches, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return "", err
		}
		files = append(files, matches...)
	}
	random.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
	var what []string
	for _, path := range files[:min(len(files), 1+random.IntN(3))] {
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) || len(data) == 0 {
			continue
		}
		if random.IntN(3) == 0 {
			data = data[:random.IntN(len(data))]
		} else {
			for range 1 + random.IntN(8) {
				data[random.IntN(len(data))] ^= 1 << random.IntN(8)
			}
		}
		if err := errors.Join(err, os.WriteFile(path, data, 0o600)); err != nil {
			return "", err
		}
		what = append(what, strings.TrimPrefix(path, dir+"/"))
	}
	return "damaged " + strings.Join(what, ", "), nil
}

// revive starts a node. If it refuses, it has to say why, and starts with an empty disk.
func (s *subject) revive(v int) {
	n := s.Node(v)
	logged := len(n.Log())
	n.Launch()
	for deadline := time.Now().Add(settleLimit); n.Running(); time.Sleep(5 * time.Millisecond) {
		if n.Do(http.MethodGet, "/-/healthy", "").Err == nil {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s neither answers nor ends", n)
		}
	}
	code, said := n.AwaitExit(time.Second), strings.TrimSpace(n.Log()[logged:])
	if code != 1 || said == "" || strings.Contains(said, "goroutine ") {
		s.t.Errorf("%s refused its damaged data with exit code %d and %q, want 1 and a reason", n, code, said)
	}
	lines := slices.Collect(strings.Lines(said))
	s.t.Logf("%s refuses: %s", n, strings.TrimSpace(lines[len(lines)-1]))
	n.Wipe()
	n.Start("--join", s.Node((v+1)%len(s.nodes)).Addr())
}
