package target_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/privyseal/privyseal/broker/installkey"
	"github.com/privyseal/privyseal/broker/target"
)

func observed(contents ...string) target.Observed {
	of := target.Observed{Namespace: "payments", Name: "secret/db", Data: map[string][]byte{}}
	for i := 0; i+1 < len(contents); i += 2 {
		of.Data[contents[i]] = []byte(contents[i+1])
	}
	return of
}

func ringOf(t *testing.T, keys ...string) *installkey.Keyring {
	t.Helper()
	all := map[string][]byte{}
	for i, key := range keys {
		if key != "" {
			all[fmt.Sprint("k", i+1)] = []byte(key + "................................")[:32]
		}
	}
	ring, err := installkey.NewKeyring(all)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// sequences of a history's keys, newest first.
func sequencesOf(r target.Revisions) map[string][]int64 {
	all := map[string][]int64{}
	for key, entries := range r.Keys {
		for _, entry := range entries {
			all[key] = append(all[key], entry.Sequence)
		}
	}
	return all
}

func TestWhatOthersWriteHasAHistory(t *testing.T) {
	ring := ringOf(t, "one")
	first := target.Revisions{}.Observe(ring, observed("password", "a", "user", "u"), 100)
	if diff := cmp.Diff(map[string][]int64{"password": {0}, "user": {0}}, sequencesOf(first)); diff != "" {
		t.Error("the first look is a change:", diff)
	}
	if diff := cmp.Diff(first, first.Observe(ring, observed("password", "a", "user", "u"), 200)); diff != "" {
		t.Error("what did not change has another history:", diff)
	}
	second := first.Observe(ring, observed("password", "b", "host", "h"), 200)
	if diff := cmp.Diff(map[string][]int64{"password": {200, 0}, "user": {200, 0}, "host": {200}}, sequencesOf(second)); diff != "" {
		t.Error("keys that change, go and come:", diff)
	}
	if third := second.Observe(ring, observed("password", "c", "host", "h"), 150); third.Sequence() != 201 {
		t.Error("under a clock that goes back the sequence is", third.Sequence())
	}
	if second.Keys["user"][0].Digest != "" || second.Keys["host"][0].Digest == "" {
		t.Error("a key that is gone has a digest, or one that came has none")
	}
	read, err := target.ParseRevisions(second.String())
	if diff := cmp.Diff(second, read); diff != "" || err != nil {
		t.Error("written and read it is another:", diff, err)
	}
	if diff := cmp.Diff(map[string][]int64{"password": {200}, "user": {200}, "host": {200}}, sequencesOf(second.Shortened())); diff != "" {
		t.Error("shortened it is", diff)
	}
	elsewhere := observed("password", "a", "user", "u")
	elsewhere.Name = "configmap/db"
	if other := (target.Revisions{}).Observe(ring, elsewhere, 100); other.Keys["password"][0] == first.Keys["password"][0] {
		t.Error("a digest says that two objects hold the same")
	}
}

func TestAnotherKeyIsNoChangeOfWhatOthersWrite(t *testing.T) {
	first := target.Revisions{}.Observe(ringOf(t, "one"), observed("password", "a", "user", "u"), 100)
	both := ringOf(t, "one", "two")
	if diff := cmp.Diff(first, first.Observe(both, observed("password", "a", "user", "u"), 200)); diff != "" {
		t.Error("a second key alone gives another history:", diff)
	}
	second := first.Observe(both, observed("password", "b", "user", "u"), 200)
	if diff := cmp.Diff(map[string][]int64{"password": {200, 0}, "user": {0}}, sequencesOf(second)); diff != "" || second.KID != both.Current() {
		t.Error("under the second key, a change is", second.KID, diff)
	}

	// The key is lost. What changed at the same time is not seen, except that
	// a key is gone.
	lost := ringOf(t, "another")
	after := second.Observe(lost, observed("password", "c"), 300)
	if diff := cmp.Diff(map[string][]int64{"password": {200, 0}, "user": {300, 0}}, sequencesOf(after)); diff != "" || after.KID != lost.Current() {
		t.Error("after the loss it is", after.KID, diff)
	}
	if diff := cmp.Diff(after, after.Observe(lost, observed("password", "c"), 400)); diff != "" {
		t.Error("and another after that:", diff)
	}
}

func TestKeysThatAreLongGoneAreForgotten(t *testing.T) {
	ring := ringOf(t, "one")
	history := target.Revisions{}.Observe(ring, observed("key-0", "x"), 0)
	for i := 1; i < 100; i++ {
		history = history.Observe(ring, observed(fmt.Sprint("key-", i), "x"), int64(i))
	}
	if count := len(history.Keys); count != 33 {
		t.Error("there are", count, "keys")
	}
	if _, there := history.Keys["key-98"]; !there || history.Keys["key-99"][0].Digest == "" {
		t.Error("the latest were forgotten")
	}
}
