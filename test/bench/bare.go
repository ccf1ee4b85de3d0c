//go:build linux

package main

import (
	"io"
	"net/http"
	"strconv"

	"github.com/gorilla/mux"

	"github.com/protocol7/snakes/node/client/load"
)

// bareFlag makes this program the ceiling: an HTTP server without a store at the address that follows.
const bareFlag = "-serve-bare"

// serveBare answers until the process is killed: a constant of 256 bytes to every GET, and 201 to every PUT, whose body
// it reads.
func serveBare(address string) error {
	value := load.Value(baseSize)
	r := mux.NewRouter().SkipClean(true).UseEncodedPath()
	r.HandleFunc("/{key}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.Itoa(len(value)))
		_, _ = w.Write(value) // a client that is gone needs no answer
	}).Methods(http.MethodGet)
	r.HandleFunc("/{key}", func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			return // the client is gone
		}
		w.WriteHeader(http.StatusCreated)
	}).Methods(http.MethodPut)
	return http.ListenAndServe(address, r)
}
