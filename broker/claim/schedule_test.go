package claim

import (
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

func TestClaimsSpreadOverTheirInterval(t *testing.T) {
	const interval = 5 * time.Minute
	now := time.Unix(1_763_800_000, 0)
	var quarters [4]int
	for i := range 4000 {
		next := nextSlot(types.UID(fmt.Sprint("uid-", i)), interval, now)
		wait := next.Sub(now)
		if wait <= 0 || wait > interval {
			t.Fatalf("due in %s, want within (0, %s]", wait, interval)
		}
		quarters[int(4*(wait-1)/interval)]++
	}
	for i, claims := range quarters {
		if claims < 800 || claims > 1200 {
			t.Errorf("%d of 4000 claims are due in quarter %d of the interval", claims, i)
		}
	}
}

func TestSlotsFollowEachOtherByTheInterval(t *testing.T) {
	const interval = time.Minute
	first := nextSlot("uid", interval, time.Unix(1_763_800_000, 0))
	if second := nextSlot("uid", interval, first); second.Sub(first) != interval {
		t.Errorf("the next slot is %s later, want %s", second.Sub(first), interval)
	}
	if same := nextSlot("uid", interval, first.Add(-time.Second)); !same.Equal(first) {
		t.Errorf("from a second before, the slot is %s, want %s", same, first)
	}
}

func TestWhatWasMissedIsCaughtUpSoonAndSpread(t *testing.T) {
	const interval = time.Hour
	now := time.Unix(1_763_800_000, 0)
	missed := 0
	for i := range 1000 {
		uid := types.UID(fmt.Sprint("uid-", i))
		// A daemon that was gone for half an hour missed half of the slots.
		due := firstSlot(uid, interval, now.Add(-interval/2), now)
		if due.Sub(now) <= maxCatchUp {
			missed++
		}
		// One that was gone for a day missed them all.
		if wait := firstSlot(uid, interval, now.Add(-24*time.Hour), now).Sub(now); wait < 0 || wait > maxCatchUp {
			t.Fatalf("after a day, due in %s, want within %s", wait, maxCatchUp)
		}
		// One that was never gone missed none.
		if due := firstSlot(uid, interval, now, now); !due.Equal(nextSlot(uid, interval, now)) {
			t.Fatalf("after no gap, due at %s, want the claim's own slot", due)
		}
	}
	if missed < 400 || missed > 620 {
		t.Errorf("after half an interval, %d of 1000 claims are caught up, want about half", missed)
	}
}
