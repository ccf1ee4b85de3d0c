package disk_test

import (
	"fmt"
	"log"
	"os"

	"github.com/protocol7/snakes/disk"
	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/version"
)

func Example() {
	dir, err := os.MkdirTemp("", "snakes")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	store, err := disk.Open(disk.Config{Dir: dir})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()

	const origin = 42 // drawn at random by a real process
	floor, err := store.Begin(origin)
	if err != nil {
		log.Fatal(err)
	}
	clock := version.NewClock(nil, floor)
	record := replication.Record{
		Key:         "greeting",
		Version:     version.Version{Timestamp: clock.Next(), Dot: version.Dot{Origin: origin, Counter: 1}},
		ContentType: "text/plain",
		Value:       []byte("hello"),
	}
	for _, outcome := range store.Apply([]replication.Record{record}) {
		fmt.Println("stored:", outcome.Err == nil && outcome.Current == record.Meta())
	}
	got, err := store.Get("greeting")
	fmt.Println(string(got.Value), err)
	fmt.Println("seen:", store.Seen())
	// Output:
	// stored: true
	// hello <nil>
	// seen: 2a:1
}
