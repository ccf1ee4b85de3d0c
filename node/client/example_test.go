package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/protocol7/snakes/node/client"
)

func Example() {
	c, err := client.New(client.Config{Servers: []string{"http://127.0.0.1:9000", "http://127.0.0.1:9001"}})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()

	if _, err := c.Put(ctx, "greeting", client.Value{Data: []byte("hello")}, client.Quorum); err != nil {
		log.Fatal(err)
	}
	value, receipt, err := c.Get(ctx, "greeting", client.Default)
	switch {
	case errors.Is(err, client.ErrNotFound):
		fmt.Println("nobody greets")
	case errors.Is(err, client.ErrQuorum):
		fmt.Println("too few members are alive:", err)
	case err != nil:
		log.Fatal(err)
	default:
		fmt.Printf("%s, say %d of %d members\n", value.Data, receipt.Acks, receipt.N)
	}
}
