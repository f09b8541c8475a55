package target

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func all(string) bool { return true }

func only(keys ...string) func(string) bool {
	return func(key string) bool { return slices.Contains(keys, key) }
}

// story tells a target's history: its first content, then changes, each at a
// second.
func story(start digests, changes ...change) Revisions {
	revisions := first("k1", start, 0)
	for _, c := range changes {
		revisions = revisions.advance(c.content, c.at)
	}
	return revisions
}

type change struct {
	at      int64
	content digests
}

func TestWhoIsStale(t *testing.T) {
	stale := func(name string, revisions Revisions, evidence int64, reads func(string) bool, want ...string) {
		t.Helper()
		if got := revisions.StaleKeys(evidence, reads); !slices.Equal(got, want) {
			t.Errorf("%s: stale keys %v, want %v", name, got, want)
		}
	}
	once := story(digests{"a": "A", "b": "B"}, change{100, digests{"a": "A2", "b": "B"}})
	stale("a pod from before a change", once, 50, all, "a")
	stale("a pod from after it", once, 100, all)
	stale("a pod that does not read the changed key", once, 50, only("b"))
	stale("a pod that reads a key that never was", once, 50, only("c"))

	back := story(digests{"a": "A"}, change{100, digests{"a": "A2"}}, change{200, digests{"a": "A"}})
	stale("back to the old value, for a pod that still holds it", back, 50, all)
	stale("back to the old value, for a pod started in between", back, 150, all, "a")

	grown := story(digests{"a": "A"}, change{100, digests{"a": "A", "b": "B"}})
	stale("a new key, for a pod that reads all", grown, 50, all, "b")
	stale("a new key, for a pod that reads another", grown, 50, only("a"))

	shrunk := story(digests{"a": "A", "b": "B"}, change{100, digests{"a": "A"}})
	stale("a key that went, for a pod that reads all", shrunk, 50, all, "b")
	stale("a key that went, for a pod from after", shrunk, 100, all)

	busy := story(digests{"a": "0"}, change{1, digests{"a": "1"}}, change{2, digests{"a": "2"}},
		change{3, digests{"a": "3"}}, change{4, digests{"a": "4"}}, change{5, digests{"a": "5"}})
	stale("a pod that outlived the history", busy, 0, all, "a")
	if len(busy.Keys["a"]) != historyDepth {
		t.Errorf("the history has %d entries, want %d", len(busy.Keys["a"]), historyDepth)
	}
}

func TestSequencesOnlyGrow(t *testing.T) {
	clockSteppedBack := story(digests{"a": "A"}, change{100, digests{"a": "B"}}, change{40, digests{"a": "C"}})
	if got := clockSteppedBack.Sequence(); got != 101 {
		t.Errorf("after the clock stepped back the sequence is %d, want 101", got)
	}
	same := story(digests{"a": "A"}, change{100, digests{"a": "B"}}, change{200, digests{"a": "B"}})
	if got := same.Sequence(); got != 100 {
		t.Errorf("after no change the sequence is %d, want 100", got)
	}
}

func TestANewInstallKeyChangesNothing(t *testing.T) {
	before := story(digests{"a": "A"}, change{100, digests{"a": "B"}}, change{200, digests{"a": "A"}})
	after := before.rekeyed("k2", func(_, newest string) string { return "new-" + newest })
	for _, evidence := range []int64{0, 50, 100, 150, 200, 300} {
		if was, is := before.StaleKeys(evidence, all), after.StaleKeys(evidence, all); !slices.Equal(was, is) {
			t.Errorf("at %d: stale %v before, %v after", evidence, was, is)
		}
	}
	if before.Sequence() != after.Sequence() || after.KID != "k2" {
		t.Errorf("got sequence %d under %s", after.Sequence(), after.KID)
	}
}

func TestTheAnnotationRoundTrips(t *testing.T) {
	revisions := story(digests{"a": "A", "b.c": "B"}, change{100, digests{"a": "A2"}})
	parsed, err := ParseRevisions(revisions.String())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(revisions, parsed); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{
		"", "x", "{}x", `{"kid":1}`, `{"keys":{"a":[]}}`, `{"keys":{"a":[["x"]]}}`, `{"keys":{"a":[["x","y"]]}}`,
		`{"keys":{"a":[["1",1],["2",1],["3",1],["4",1],["5",1]]}}`, `{"keys":{"a":[[1,1]]}}`,
	} {
		if _, err := ParseRevisions(bad); !errors.Is(err, ErrRevisions) {
			t.Errorf("%q: got %v, want ErrRevisions", bad, err)
		}
	}
}

// TestStalenessIsWhatPodsHold compares the history's judgement with what pods
// started at any second of a random life really hold.
func TestStalenessIsWhatPodsHold(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		content := digests{"a": "0", "b": "0"}
		held := map[int64]digests{0: content}
		revisions := first("k1", content, 0)
		// No more changes than a history remembers.
		for now := int64(1); now < historyDepth; now++ {
			content = digests{"a": string(rune('0' + random.IntN(2))), "b": string(rune('0' + random.IntN(2)))}
			revisions = revisions.advance(content, now)
			held[now] = content
		}
		for at, holds := range held {
			var want []string
			for _, key := range []string{"a", "b"} {
				if holds[key] != content[key] {
					want = append(want, key)
				}
			}
			if got := revisions.StaleKeys(at, all); !slices.Equal(got, want) {
				t.Fatalf("a pod from %d holds %v, now is %v: stale %v, want %v\n%s", at, holds, content, got, want, revisions)
			}
		}
	}
}

func FuzzParseRevisions(f *testing.F) {
	f.Add(`{"kid":"k1","keys":{"password":[["9f3c",1763800000],["77ab",0]]}}`)
	f.Fuzz(func(t *testing.T, text string) {
		revisions, err := ParseRevisions(text)
		if err != nil {
			return
		}
		again, err := ParseRevisions(revisions.String())
		if err != nil || cmp.Diff(revisions, again) != "" {
			t.Fatalf("%q reads as %v, which reads as %v, %v", text, revisions, again, err)
		}
		_ = revisions.Sequence()
		_ = revisions.StaleKeys(0, all)
	})
}

func TestWhatChangedBetweenTwoSequencesIsKnownAsFarAsTheHistoryGoes(t *testing.T) {
	revisions := story(digests{"a": "A", "b": "B"}, change{100, digests{"a": "A2", "b": "B"}}, change{200, digests{"a": "A2", "b": "B2"}})
	only := func(name string) func(string) bool { return func(key string) bool { return key == name } }
	for _, row := range []struct {
		evidence, until int64
		reads           func(string) bool
		want            bool
	}{
		{0, 100, all, true},
		{0, 99, all, false},
		{100, 100, all, false},
		{100, 200, all, true},
		{50, 100, only("b"), false},
		{50, 200, only("b"), true},
		{100, 200, only("a"), false},
	} {
		if got := revisions.ChangedSince(row.evidence, row.until, row.reads); got != row.want {
			t.Errorf("after %d and up to %d: %t", row.evidence, row.until, got)
		}
	}
	busy := story(digests{"a": "A"}, change{1, digests{"a": "1"}}, change{2, digests{"a": "2"}}, change{3, digests{"a": "3"}}, change{4, digests{"a": "4"}})
	if !busy.ChangedSince(0, 1, all) || busy.ChangedSince(4, 4, all) {
		t.Error("a pod that outlived the history is not known to hold what is there")
	}
}
