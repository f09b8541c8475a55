package broker

import (
	"context"
	"errors"
	"testing"

	"github.com/go-logr/logr/funcr"
)

func TestAKindThatIsMissingIsAwaitedAndSaidSoOnce(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	said, asked, set := 0, 0, false
	awaited := &awaitedKind{
		log: funcr.New(func(_, _ string) { said++ }, funcr.Options{}),
		served: func() (bool, error) {
			if asked++; asked == 1 {
				// It ends here, without an error: the daemon's claims go on.
				defer cancel()
			}
			return false, nil
		},
		setup: func(context.Context) error { set = true; return errors.New("set up without the kind") },
	}
	if err := awaited.Start(ctx); err != nil || set || said != 1 {
		t.Errorf("set up: %t, said %d times: %v", set, said, err)
	}
	awaited.served = func() (bool, error) { return true, nil }
	awaited.setup = func(context.Context) error { set = true; return nil }
	if err := awaited.Start(t.Context()); err != nil || !set {
		t.Errorf("set up: %t, %v", set, err)
	}
}
