package providertest

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/privyseal/privyseal/providers"
)

func mayWrite(t *testing.T, h Harness) {
	t.Helper()
	if h.Writer == nil {
		t.Skip("this store is only read")
	}
}

func values(of map[string]string) map[string]providers.Value {
	made := make(map[string]providers.Value, len(of))
	for key, value := range of {
		made[key] = providers.NewValue([]byte(value))
	}
	return made
}

func mustWrite(t *testing.T, h Harness, change providers.Change) int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	version, err := h.Writer.Write(ctx, change)
	if err != nil {
		t.Fatalf("writing %s from version %d: %v", change.Ref, change.From, err)
	}
	return version
}

func mustNotWrite(t *testing.T, h Harness, change providers.Change, fact error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	version, err := h.Writer.Write(ctx, change)
	if version != 0 || !errors.Is(err, fact) {
		t.Errorf("writing %q from version %d gives %d, %v; it should be %q", change.Ref, change.From, version, err, fact)
	}
	mustNotTell(t, err)
}

func writesChanges(t *testing.T, h Harness) {
	mayWrite(t, h)
	ref := h.Ref("changed")
	if version := mustWrite(t, h, providers.Change{Ref: ref, Values: values(map[string]string{"password": secret("first")})}); version != 1 {
		t.Errorf("the first version is number %d", version)
	}
	h.Set(t, ref, map[string]any{"password": secret("second"), "user": secret("us\"er\n\u2028é"), "old": secret("old"),
		"list": []any{secret("one"), json.Number("2")}, "number": json.Number("1.50")})
	before := mustRead(t, h, providers.Request{Ref: ref})
	if before.Version != 2 {
		t.Fatalf("it has version %d", before.Version)
	}
	change := providers.Change{Ref: ref, From: 2, Remove: []string{"old", "never"},
		Values: values(map[string]string{"password": secret("th\"ird\\ \x7f é"), "password_previous": secret("second"), "empty": ""})}
	if version := mustWrite(t, h, change); version != 3 {
		t.Errorf("the third version is number %d", version)
	}
	want := map[string]string{}
	for key, value := range before.Values {
		want[key] = string(value.Bytes())
	}
	delete(want, "old")
	want["password"], want["password_previous"], want["empty"] = secret("th\"ird\\ \x7f é"), secret("second"), ""
	mustHold(t, mustRead(t, h, providers.Request{Ref: ref}), want)
	mustHoldJSON(t, h, ref, "list", "number")
	writesJSON(t, h, ref, before)

	if h.SoftDelete == nil {
		return
	}
	h.SoftDelete(t, ref)
	mustNotWrite(t, h, providers.Change{Ref: ref, Values: change.Values}, providers.ErrConflict)
	if version := mustWrite(t, h, providers.Change{Ref: ref, From: 5, Values: values(map[string]string{"password": secret("fourth")})}); version != 6 {
		t.Errorf("the sixth version is number %d", version)
	}
	mustHold(t, mustRead(t, h, providers.Request{Ref: ref}), map[string]string{"password": secret("fourth")})
}

// writesJSON takes what is no string away and puts it back as it was read.
func writesJSON(t *testing.T, h Harness, ref providers.Ref, before providers.Document) {
	t.Helper()
	asText := providers.Change{Ref: ref, From: 3, Values: values(map[string]string{"number": "2.50", "list": "none"})}
	mustWrite(t, h, asText)
	mustHoldJSON(t, h, ref)
	mustNotWrite(t, h, providers.Change{Ref: ref, From: 4, JSON: map[string]bool{"number": true}, Values: values(map[string]string{"number": secret("x")})}, providers.ErrInvalid)
	back := providers.Change{Ref: ref, From: 4, JSON: before.JSON,
		Values: map[string]providers.Value{"number": before.Values["number"], "list": before.Values["list"]}}
	mustWrite(t, h, back)
	mustHoldJSON(t, h, ref, "list", "number")
	after := mustRead(t, h, providers.Request{Ref: ref})
	for key, value := range back.Values {
		if !after.Values[key].Equal(value) {
			t.Errorf("%s is another than it was read", key)
		}
	}
}

// mustHoldJSON wants these keys, sorted, to be no strings in the store.
func mustHoldJSON(t *testing.T, h Harness, ref providers.Ref, keys ...string) {
	t.Helper()
	if is := slices.Sorted(maps.Keys(mustRead(t, h, providers.Request{Ref: ref}).JSON)); !slices.Equal(is, keys) {
		t.Errorf("%v are no strings, want %v", is, keys)
	}
}

func writesOneOfMany(t *testing.T, h Harness) {
	mayWrite(t, h)
	ref := h.Ref("contended")
	h.Set(t, ref, map[string]any{"password": secret("first")})
	var (
		wait  sync.WaitGroup
		mu    sync.Mutex
		wrote int
	)
	for range readers {
		wait.Go(func() {
			version, err := h.Writer.Write(t.Context(), providers.Change{Ref: ref, From: 1, Values: values(map[string]string{"password": secret("second")})})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil && version == 2:
				wrote++
			case !errors.Is(err, providers.ErrConflict):
				t.Errorf("a change that came late gives %d, %v", version, err)
			}
		})
	}
	wait.Wait()
	if wrote != 1 {
		t.Errorf("%d changes of the same version were made", wrote)
	}
	if newest := mustRead(t, h, providers.Request{Ref: ref}); newest.Version != 2 {
		t.Errorf("it has version %d", newest.Version)
	}
}

func probes(t *testing.T, h Harness) {
	mayWrite(t, h)
	prober, probes := h.Writer.(providers.Prober)
	if !probes {
		t.Skip("nobody can ask this store whether it could be written")
	}
	ref := h.Ref("probed")
	for range 2 {
		if err := prober.Probe(t.Context(), ref); err != nil {
			t.Errorf("a path that may be written: %v", err)
		}
		h.Set(t, ref, map[string]any{"password": secret("first")})
	}
	if document := mustRead(t, h, providers.Request{Ref: ref}); document.Version != 2 {
		t.Errorf("asking wrote something: version %d", document.Version)
	}
	if h.Denied == nil {
		return
	}
	if err := prober.Probe(t.Context(), h.Denied(t)); !errors.Is(err, providers.ErrDenied) {
		t.Errorf("a path that may not: %v", err)
	}
}

func refusesChanges(t *testing.T, h Harness) {
	mayWrite(t, h)
	ref := h.Ref("refused")
	h.Set(t, ref, map[string]any{"password": secret("first")})
	next := values(map[string]string{"password": secret("second")})
	mustNotWrite(t, h, providers.Change{Ref: ref, Values: next}, providers.ErrConflict)
	mustNotWrite(t, h, providers.Change{Ref: ref, From: 7, Values: next}, providers.ErrConflict)
	mustNotWrite(t, h, providers.Change{Ref: ref, From: -1, Values: next}, providers.ErrInvalid)
	mustNotWrite(t, h, providers.Change{Values: next}, providers.ErrInvalid)
	mustNotWrite(t, h, providers.Change{Ref: ref, From: 1, Values: values(map[string]string{"password": secret("\xff")})}, providers.ErrInvalid)
	if h.Denied != nil {
		mustNotWrite(t, h, providers.Change{Ref: h.Denied(t), From: 1, Values: next}, providers.ErrDenied)
	}
	newest := mustRead(t, h, providers.Request{Ref: ref})
	mustHold(t, newest, map[string]string{"password": secret("first")})
	if newest.Version > 1 {
		t.Errorf("it has version %d", newest.Version)
	}
}
