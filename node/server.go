package node

import (
	"net/http"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	// headerTime is how long a client may take to send the headers of a request.
	headerTime = 10 * time.Second
	// idleTime is how long a connection may wait for its next request.
	idleTime = 2 * time.Minute
	// maxHeader is the size in bytes of the largest header of a request or answer. The
	// longest key and all headers that mean something here take less than 2 KiB.
	maxHeader = 32 << 10
)

// newServer returns the server of handler. It limits how long a client may take for the headers of a request and until the
// next one; how slow it may be with a body is for the handler, see progressTime.
func newServer(handler http.Handler, log hclog.Logger) *http.Server {
	if log == nil {
		log = hclog.NewNullLogger()
	}
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          log.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Warn}),
		// "OPTIONS *" takes the way of all requests.
		DisableGeneralOptionsHandler: true,
	}
	watchConnections(server)
	return server
}
