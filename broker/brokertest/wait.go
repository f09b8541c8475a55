package brokertest

import (
	"context"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// Eventually waits until check returns nil, and fails the test with its last
// error if that takes longer than within.
func Eventually(t testing.TB, within time.Duration, check func(ctx context.Context) error) {
	t.Helper()
	var last error
	err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, within, true, func(ctx context.Context) (bool, error) {
		if err := check(ctx); err != nil {
			if ctx.Err() == nil {
				last = err
			}
			return false, nil
		}
		return true, nil
	})
	if err != nil {
		t.Fatalf("not within %s: %v", within, last)
	}
}

// Throughout fails the test if check returns an error at any look in a time.
func Throughout(t testing.TB, time time.Duration, check func(ctx context.Context) error) {
	t.Helper()
	var broken error
	_ = wait.PollUntilContextTimeout(t.Context(), 100e6, time, true, func(ctx context.Context) (bool, error) {
		if err := check(ctx); err != nil && ctx.Err() == nil {
			broken = err
			return true, nil
		}
		return false, nil
	})
	if broken != nil {
		t.Fatal(broken)
	}
}
