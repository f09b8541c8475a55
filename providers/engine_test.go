package providers_test

import (
	"errors"
	"testing"

	"github.com/privyseal/privyseal/providers"
)

func TestAnEngineIsOnePathAndShowsAtAnother(t *testing.T) {
	for _, c := range []struct {
		kind        providers.EngineKind
		path, shows string
	}{
		{providers.RotateRole, "database/rotate-role/payments", "database/static-creds/payments"},
		{providers.RotateRole, "team/a/db/rotate-role/payments", "team/a/db/static-creds/payments"},
		{providers.RotateRoot, "database/rotate-root/main", "database/config/main"},
		{providers.RotateKey, "transit/keys/payments", "transit/keys/payments"},
	} {
		engine, err := providers.ParseEngine(c.kind, c.path)
		if err != nil || engine.String() != c.path || engine.Shows() != c.shows {
			t.Errorf("%s: %s, %s, %v", c.path, engine, engine.Shows(), err)
		}
		if again, err := providers.EngineOf(engine.String()); err != nil || again != engine {
			t.Errorf("%s is read again as %+v, %v", c.path, again, err)
		}
	}
}

func TestAPathOfNoEngineIsRefused(t *testing.T) {
	for _, path := range []string{
		"", "payments", "rotate-role/payments", "database/rotate-role", "database/rotate-role/", "database/rotate-role/a/b",
		"database/rotate-root/payments", "database/static-creds/payments", "database/rotate-role/../payments",
		"database//rotate-role/payments", "database/rotate-role/pay%2fments", "kv/rotate-role/payments/x",
	} {
		if engine, err := providers.ParseEngine(providers.RotateRole, path); !errors.Is(err, providers.ErrPath) {
			t.Errorf("%q is taken for %+v, %v", path, engine, err)
		}
	}
	if engine, err := providers.EngineOf("kv/data/x"); !errors.Is(err, providers.ErrPath) {
		t.Errorf("a document is taken for %+v, %v", engine, err)
	}
	if none, err := providers.EngineOf(""); err != nil || none != (providers.Engine{}) || none.String() != "" {
		t.Errorf("none is %+v, %v", none, err)
	}
}
