// Package providertest is what a provider is: the suite that every one of them
// passes, against its real store. A claim's way depends on which fact a store
// told, so the suite is about facts as much as about values.
package providertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/providers"
)

// Marker is in every value that the suite writes, and in nothing that it ever
// prints.
const Marker = "MARKER-providertest"

// readers is how many read at once.
const readers = 50

// limit is how long any one read may take.
const limit = 30 * time.Second

// Harness is a provider with its store, for one test. A nil function says that
// this store knows no such thing; the tests of it are skipped.
type Harness struct {
	// Reader under test. Required.
	Reader providers.Reader

	// Writer of the same store and identity.
	Writer providers.Writer

	// Ref is the path of a document that this test alone uses. Required.
	Ref func(name string) providers.Ref

	// Set writes the next version of a document. Required.
	Set func(t *testing.T, ref providers.Ref, values map[string]any)

	// Delete removes a document with all that is known of it. Required.
	Delete func(t *testing.T, ref providers.Ref)

	// SoftDelete deletes a document's newest version so that it can be undone.
	SoftDelete func(t *testing.T, ref providers.Ref)

	// Denied is a path at which the reader may not read.
	Denied func(t *testing.T) providers.Ref

	// Unavailable is a reader of the same kind whose store does not answer.
	// Required.
	Unavailable func(t *testing.T) providers.Reader

	// Leaser of the same store and identity.
	Leaser providers.Leaser

	// Leased is a path at which documents are made for who asks. Required where
	// there is a Leaser.
	Leased func(t *testing.T) providers.Ref

	// Lives says how many of the documents made at a path are good still. Required
	// where there is a Leaser.
	Lives func(t *testing.T, ref providers.Ref) int

	// Versions says that documents have versions, counted from 1.
	Versions bool
}

// Run runs the suite, with a harness of its own for each test.
func Run(t *testing.T, start func(t *testing.T) Harness) {
	for name, test := range map[string]func(*testing.T, Harness){
		"a document is read as it was written":            readsDocuments,
		"what is no string is its JSON":                   readsJSON,
		"a new version is read, an old one when pinned":   readsVersions,
		"nothing there is ErrNotFound":                    tellsNotFound,
		"a deleted version is ErrDeleted":                 tellsDeleted,
		"a refused path is ErrDenied":                     tellsDenied,
		"a silent store is ErrUnavailable":                tellsUnavailable,
		"what can never work is ErrInvalid":               tellsInvalid,
		"concurrent readers have values of their own":     givesCopies,
		"a cancelled read says so, and others are served": obeysContext,
		"a change leaves other keys as they are":          writesChanges,
		"of changes at the same time one is made":         writesOneOfMany,
		"a change that cannot be made changes nothing":    refusesChanges,
		"whether a path may be written can be asked":      probes,
		"what is leased is made for each who asks":        issues,
		"a lease lives until it is revoked":               renewsAndRevokes,
		"nothing is made that nobody would know of":       keepsFirst,
		"what cannot be issued says why":                  refusesIssues,
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) { test(t, start(t)) })
	}
}

func secret(what string) string { return Marker + "-" + what }

func readsDocuments(t *testing.T, h Harness) {
	ref := h.Ref("plain")
	written := map[string]any{
		"user":      secret("user"),
		"password":  secret("pass\nwörd \"<&>\" \\ \u2028 \x7f"),
		"empty":     "",
		"with.dots": secret("dots"),
		"a/b c":     secret("odd key"),
		"number-as": "00123",
		"json-as":   `{"a":1}`,
	}
	h.Set(t, ref, written)
	document := mustRead(t, h, providers.Request{Ref: ref})
	want := make(map[string]string, len(written))
	for key, value := range written {
		want[key] = value.(string)
	}
	mustHold(t, document, want)
}

func readsJSON(t *testing.T, h Harness) {
	ref := h.Ref("nested")
	h.Set(t, ref, map[string]any{
		"number":  json.Number("42"),
		"large":   json.Number("9007199254740991"), // more, the store itself may round (Vault's version 2 does)
		"decimal": json.Number("1.5"),
		"true":    true,
		"false":   false,
		"list":    []any{secret("one"), json.Number("2"), nil},
		"object":  map[string]any{"z": secret("<z>"), "a": map[string]any{"deep": []any{}}},
		"nothing": map[string]any{},
	})
	document := mustRead(t, h, providers.Request{Ref: ref})
	mustHold(t, document, map[string]string{
		"number":  "42",
		"large":   "9007199254740991",
		"decimal": "1.5",
		"true":    "true",
		"false":   "false",
		"list":    `["` + secret("one") + `",2,null]`,
		"object":  `{"a":{"deep":[]},"z":"` + secret("<z>") + `"}`,
		"nothing": "{}",
	})
}

func readsVersions(t *testing.T, h Harness) {
	ref := h.Ref("versions")
	h.Set(t, ref, map[string]any{"password": secret("first"), "old": secret("old")})
	mustHold(t, mustRead(t, h, providers.Request{Ref: ref}),
		map[string]string{"password": secret("first"), "old": secret("old")})
	h.Set(t, ref, map[string]any{"password": secret("second")})
	newest := mustRead(t, h, providers.Request{Ref: ref})
	mustHold(t, newest, map[string]string{"password": secret("second")})

	if !h.Versions {
		if newest.Version != 0 {
			t.Errorf("a store without versions says version %d", newest.Version)
		}
		mustFail(t, h.Reader, providers.Request{Ref: ref, Version: 1}, providers.ErrInvalid)
		return
	}
	if newest.Version != 2 {
		t.Errorf("the second version is number %d", newest.Version)
	}
	pinned := mustRead(t, h, providers.Request{Ref: ref, Version: 1})
	mustHold(t, pinned, map[string]string{"password": secret("first"), "old": secret("old")})
	if pinned.Version != 1 {
		t.Errorf("version 1, pinned, is number %d", pinned.Version)
	}
	mustFail(t, h.Reader, providers.Request{Ref: ref, Version: 9}, providers.ErrNotFound)
}

func tellsNotFound(t *testing.T, h Harness) {
	ref := h.Ref("absent")
	mustFail(t, h.Reader, providers.Request{Ref: ref}, providers.ErrNotFound)
	h.Set(t, ref, map[string]any{"password": secret("brief")})
	mustRead(t, h, providers.Request{Ref: ref})
	h.Delete(t, ref)
	mustFail(t, h.Reader, providers.Request{Ref: ref}, providers.ErrNotFound)
}

func tellsDeleted(t *testing.T, h Harness) {
	if h.SoftDelete == nil {
		t.Skip("this store deletes for good")
	}
	ref := h.Ref("deleted")
	h.Set(t, ref, map[string]any{"password": secret("first")})
	h.Set(t, ref, map[string]any{"password": secret("second")})
	h.SoftDelete(t, ref)
	mustFail(t, h.Reader, providers.Request{Ref: ref}, providers.ErrDeleted)
	mustHold(t, mustRead(t, h, providers.Request{Ref: ref, Version: 1}), map[string]string{"password": secret("first")})
	h.Set(t, ref, map[string]any{"password": secret("third")})
	mustHold(t, mustRead(t, h, providers.Request{Ref: ref}), map[string]string{"password": secret("third")})
}

func tellsDenied(t *testing.T, h Harness) {
	if h.Denied == nil {
		t.Skip("this store refuses nobody")
	}
	refused := h.Denied(t)
	mustFail(t, h.Reader, providers.Request{Ref: refused}, providers.ErrDenied)

	// One refusal takes nothing away.
	allowed := h.Ref("allowed")
	h.Set(t, allowed, map[string]any{"password": secret("allowed")})
	mustRead(t, h, providers.Request{Ref: allowed})
	mustFail(t, h.Reader, providers.Request{Ref: refused}, providers.ErrDenied)
}

func tellsUnavailable(t *testing.T, h Harness) {
	mustFail(t, h.Unavailable(t), providers.Request{Ref: h.Ref("any")}, providers.ErrUnavailable)
}

func tellsInvalid(t *testing.T, h Harness) {
	mustFail(t, h.Reader, providers.Request{}, providers.ErrInvalid)
	mustFail(t, h.Reader, providers.Request{Ref: h.Ref("any"), Version: -1}, providers.ErrInvalid)
}

// givesCopies clears each document as soon as it is read, as callers do. Were
// any two of them the same bytes, one would read zeros, and the race detector
// would say so.
func givesCopies(t *testing.T, h Harness) {
	ref := h.Ref("shared")
	want := map[string]string{"user": secret("user"), "list": `["` + secret("one") + `"]`}
	h.Set(t, ref, map[string]any{"user": want["user"], "list": []any{secret("one")}})
	var wait sync.WaitGroup
	for range readers {
		wait.Go(func() {
			document := mustRead(t, h, providers.Request{Ref: ref})
			mustHold(t, document, want)
			document.Clear()
		})
	}
	wait.Wait()
}

func obeysContext(t *testing.T, h Harness) {
	ref := h.Ref("cancelled")
	h.Set(t, ref, map[string]any{"password": secret("served")})
	over, cancel := context.WithCancel(t.Context())
	cancel()
	var wait sync.WaitGroup
	for range readers {
		wait.Go(func() {
			_, err := h.Reader.Read(over, providers.Request{Ref: ref})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("a cancelled read ended with %v", err)
			}
		})
		wait.Go(func() {
			mustHold(t, mustRead(t, h, providers.Request{Ref: ref}), map[string]string{"password": secret("served")})
		})
	}
	wait.Wait()
}

func mustRead(t *testing.T, h Harness, request providers.Request) providers.Document {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	document, err := h.Reader.Read(ctx, request)
	if err != nil {
		t.Errorf("reading %s, version %d: %v", request.Ref, request.Version, err)
	}
	mustNotTell(t, document)
	return document
}

// mustFail checks the fact, that it is the only one, and that nothing tells.
func mustFail(t *testing.T, reader providers.Reader, request providers.Request, fact error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	document, err := reader.Read(ctx, request)
	for _, other := range []error{
		providers.ErrNotFound, providers.ErrDeleted, providers.ErrDenied, providers.ErrUnavailable, providers.ErrInvalid,
	} {
		if is := errors.Is(err, other); is != errors.Is(other, fact) {
			t.Errorf("reading %q, version %d: %v; that it is %q is %v", request.Ref, request.Version, err, other, is)
		}
	}
	if len(document.Values) > 0 {
		t.Errorf("reading %q failed and gave %d values all the same", request.Ref, len(document.Values))
	}
	if err != nil && !request.Ref.IsZero() && !strings.Contains(err.Error(), "reading "+request.Ref.String()) {
		t.Errorf("the error does not say what was being done: %v", err)
	}
	mustNotTell(t, err)
}

// mustHold compares without printing any value.
func mustHold(t *testing.T, document providers.Document, want map[string]string) {
	t.Helper()
	for key, value := range want {
		if got, ok := document.Values[key]; !ok {
			t.Errorf("there is no key %q", key)
		} else if !got.Equal(providers.NewValue([]byte(value))) {
			t.Errorf("the value of %q is another than was written", key)
		}
	}
	if len(document.Values) != len(want) {
		keys := make([]string, 0, len(document.Values))
		for key := range document.Values {
			keys = append(keys, key)
		}
		sort.Strings(keys)
		t.Errorf("the keys are %q, and %d were written", keys, len(want))
	}
}

func mustNotTell(t *testing.T, printed any) {
	t.Helper()
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if strings.Contains(fmt.Sprintf(format, printed), Marker) {
			t.Errorf("a %T printed with %s tells a value", printed, format)
		}
	}
	if encoded, err := json.Marshal(printed); err == nil && strings.Contains(string(encoded), Marker) {
		t.Errorf("a %T as JSON tells a value", printed)
	}
}
