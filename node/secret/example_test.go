package secret_test

import (
	"fmt"

	"github.com/protocol7/snakes/node/secret"
)

func ExampleParse() {
	secrets, err := secret.Parse([]byte("the new one of some length\nthe old one of some length\n"))
	fmt.Println(secrets, err)
	_, err = secret.Parse([]byte("hunter2\n"))
	fmt.Println(err)
	// Output:
	// 2 secrets <nil>
	// line 1 has 7 bytes; a secret has at least 16, and is drawn, not made up: snakes secret
}
