package faults

import (
	"cmp"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/protocol7/snakes/test/cluster"
)

// bug is a mistake that is planted into the program: one piece of its text replaced by another.
type bug struct {
	name     string
	file     string // from the root of the module
	old, new string // old must be there exactly once
	fault    string // that shows it
	within   int    // this many rounds
	plain    string // settings of the plain clients, if it takes others than the default
	mount    string // options of the disks, if the fault has some
}

// bugs are mistakes that look harmless, or like a gain.
var bugs = []bug{
	{
		name: "acknowledged before the sync", file: "disk/journal/journal.go",
		old:   "if err := s.file.Sync(); err != nil {\n\t\treturn j.fail(fmt.Errorf(\"sync journal: %w\", err))",
		new:   "if err := error(nil); err != nil {\n\t\treturn j.fail(fmt.Errorf(\"sync journal: %w\", err))",
		fault: "power cut of all", within: 20,
	},
	{
		name: "sync of directories skipped", file: "disk/journalfs.go",
		old: "\tdefer closeRead(d)\n\treturn d.Sync()", new: "\tdefer closeRead(d)\n\treturn nil",
		fault: "power cut of all", within: 150, mount: "noauto_da_alloc",
	},
	{
		name: "live list used as N", file: "replication/quorum.go",
		old:   "\treturn q.view.Rosters\n",
		new:   "\tvar live []string\n\tfor _, m := range q.view.Members {\n\t\tif m.Live {\n\t\t\tlive = append(live, m.ID)\n\t\t}\n\t}\n\treturn [][]string{live}\n",
		fault: "one cut off", within: 20,
	},
	{
		name: "read repair after the answer", file: "replication/read.go",
		old: "\t\t\tr.ask(p, give)\n\t\t\tdone = false\n", new: "\t\t\tr.ask(p, give)\n\t\t\tp.verdict = acked\n",
		fault: "jitter", within: 40, plain: "q",
	},
	{
		name: "tombstones collected early", file: "replication/collector_stable.go",
		old: "\t\tif !p.pulled.Has(v.Dot) {\n\t\t\treturn false\n", new: "\t\tif p.pulled == nil {\n\t\t\treturn false\n",
		fault: "away while keys are deleted", within: 20,
	},
	{
		name: "replica that stamps its own time", file: "replication/replica.go",
		old: "\toutcomes := r.store.Apply(records)\n\tr.changed.ring()\n",
		new: "\tgiven := records\n\trecords = append([]Record(nil), records...)\n\tfor i := range records {\n\t\tif records[i].Version.Origin != r.origin {\n\t\t\trecords[i].Version.Timestamp = r.clock.Next()\n\t\t}\n\t}\n" +
			"\toutcomes := r.store.Apply(records)\n\tfor i := range outcomes {\n\t\tif outcomes[i].Current.Version == records[i].Version {\n\t\t\toutcomes[i].Current.Version = given[i].Version\n\t\t}\n\t}\n\tr.changed.ring()\n",
		fault: "kill -9 of one", within: 20,
	},
	{
		name: "seen sets united before the records are durable", file: "replication/sync.go",
		old:   "\tvar records, incomplete uint64\n\tfor from",
		new:   "\tvar records, incomplete uint64\n\tif err := s.cfg.Replica.store.Unite(opened.Seen); err != nil {\n\t\treturn nil, err\n\t}\n\tfor from",
		fault: "kill -9 while it catches up", within: 40,
	},
}

// plant builds the program with the bug and returns its path.
func (b bug) plant(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		t.Fatal(err)
	}
	root, dir := filepath.Dir(strings.TrimSpace(string(out))), t.TempDir()
	source := filepath.Join(root, filepath.FromSlash(b.file))
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), b.old); n != 1 {
		t.Fatalf("%s has %d places for this bug, want one: %q", b.file, n, b.old)
	}
	spoiled, overlay, program := filepath.Join(dir, "spoiled.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "snakes")
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {source: spoiled}})
	if err != nil {
		t.Fatal(err)
	}
	for path, content := range map[string][]byte{spoiled: []byte(strings.Replace(string(text), b.old, b.new, 1)), overlay: replace} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "build", "-overlay", overlay, "-o", program, "./cmd/snakes")
	cmd.Dir = root
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build with the bug: %v\n%s", err, said)
	}
	return program
}

// TestEachPlantedBugIsFound has the checker look at programs with a bug each. If it finds nothing wrong with one of them, it would not
// find a real one either.
func TestEachPlantedBugIsFound(t *testing.T) {
	t.Logf("-seed %d", *seed)
	for i, b := range bugs {
		t.Run(strings.ReplaceAll(b.name, " ", "-"), func(t *testing.T) {
			sample(t, i, len(bugs))
			i := slices.IndexFunc(allFaults(), func(f fault) bool { return f.name == b.fault })
			if i < 0 {
				cluster.Missing(t, "%s is no fault on this system", b.fault)
			}
			f := allFaults()[i]
			f.mount = b.mount
			needs(t, f)
			s := newSubject(t, f, cluster.Options{Binary: b.plant(t)})
			s.plain = cmp.Or(b.plain, s.plain)
			for i := range b.within {
				r := s.round(f, *seed+uint64(i))
				if len(r.wrong) > 0 {
					t.Logf("found in round %d, seed %d: %s", i+1, r.seed, summary(r.wrong[:1]))
					return
				}
			}
			t.Errorf("not found in %d rounds", b.within)
		})
	}
}
