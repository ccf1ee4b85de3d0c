package power

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/protocol7/snakes/replication/version"
)

// How many keys there are: few enough that most writes find something to replace. The hot ones
// take a quarter of all requests.
const (
	coldKeys = 400
	hotKeys  = 4
)

func allKeys() []string {
	var all []string
	for i := range coldKeys {
		all = append(all, fmt.Sprintf("key%d", i))
	}
	for i := range hotKeys {
		all = append(all, fmt.Sprintf("hot%d", i))
	}
	return all
}

// users write and read a node's keys, and note in a history what came of it.
type users struct {
	address string
	history *history
	client  *http.Client
	number  int

	mu   sync.Mutex // guards the fields below
	done int        // requests that were answered well
	errs []error    // answers that no node may give
}

func newUsers(address string, number int, h *history) *users {
	return &users{
		address: address, history: h, number: number,
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: number, DisableCompression: true}},
	}
}

// work sends requests until ctx ends. Those that are sent when the power is off must not be
// acknowledged.
func (u *users) work(ctx context.Context, seed uint64) {
	var wg sync.WaitGroup
	for i := range u.number {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(i)))
			for ctx.Err() == nil {
				began := time.Now()
				acknowledged, err := u.request(ctx, random)
				if off := u.history.outage().Off; acknowledged && !off.IsZero() && began.After(off) {
					err = errors.Join(err, fmt.Errorf("a write was acknowledged that was sent %v after the power was off", began.Sub(off)))
				}
				u.note(acknowledged, err)
			}
		})
	}
	wg.Wait()
	u.client.CloseIdleConnections()
}

func (u *users) note(acknowledged bool, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if acknowledged {
		u.done++
	}
	if err != nil {
		u.errs = append(u.errs, err)
	}
}

// request writes, deletes or reads some key. Its error is about an answer that no node may give;
// to give none is allowed.
func (u *users) request(ctx context.Context, random *rand.Rand) (acknowledged bool, err error) {
	key := fmt.Sprintf("key%d", random.IntN(coldKeys))
	if random.IntN(4) == 0 {
		key = fmt.Sprintf("hot%d", random.IntN(hotKeys))
	}
	switch kind := random.IntN(20); {
	case kind < 14:
		number, value := u.history.put(key, drawSize(random))
		a := u.ask(ctx, http.MethodPut, "/"+key+"?w=1", value)
		if a.status != http.StatusCreated {
			return false, nil
		}
		u.history.wasPut(key, number, a.version)
		return true, a.err
	case kind < 16:
		u.history.remove(key)
		a := u.ask(ctx, http.MethodDelete, "/"+key+"?w=1", nil)
		if a.status != http.StatusNoContent {
			return false, nil
		}
		u.history.wasRemoved(key, a.version)
		return true, a.err
	default:
		a := u.ask(ctx, http.MethodGet, "/"+key+"?r=1", nil)
		if a.status != http.StatusOK || a.cut {
			return false, nil
		}
		return false, errors.Join(a.err, u.history.read(key, a.body, a.version))
	}
}

// reply is an answer; status is 0 if there was none.
type reply struct {
	status  int
	version version.Version
	body    []byte
	cut     bool  // the body did not come whole
	err     error // what is wrong with the version
}

func (u *users) ask(ctx context.Context, method, path string, body []byte) (r reply) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+u.address+path, strings.NewReader(string(body)))
	if err != nil {
		return reply{err: err}
	}
	response, err := u.client.Do(req)
	if err != nil {
		return reply{}
	}
	defer response.Body.Close()
	r.status = response.StatusCode
	r.body, err = io.ReadAll(response.Body)
	r.cut = err != nil
	if etag := response.Header.Get("ETag"); etag != "" || r.status/100 == 2 && !strings.HasPrefix(path, "/-/") {
		if r.version, err = parseETag(etag); err != nil {
			r.err = fmt.Errorf("%s %s: answer %d with ETag %q: %w", method, path, r.status, etag, err)
		}
	}
	return r
}

func (u *users) askJSON(ctx context.Context, path string, into any) error {
	r := u.ask(ctx, http.MethodGet, path, nil)
	if r.status != http.StatusOK || r.cut {
		return fmt.Errorf("GET %s: answer %d %.200q, want 200", path, r.status, r.body)
	}
	return json.Unmarshal(r.body, into)
}

// everything returns all that the node has, which its digest must sum up. It needs a node that
// nobody writes to.
func (u *users) everything(ctx context.Context) (map[string]found, error) {
	has := map[string]found{}
	var mu sync.Mutex // guards has and errs
	var errs []error
	var wg sync.WaitGroup
	for part := range slices.Chunk(allKeys(), 50) {
		wg.Go(func() {
			for _, key := range part {
				a := u.ask(ctx, http.MethodGet, "/"+key+"?r=1", nil)
				mu.Lock()
				switch {
				case a.status == http.StatusOK && !a.cut && a.err == nil:
					has[key] = found{a.body, a.version}
				case a.status != http.StatusNotFound:
					errs = append(errs, fmt.Errorf("GET %s: answer %d %.200q, error %v", key, a.status, a.body, a.err))
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	var sum struct {
		Digest string
		Keys   int
	}
	if err := u.askJSON(ctx, "/-/digest", &sum); err != nil {
		return nil, err
	}
	if want := digest(has); sum.Keys != len(has) || sum.Digest != want {
		return nil, fmt.Errorf("digest %s of %d keys, want %s of %d", sum.Digest, sum.Keys, want, len(has))
	}
	return has, nil
}
