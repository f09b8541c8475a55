package memory_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/providers/memory"
	"github.com/privyseal/privyseal/providers/providertest"
)

func TestMemoryIsAProvider(t *testing.T) {
	providertest.Run(t, func(t *testing.T) providertest.Harness {
		store := &memory.Store{}
		return providertest.Harness{
			Reader:     store,
			Writer:     store,
			Ref:        func(name string) providers.Ref { return mustRef(t, "kv/"+name) },
			Set:        func(_ *testing.T, ref providers.Ref, values map[string]any) { store.Set(ref, values) },
			Delete:     func(_ *testing.T, ref providers.Ref) { store.Delete(ref) },
			SoftDelete: func(_ *testing.T, ref providers.Ref) { store.SoftDelete(ref) },
			Denied: func(t *testing.T) providers.Ref {
				ref := mustRef(t, "kv/denied")
				store.Set(ref, map[string]any{"password": providertest.Marker})
				store.Deny(ref)
				return ref
			},
			Unavailable: func(*testing.T) providers.Reader {
				silent := &memory.Store{}
				silent.Fail(providers.ErrUnavailable)
				return silent
			},
			Leaser: store,
			Leased: func(t *testing.T) providers.Ref {
				ref := mustRef(t, "database/creds/rw")
				store.Lend(ref, memory.Terms{Life: time.Hour, Max: 24 * time.Hour, Make: func(number int) map[string]any {
					return map[string]any{"username": fmt.Sprintf("user-%d", number), "password": fmt.Sprintf("%s-%d", providertest.Marker, number)}
				}})
				return ref
			},
			Lives:    func(_ *testing.T, ref providers.Ref) int { return len(store.Lent(ref)) },
			Versions: true,
		}
	})
}

func TestAFailureEnds(t *testing.T) {
	var store memory.Store
	ref := mustRef(t, "kv/db")
	store.Set(ref, map[string]any{"password": "x"})
	store.Fail(providers.ErrDenied)
	if _, err := store.Read(t.Context(), providers.Request{Ref: ref}); !errors.Is(err, providers.ErrDenied) {
		t.Errorf("a failing store says %v", err)
	}
	store.Fail(nil)
	if _, err := store.Read(t.Context(), providers.Request{Ref: ref}); err != nil {
		t.Errorf("a store that works again says %v", err)
	}
	if store.Reads() != 2 {
		t.Errorf("%d reads were counted, of 2", store.Reads())
	}
}

func mustRef(t *testing.T, path string) providers.Ref {
	t.Helper()
	ref, err := providers.ParseRef(path)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}
