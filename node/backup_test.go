package node

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/protocol7/snakes/node/backup"
	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/storetest"
	"github.com/protocol7/snakes/replication/version"
)

// alone is a cluster of one node, as that sees it.
type alone struct{}

func (m alone) View() *replication.View {
	return &replication.View{
		Self: idA, Cluster: "c1", Rosters: [][]string{{idA}},
		Members: []replication.Member{{ID: idA, Name: "node-a", Live: true, Synced: true}},
	}
}

func (alone) Failed(string, time.Time, error) {}
func (alone) Answered(string)                 {}
func (alone) Enroll(string) error             { return nil }

// newCoordinator returns that of a cluster of one, which keeps its records in store.
func newCoordinator(t *testing.T, store replication.Store) *replication.Coordinator {
	t.Helper()
	memory, err := replication.OpenMemory(noState{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := replication.New(replication.Config{
		Store: store, Members: alone{}, Peers: (*peers)(nil), Clock: version.NewClock(nil, version.Timestamp{}), Origin: 0xa, Memory: memory,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// keeping starts a node that keeps its records in store.
func keeping(t *testing.T, store replication.Store, change func(*apiConfig)) *testNode {
	t.Helper()
	config, _ := fakes()
	config.Coordinator = newCoordinator(t, store)
	if change != nil {
		change(&config)
	}
	return start(t, config)
}

// stored is a store with these records.
func stored(t *testing.T, records ...replication.Record) *storetest.Memory {
	t.Helper()
	store := new(storetest.Memory)
	for _, outcome := range store.Apply(records) {
		if outcome.Err != nil {
			t.Fatal(outcome.Err)
		}
	}
	return store
}

// someRecords are so many values and one deletion.
func someRecords(n int) (records []replication.Record) {
	for i := range n {
		records = append(records, replication.Record{
			Key: fmt.Sprintf("key%05d", i), Version: someVersion(uint64(2*i + 2)), ContentType: "a/b", Value: fmt.Appendf(nil, "value %d", i),
		})
	}
	return append(records, replication.Record{Key: "zoo", Version: someVersion(1), Deleted: true})
}

func TestBackupIsWholeAndRestoresElsewhere(t *testing.T) {
	const n = 2500 // some batches
	store := stored(t, someRecords(n)...)
	source := keeping(t, store, nil)
	got := source.ask("GET", "/-/backup", "")
	if got.StatusCode != 200 || got.Header.Get("Content-Type") != backup.ContentType || got.Header.Get("Snakes-Acks") != "1/1" {
		t.Fatalf("got %d, %v", got.StatusCode, got.Header)
	}
	if name := got.Header.Get("Content-Disposition"); !strings.HasPrefix(name, `attachment; filename="snakes-20`) {
		t.Errorf("Content-Disposition: got %s", name)
	}
	header, trailer, err := backup.Verify(strings.NewReader(got.text))
	if err != nil {
		t.Fatal(err)
	}
	if header.Cluster != "snakes" || header.ClusterID != "c1" || header.Node != "node-a" || header.NodeID != idA || time.Since(header.Time) > time.Minute {
		t.Errorf("header: got %+v", header)
	}
	if trailer.Keys != n || trailer.Deletions != 1 || trailer.Digest != fmt.Sprintf("%016x", store.Digest()) {
		t.Errorf("trailer: got %+v, want %d keys and digest %016x", trailer, n, store.Digest())
	}
	if head := source.ask("HEAD", "/-/backup", ""); head.StatusCode != 200 || head.text != "" || head.Header.Get("Content-Type") != backup.ContentType {
		t.Errorf("HEAD: got %d, %v", head.StatusCode, head.Header)
	}

	other := new(storetest.Memory)
	target := keeping(t, other, nil)
	counts := func(written, present int, dry bool) string {
		return fmt.Sprintf(`"keys":%d,"deletions":1,"bytes":%d,"written":%d,"present":%d,"newer":0,"forgotten":0,"skipped":0,"dry_run":%t,"as_new":false}`,
			n, trailer.Bytes, written, present, dry)
	}
	for _, step := range []struct {
		query, want string
		keys        int
	}{
		{"?dry-run=1", counts(n+1, 0, true), 0},
		{"", counts(n+1, 0, false), n},
		{"", counts(0, n+1, false), n},
	} {
		a := target.ask("POST", "/-/restore"+step.query, got.text)
		if a.StatusCode != 200 || !strings.HasPrefix(a.text, `{"cluster":"snakes","node":"node-a","time":"20`) || !strings.HasSuffix(a.text, step.want+"\n") {
			t.Errorf("restore %s: got %d %s, want %s", step.query, a.StatusCode, a.text, step.want)
		}
		if other.Len() != step.keys {
			t.Errorf("restore %s: got %d keys, want %d", step.query, other.Len(), step.keys)
		}
	}
	if other.Digest() != store.Digest() || !other.Seen().Equal(store.Seen()) {
		t.Error("the other node has another digest, or has seen something else")
	}
}

func TestBackupThatCannotGoOnIsCut(t *testing.T) {
	store := stored(t, someRecords(3000)...)
	store.Damage("key02000")
	config, _ := fakes()
	config.Coordinator = newCoordinator(t, store)
	n := start(t, config)
	resp, err := n.client.Get("http://" + n.address + "/-/backup")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil {
		t.Error("the answer ends as if it were whole")
	}
	if _, _, err := backup.Verify(bytes.NewReader(text)); !errors.Is(err, backup.ErrDamaged) {
		t.Errorf("what came: got %v, want ErrDamaged", err)
	}
}

// A reader that takes nothing costs no memory, and is cut off.
func TestReaderOfABackupThatTakesNothingIsCutOff(t *testing.T) {
	var large []replication.Record
	value := bytes.Repeat([]byte("x"), 1<<20)
	for i := range 64 { // more than the kernel takes
		large = append(large, replication.Record{Key: fmt.Sprint("key", i), Version: someVersion(uint64(i + 1)), Value: value})
	}
	var mu sync.Mutex
	var log strings.Builder
	n := keeping(t, stored(t, large...), func(c *apiConfig) {
		c.Stall = 200 * time.Millisecond
		c.Log = hclog.New(&hclog.LoggerOptions{Level: hclog.Debug, Output: &log, Mutex: &mu})
	})
	c := n.dial()
	c.send("GET /-/backup HTTP/1.1\r\nHost: x\r\n\r\n")
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		mu.Lock()
		ended := strings.Contains(log.String(), "path=/-/backup")
		mu.Unlock()
		if ended {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it goes on")
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if strings.Contains(log.String(), "[ERROR]") {
		t.Errorf("a slow client is no error of the node: %s", log.String())
	}
}

func TestRestoreRefusesWhatIsNoWholeBackup(t *testing.T) {
	whole := keeping(t, stored(t, someRecords(2500)...), nil).ask("GET", "/-/backup", "").text
	flipped := []byte(whole)
	flipped[len(flipped)/2] ^= 1
	for name, row := range map[string]struct {
		body, says string
		some       bool // is written
	}{
		"nothing":        {"", "Nothing was written.", false},
		"something else": {"key=value&other=value", "Nothing was written.", false},
		"cut early":      {whole[:300], "Nothing was written.", false},
		"cut":            {whole[:len(whole)-1], "nothing needs to be undone", true},
		"flipped":        {string(flipped), "Before that 1000 records were written", true},
		"later format":   {"snakes-backup 2" + whole[15:], "a later release of snakes reads it", false},
	} {
		store := new(storetest.Memory)
		a := keeping(t, store, nil).ask("POST", "/-/restore", row.body)
		if a.StatusCode != 400 || a.code(t) != "bad-backup" || !strings.Contains(a.text, row.says) {
			t.Errorf("%s: got %d %s, want 400 bad-backup and %q", name, a.StatusCode, a.text, row.says)
		}
		if got := store.Len() > 0; got != row.some {
			t.Errorf("%s: something is written: %t, want %t", name, got, row.some)
		}
		// What was not whole does not count as seen: another try gets everything.
		if row.some && store.Seen().Equal(stored(t, someRecords(2500)...).Seen()) {
			t.Errorf("%s: all counts as seen", name)
		}
	}
}

func TestBackupAndRestoreRefuseWhatMakesNoSense(t *testing.T) {
	config, coordinator := fakes()
	missed := &replication.QuorumError{
		Op: "backup", Need: 2, Alive: 1, Known: 3, Acks: 1, Receipt: replication.Receipt{Acks: 1, N: 3, Missing: []string{"node-b", "node-c"}},
	}
	coordinator.backup = func() (*replication.Backup, replication.Receipt, error) { return nil, missed.Receipt, missed }
	coordinator.restore = func(replication.RestoreOptions) (*replication.Restore, error) {
		return nil, fmt.Errorf("restore: %w", replication.ErrDiskFull)
	}
	n := start(t, config)
	for _, what := range []string{"GET /-/backup?x=1", "POST /-/restore?dry-run=yes", "POST /-/restore?asnew=1", "POST /-/restore?as-new="} {
		method, path, _ := strings.Cut(what, " ")
		if a := n.ask(method, path, ""); a.StatusCode != 400 || a.code(t) != "bad-parameter" {
			t.Errorf("%s: got %d %s", what, a.StatusCode, a.text)
		}
	}
	a := n.ask("GET", "/-/backup", "")
	if a.StatusCode != 503 || a.code(t) != "quorum" || a.Header.Get("Snakes-Acks") != "1/3; missing=node-b,node-c" || strings.Contains(a.text, "?r=") {
		t.Errorf("without a majority: got %d %v %s, and a backup has no level to ask for less with", a.StatusCode, a.Header, a.text)
	}
	coordinator.backup = func() (*replication.Backup, replication.Receipt, error) {
		return nil, replication.Receipt{Acks: 3, N: 3}, replication.ErrBehind
	}
	if a := n.ask("GET", "/-/backup", ""); a.StatusCode != 503 || a.code(t) != "not-ready" {
		t.Errorf("behind: got %d %s, want 503 not-ready", a.StatusCode, a.text)
	}
	if a := n.ask("POST", "/-/restore", "x"); a.StatusCode != 507 || a.code(t) != "disk-full" {
		t.Errorf("disk full: got %d %s, want 507 disk-full", a.StatusCode, a.text)
	}
	for what, allow := range map[string]string{"POST /-/backup": "GET, HEAD", "GET /-/restore": "POST"} {
		method, path, _ := strings.Cut(what, " ")
		if a := n.ask(method, path, ""); a.StatusCode != http.StatusMethodNotAllowed || a.Header.Get("Allow") != allow {
			t.Errorf("%s: got %d, Allow %q, want 405 and %q", what, a.StatusCode, a.Header.Get("Allow"), allow)
		}
	}
}

// A value of any size that clients may put can be in a backup.
func TestBackupsHaveRoomForTheLargestValue(t *testing.T) {
	if backup.MaxValue != largestValue || backup.MaxContentType != maxContentType {
		t.Errorf("a backup takes values up to %d and content types up to %d bytes, a node %d and %d",
			backup.MaxValue, backup.MaxContentType, largestValue, maxContentType)
	}
}
