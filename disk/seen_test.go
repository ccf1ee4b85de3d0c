package disk

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/version"
)

func TestEveryWholeEntryOfALogIsTaken(t *testing.T) {
	versions := []version.Version{at(1), at(2), {Dot: version.Dot{Origin: 7}}, at(4)}
	log := append(encodeLog(versions), make([]byte, 3*entrySize)...)
	got, torn := parseLog(log)
	if !slices.Equal(got, versions) || torn != 0 {
		t.Errorf("got %v and %d torn, want %v", got, torn, versions)
	}
	for bit := range 8 * entrySize { // of the second entry
		damaged := bytes.Clone(log)
		damaged[entrySize+bit/8] ^= 1 << (bit % 8)
		got, torn := parseLog(damaged)
		if want := slices.Concat(versions[:1], versions[2:]); !slices.Equal(got, want) || torn != 1 {
			t.Fatalf("bit %d: got %v and %d torn, want %v and 1", bit, got, torn, want)
		}
	}
	if got, torn := parseLog(log[:2*entrySize-1]); len(got) != 1 || torn != 1 {
		t.Errorf("cut log: got %v and %d torn, want one each", got, torn)
	}
}

func TestWaitersShareASync(t *testing.T) {
	files := newMemFS()
	s := mustOpen(t, Config{fs: files})
	syncs, holding, hold := 0, make(chan struct{}), make(chan struct{})
	files.on = func(st step) error {
		if st.op == "sync" && st.name == logFile {
			if syncs++; syncs == 1 {
				close(holding)
				<-hold
			}
		}
		return nil
	}
	const writers = 50
	done := make(chan error)
	add := func(n int) { done <- s.seen.add(at(n)) }
	go add(1)
	<-holding
	for n := 2; n <= writers; n++ {
		go add(n)
	}
	for waiting := 0; waiting < writers-1; {
		s.seen.mu.Lock()
		waiting = len(s.seen.pending)
		s.seen.mu.Unlock()
		runtime.Gosched()
	}
	if got := s.Seen().Counters(7); got != "" {
		t.Errorf("seen before the sync: got %s, want nothing", got)
	}
	close(hold)
	for range writers {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if got := s.Seen().Counters(7); got != "1-50" || syncs != 2 {
		t.Errorf("got %s after %d syncs, want 1-50 after 2", got, syncs)
	}
}

func TestTheLogStartsOverWithoutForgetting(t *testing.T) {
	files := newMemFS()
	s := mustOpen(t, Config{fs: files, logEntries: 8})
	order := rand.New(rand.NewPCG(1, 2)).Perm(100)
	for len(order) > 0 {
		n := min(1+len(order)%12, len(order)) // also more at once than the log holds
		var batch []version.Version
		for _, i := range order[:n] {
			batch = append(batch, at(i+1))
		}
		if err := s.seen.add(batch...); err != nil {
			t.Fatal(err)
		}
		order = order[n:]
	}
	if node, _, _ := files.find(logFile); len(node.data) != 8*entrySize {
		t.Errorf("log: got %d bytes, want %d", len(node.data), 8*entrySize)
	}
	if got := mustOpen(t, Config{fs: files.kill(), logEntries: 8}).Seen().Counters(7); got != "1-100" {
		t.Errorf("seen: got %s, want 1-100", got)
	}
}

func FuzzDecodeHistory(f *testing.F) {
	for _, h := range []history{
		{seen: new(seen.Set)},
		{seen: seen.Of(at(1).Dot, at(9).Dot), own: map[uint64]bool{3: true, 7: true}, floor: at(9).Timestamp},
	} {
		f.Add(h.encode())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := decodeHistory(data)
		if err == nil && !bytes.Equal(h.encode(), data) {
			t.Fatalf("accepted %x, which is written as %x", data, h.encode())
		}
	})
}

func FuzzParseLog(f *testing.F) {
	f.Add(encodeLog([]version.Version{at(1), at(2)}))
	f.Add(make([]byte, 2*entrySize+1))
	f.Fuzz(func(t *testing.T, data []byte) {
		versions, torn := parseLog(data)
		if len(versions)+torn > len(data)/entrySize+1 {
			t.Fatalf("%d versions and %d torn entries out of %d bytes", len(versions), torn, len(data))
		}
		if again, torn := parseLog(encodeLog(versions)); !slices.Equal(again, versions) || torn > 0 {
			t.Fatalf("%v is read back as %v", versions, again)
		}
	})
}
