package node

import (
	"net/http"
	"slices"
	"strings"

	"github.com/hashicorp/go-hclog"
)

// logLevels are those that a node can be told to log at.
var logLevels = []string{"trace", "debug", "info", "warn", "error"}

func (a *api) logLevel(w *response, r *http.Request) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	return w.send(http.StatusOK, plainText, []byte(a.Log.GetLevel().String()+"\n"))
}

// setLogLevel changes how much is logged until the process ends. The guard asks for an admin: debug
// lines hold keys.
func (a *api) setLogLevel(w *response, r *http.Request) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	body, err := w.body(r, 16, a.sent)
	if err != nil {
		return err
	}
	level := strings.ToLower(strings.TrimSpace(string(body)))
	if !slices.Contains(logLevels, level) {
		return refuse(errBadParameter, "The body is a level: %s.", strings.Join(logLevels, ", "))
	}
	before := a.Log.GetLevel()
	a.Log.SetLevel(hclog.LevelFromString(level))
	a.Log.Log(max(hclog.Info, hclog.LevelFromString(level)), "log level changed", "level", level, "before", before.String())
	w.WriteHeader(http.StatusNoContent)
	return nil
}
