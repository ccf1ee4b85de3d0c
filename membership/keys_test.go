package membership

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/protocol7/snakes/membership/transport"
)

func key(n int) []byte { return bytes.Repeat([]byte{byte(n)}, keyBytes) }

// Whatever was there before, the ring has what was asked for, and those who decrypt meanwhile read whole keys.
func TestKeysAreReplacedWhileTheyAreRead(t *testing.T) {
	ring, err := newKeyring([][]byte{key(1)})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-ended:
					return
				default:
				}
				for _, k := range ring.GetKeys() { // as memberlist does, without its lock
					if len(k) != keyBytes {
						t.Errorf("got a key of %d bytes", len(k))
					}
				}
			}
		})
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		var want [][]byte
		for _, n := range random.Perm(5)[:1+random.IntN(4)] {
			want = append(want, key(n))
		}
		if err := setKeys(ring, want); err != nil {
			t.Fatal(err)
		}
		got := ring.GetKeys()
		if !bytes.Equal(got[0], want[0]) {
			t.Fatalf("got first key %x, want %x", got[0][:1], want[0][:1])
		}
		got = slices.SortedFunc(slices.Values(got), bytes.Compare)
		if slices.SortFunc(want, bytes.Compare); !slices.EqualFunc(got, want, bytes.Equal) {
			t.Fatalf("got keys %x, want %x", got, want)
		}
	}
	close(ended)
	readers.Wait()
}

func TestKeysThatMakeNoSenseAreRefused(t *testing.T) {
	config := Config{
		ID: nodeID("5"), Origin: 1, Name: "node-5", Cluster: "test", Address: "127.0.0.1:9005", Keys: [][]byte{key(1), {1, 2, 3}},
		Transport: new(transport.Transport), Storage: storage{}, Link: nobody{},
	}
	if _, err := New(config); err == nil || !strings.Contains(err.Error(), "key 2 has 3 bytes") {
		t.Errorf("got error %v, want one for key 2", err)
	}
	config.Keys = [][]byte{key(1)}
	m, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	for _, keys := range [][][]byte{nil, {}, {key(2), key(3)[:31]}} {
		if err := m.SetKeys(keys); err == nil {
			t.Errorf("SetKeys(%d keys): got no error", len(keys))
		}
		if got := m.keyring.GetKeys(); len(got) != 1 || !bytes.Equal(got[0], key(1)) {
			t.Errorf("SetKeys(%d keys) changed the keys and returned an error", len(keys))
		}
	}
	open, _ := alone(t)
	if err := open.SetKeys([][]byte{key(1)}); err == nil {
		t.Error("SetKeys of a node without keys: got no error; the others would not understand it")
	}
}

// measured is a transport that knows the size of the largest packet that was sent.
type measured struct {
	*transport.Transport
	largest *atomic.Int64
}

func (m measured) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	for {
		largest := m.largest.Load()
		if int64(len(b)) <= largest || m.largest.CompareAndSwap(largest, int64(len(b))) {
			return m.Transport.WriteToAddress(b, a)
		}
	}
}

// Larger ones would be dropped on the way in some networks, and members taken for dead.
func TestPacketsAreSmallEnoughForEveryNetwork(t *testing.T) {
	for name, keys := range map[string][][]byte{"open": nil, "encrypted": {key(1), key(2)}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var largest atomic.Int64
			var lists []*memberlist.Memberlist
			var first string
			for i := range 12 {
				tr, err := transport.Listen(transport.Config{Bind: "127.0.0.1:0"})
				if err != nil {
					t.Fatal(err)
				}
				defer tr.Close()
				m, err := New(Config{
					ID: fmt.Sprintf("%032x", rand.Uint64()), Origin: 1, Name: strings.Repeat("n", 63), Cluster: strings.Repeat("c", 63),
					Address: tr.Addr().String(), Version: strings.Repeat("v", 32), Keys: keys,
					Transport: tr, Storage: storage{}, Link: nobody{}, Pace: 50 * time.Millisecond,
				})
				if err != nil {
					t.Fatal(err)
				}
				m.self.Seeks = true // so that clusters of one mix
				config, err := m.listConfig()
				if err != nil {
					t.Fatal(err)
				}
				config.Transport = measured{tr, &largest}
				config.EnableCompression = false // as if nothing could be compressed
				list, err := memberlist.Create(config)
				if err != nil {
					t.Fatal(err)
				}
				defer list.Shutdown()
				lists = append(lists, list)
				if i == 0 {
					first = net.JoinHostPort("127.0.0.1", fmt.Sprint(tr.Addr().Port()))
				} else if _, err := list.Join([]string{first}); err != nil {
					t.Fatal(err)
				}
			}
			deadline := time.Now().Add(20 * time.Second)
			for slices.ContainsFunc(lists, func(l *memberlist.Memberlist) bool { return l.NumMembers() < len(lists) }) {
				if time.Now().After(deadline) {
					t.Fatal("the nodes do not find each other")
				}
				time.Sleep(5 * time.Millisecond) // between two looks
			}
			if got := largest.Load(); got > maxPacket || got < maxPacket*3/4 {
				t.Errorf("got a largest packet of %d bytes, want more than three quarters of %d and no more than that", got, maxPacket)
			}
		})
	}
}
