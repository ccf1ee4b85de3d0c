package membership

import (
	"strings"
	"testing"

	"github.com/hashicorp/memberlist"
)

func TestInfoFitsIntoGossip(t *testing.T) {
	largest := info{
		Name: strings.Repeat("n", 63), Address: strings.Repeat("a", 249) + ":65535", Version: strings.Repeat("v", 32),
		Cluster: strings.Repeat("c", 32), Counted: true, Seeks: true, Synced: true, Draining: true, Stopped: true, At: -1 << 63,
	}
	b := largest.encode()
	if len(b) > memberlist.MetaMaxSize {
		t.Fatalf("largest info has %d bytes, memberlist takes %d", len(b), memberlist.MetaMaxSize)
	}
	largest.Cluster = strings.Repeat("c", 32)
	if got, err := decodeInfo(b); err != nil || got != largest {
		t.Errorf("read back: got %+v, %v", got, err)
	}
}

func TestInfoThatMakesNoSenseIsRefused(t *testing.T) {
	for _, b := range []string{
		``, `{}`, `[]`, `{"n":"a","a":"127.0.0.1:0"}`, `{"n":"A b","a":"127.0.0.1:1"}`, `{"n":"a","a":"127.0.0.1:1","c":"x"}`,
	} {
		if i, err := decodeInfo([]byte(b)); err == nil {
			t.Errorf("%s: got %+v, want an error", b, i)
		}
	}
}

func FuzzDecodeInfo(f *testing.F) {
	f.Add([]byte(`{"n":"a","a":"127.0.0.1:9000","v":"1","c":"0123456789abcdef0123456789abcdef","t":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if i, err := decodeInfo(b); err == nil {
			i.encode() // panics if it is too large to be passed on
		}
	})
}
