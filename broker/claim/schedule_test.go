package claim

import (
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

func TestNamespacesSpreadOverTheInterval(t *testing.T) {
	const interval = 5 * time.Minute
	now := time.Unix(1_763_800_000, 0)
	var quarters [4]int
	for i := range 4000 {
		next := nextSlot(fmt.Sprint("namespace-", i), interval, now)
		wait := next.Sub(now)
		if wait <= 0 || wait > interval {
			t.Fatalf("due in %s, want within (0, %s]", wait, interval)
		}
		quarters[int(4*(wait-1)/interval)]++
	}
	for i, claims := range quarters {
		if claims < 800 || claims > 1200 {
			t.Errorf("%d of 4000 namespaces are due in quarter %d of the interval", claims, i)
		}
	}
}

func TestSlotsFollowEachOtherByTheInterval(t *testing.T) {
	const interval = time.Minute
	first := nextSlot("pay", interval, time.Unix(1_763_800_000, 0))
	if second := nextSlot("pay", interval, first); second.Sub(first) != interval {
		t.Errorf("the next slot is %s later, want %s", second.Sub(first), interval)
	}
	if same := nextSlot("pay", interval, first.Add(-time.Second)); !same.Equal(first) {
		t.Errorf("from a second before, the slot is %s, want %s", same, first)
	}
}

func TestWhatWasMissedIsCaughtUpSoonAndSpread(t *testing.T) {
	const interval = time.Hour
	now := time.Unix(1_763_800_000, 0)
	missed := 0
	for i := range 1000 {
		namespace := fmt.Sprint("namespace-", i)
		// A daemon that was gone for half an hour missed half of the slots.
		due := firstSlot(namespace, interval, now.Add(-interval/2), now)
		if due.Sub(now) <= maxCatchUp {
			missed++
		}
		// One that was gone for a day missed them all.
		if wait := firstSlot(namespace, interval, now.Add(-24*time.Hour), now).Sub(now); wait < 0 || wait > maxCatchUp {
			t.Fatalf("after a day, due in %s, want within %s", wait, maxCatchUp)
		}
		// One that was never gone missed none.
		if due := firstSlot(namespace, interval, now, now); !due.Equal(nextSlot(namespace, interval, now)) {
			t.Fatalf("after no gap, due at %s, want the namespace's own slot", due)
		}
	}
	if missed < 400 || missed > 620 {
		t.Errorf("after half an interval, %d of 1000 namespaces are caught up, want about half", missed)
	}
}

func TestAClaimWaitsSinceItWasNoticedOrWoken(t *testing.T) {
	now := time.Unix(1_763_800_000, 0)
	s := newSchedule(func() time.Time { return now })
	claim := types.NamespacedName{Namespace: "pay", Name: "db"}
	at := now
	expect := func(what string, want time.Time) {
		t.Helper()
		if got := s.waitingSince(claim, now); !got.Equal(want) {
			t.Errorf("%s: since %s, want %s", what, got, want)
		}
	}
	expect("of a claim that nobody announced", now)
	s.notice(claim)
	now = now.Add(time.Minute)
	expect("a minute after it was noticed", at)
	expect("when it is tried again", now)
	s.notice(claim)
	now = now.Add(time.Minute)
	s.wake(claim)
	at, now = now, now.Add(time.Minute)
	expect("noticed, and woken a minute later", at)
	s.notice(claim)
	s.set(claim, now.Add(time.Hour))
	now = now.Add(time.Minute)
	expect("seen to since", now)
}
