package replication_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/storetest"
	"github.com/protocol7/snakes/replication/version"
)

// A cluster of one, whose only other member has died.
func ExampleCoordinator() {
	members := newMembers("a", "ab")
	members.live("b", false)
	memory, err := replication.OpenMemory(new(states), nil)
	if err != nil {
		panic(err)
	}
	c, err := replication.New(replication.Config{
		Store: new(storetest.Memory), Members: members, Peers: new(peers),
		Clock: version.NewClock(nil, version.Timestamp{}), Origin: 7, Memory: memory,
	})
	if err != nil {
		panic(err)
	}
	defer c.Close()

	receipt, err := c.Put(context.Background(), "foo", []byte("bar"), "text/plain", replication.LevelOne)
	fmt.Println(receipt.Acks, "of", receipt.N, err)

	_, err = c.Put(context.Background(), "foo", []byte("baz"), "text/plain", replication.LevelQuorum)
	var missed *replication.QuorumError
	if errors.As(err, &missed) {
		fmt.Println("need", missed.Need, "alive", missed.Alive, "written:", missed.Written)
	}

	record, _, err := c.Get(context.Background(), "foo", replication.LevelOne)
	fmt.Println(string(record.Value), err)
	// Output:
	// 1 of 2 <nil>
	// need 2 alive 1 written: no
	// bar <nil>
}

func BenchmarkPut(b *testing.B) {
	cl := newCluster(b, "abc", setup{})
	value := make([]byte, 256)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := cl["a"].Put(context.Background(), "foo", value, "text/plain", replication.LevelAll); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkGet(b *testing.B) {
	cl := newCluster(b, "abc", setup{})
	if _, err := cl["a"].Put(context.Background(), "foo", make([]byte, 256), "text/plain", replication.LevelAll); err != nil {
		b.Fatal(err)
	}
	for _, level := range []replication.Level{1, 2, 3} {
		b.Run("r="+level.String(), func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, _, err := cl["a"].Get(context.Background(), "foo", level); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
