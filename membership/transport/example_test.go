package transport_test

import (
	"fmt"
	"io"
	"log"
	"net/http"

	"github.com/hashicorp/memberlist"

	"github.com/protocol7/snakes/membership/transport"
)

func Example() {
	port, err := transport.Listen(transport.Config{Bind: "127.0.0.1:0"})
	if err != nil {
		log.Fatal(err)
	}
	defer port.Close()

	gossip := memberlist.DefaultLocalConfig()
	gossip.Name = "a"
	gossip.Label = "snakes" // required: its header tells gossip from requests
	gossip.Transport = port
	gossip.Logger = log.New(io.Discard, "", 0)
	members, err := memberlist.Create(gossip)
	if err != nil {
		log.Fatal(err)
	}
	defer members.Shutdown()

	server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "members:", members.NumMembers())
	})}
	go server.Serve(port.Requests())
	defer server.Close()

	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + members.LocalNode().Address())
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	fmt.Print(string(body))
	// Output: members: 1
}
