package claim

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
)

// Runs of the line, as far as they tell of reads.
var (
	errDown   = fmt.Errorf("reading: %w", providers.ErrUnavailable)
	errDenied = refuse(v1alpha1.ReasonSourceDenied, "no")
	errNoAPI  = errors.New("the API server is gone")
)

func TestWhatIsKnownOfReads(t *testing.T) {
	clock := clocktesting.NewFakePassiveClock(time.Unix(1000, 0))
	first := clock.Now()
	var known reading
	now := func(says string, synced Synced, err error, want reading) {
		t.Helper()
		clock.SetTime(clock.Now().Add(time.Minute))
		if known = known.after(synced, err, clock.Now()); known != want {
			t.Errorf("%s: known is %+v, want %+v", says, known, want)
		}
	}
	at := func(minute int) time.Time { return first.Add(time.Duration(minute) * time.Minute) }

	now("a daemon that starts in an outage knows of no read", Synced{}, errDown, reading{failure: v1alpha1.ReasonStoreUnavailable})
	now("the first read", Synced{Read: true}, nil, reading{last: at(2)})
	now("a refusal of the store is no read", Synced{}, errDenied, reading{last: at(2), failure: v1alpha1.ReasonSourceDenied})
	now("an outage after it", Synced{}, errDown, reading{last: at(2), failure: v1alpha1.ReasonStoreUnavailable})
	now("the API server says nothing of the store", Synced{}, errNoAPI, reading{last: at(2), failure: v1alpha1.ReasonStoreUnavailable})
	now("what was read and then refused was read", Synced{Read: true}, errDenied, reading{last: at(6)})
	now("and so was what could not be written", Synced{Read: true}, errNoAPI, reading{last: at(7)})
}

func TestWhenAClaimIsStale(t *testing.T) {
	const hour = time.Hour
	start := time.Unix(100000, 0)
	patience := patience{limit: hour, unknownSince: start.Add(-10 * hour)}
	down, denied := v1alpha1.ReasonStoreUnavailable, v1alpha1.ReasonSourceDenied

	plain := func(conditions ...metav1.Condition) *v1alpha1.SecretClaim {
		return &v1alpha1.SecretClaim{Status: v1alpha1.SecretClaimStatus{Target: &v1alpha1.TargetStatus{Name: "db"}, Conditions: conditions}}
	}
	because := func(reason string) *v1alpha1.SecretClaim {
		return plain(metav1.Condition{Type: v1alpha1.ConditionStale, Status: metav1.ConditionTrue, Reason: reason,
			Message: "the store has not been read for longer than 1h; the last good value stays"})
	}
	again := plain(metav1.Condition{Type: v1alpha1.ConditionStale, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonFresh,
		Message: "the store was read again"})
	waiting := &v1alpha1.SecretClaim{}
	readOnce := plain()
	readOnce.Spec.Refresh = &v1alpha1.Refresh{Policy: v1alpha1.RefreshOnce}

	for _, row := range []struct {
		says  string
		claim *v1alpha1.SecretClaim
		known reading
		after time.Duration
		want  string // "" for: as it is
	}{
		{"a claim that is read has no Stale condition", plain(), reading{last: start}, 0, ""},
		{"nor has one in a short outage", plain(), reading{last: start, failure: down}, hour, ""},
		{"it is stale after the limit", plain(), reading{last: start, failure: down}, hour + 1, "True StoreUnavailable"},
		{"time alone makes no claim stale: a read has to fail", plain(), reading{last: start}, 99 * hour, ""},
		{"it stays stale, without a word that moves", because(down), reading{last: start, failure: down}, 9 * hour, ""},
		{"it takes the reason of the last failure", because(down), reading{last: start, failure: denied}, 9 * hour, "True SourceDenied"},
		{"it is fresh with the first read", because(down), reading{last: start}, 0, "False Fresh"},
		{"and stays so", again, reading{last: start}, 99 * hour, ""},
		{"through the next outage too, if that is short", again, reading{last: start, failure: down}, hour, ""},
		{"and not if it is long", again, reading{last: start, failure: down}, hour + 1, "True StoreUnavailable"},
		{"where no read is known, it counts from when one may have been", plain(), reading{failure: down}, 0, "True StoreUnavailable"},
		{"a daemon that has read nothing yet takes nothing back", because(down), reading{}, 0, ""},
		{"and does not begin to count anew", because(down), reading{failure: down}, -10 * hour, ""},
		{"a claim that waits for its first value has none that is old", waiting, reading{failure: down}, 99 * hour, ""},
		{"one that is read once wants no newer value", readOnce, reading{last: start, failure: down}, 99 * hour, ""},
	} {
		clock := clocktesting.NewFakePassiveClock(start.Add(row.after))
		got := ""
		if becomes := staleCondition(row.claim, row.known, patience, clock.Now()); becomes != nil {
			got = string(becomes.Status) + " " + becomes.Reason
			meta.SetStatusCondition(&row.claim.Status.Conditions, *becomes)
			if again := staleCondition(row.claim, row.known, patience, clock.Now().Add(time.Second)); again != nil {
				t.Errorf("%s: a second later it becomes %+v", row.says, again)
			}
		}
		if got != row.want {
			t.Errorf("%s: becomes %q, want %q", row.says, got, row.want)
		}
	}
}

func TestADurationInWords(t *testing.T) {
	for duration, want := range map[time.Duration]string{
		time.Hour: "1h", 90 * time.Minute: "1h30m", 72 * time.Hour: "72h", 10 * time.Minute: "10m", 15 * time.Second: "15s", 3610 * time.Second: "1h0m10s",
	} {
		if got := inWords(duration); got != want {
			t.Errorf("%s is %q in words, want %q", duration, got, want)
		}
	}
}

func TestAnOutageIsNoStormOfWrites(t *testing.T) {
	clock := clocktesting.NewFakePassiveClock(time.Unix(1000, 0))
	flips, told, seconds := newFlips(), 0, 0
	for ; told < 5000; seconds++ {
		before := told
		for range 5000 - told {
			if flips.AllowN(clock.Now(), 1) {
				told++
			}
		}
		if told-before > flipsPerSecond {
			t.Fatalf("%d claims told of themselves in one second", told-before)
		}
		clock.SetTime(clock.Now().Add(time.Second))
	}
	if seconds > 5000/flipsPerSecond {
		t.Errorf("5000 claims took %d seconds", seconds)
	}
}

// TestWhoWaitedToLeadWaitedForALivingDaemon: a daemon looks at the Lease when
// it starts, and may lead days later.
func TestWhoWaitedToLeadWaitedForALivingDaemon(t *testing.T) {
	for _, row := range []struct {
		says         string
		waited, want time.Duration
	}{
		{"one that leads at once trusts the Lease", 20 * time.Second, -time.Hour},
		{"one that waited for another does not", 24 * time.Hour, 24*time.Hour - handover},
	} {
		start := time.Unix(100000, 0)
		clock := clocktesting.NewFakePassiveClock(start)
		r := New(Config{Clock: clock, LastAlive: start.Add(-time.Hour)})
		clock.SetTime(start.Add(row.waited))
		if got := r.lastAlive().Sub(start); got != row.want {
			t.Errorf("%s: last alive %s after the start, want %s", row.says, got, row.want)
		}
		clock.SetTime(start.Add(99 * time.Hour))
		if got := r.lastAlive().Sub(start); got != row.want {
			t.Errorf("%s: that moved to %s", row.says, got)
		}
	}
}
