package lease_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/privyseal/privyseal/broker/lease"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/providers/memory"
)

func TestWhatIsLentIsKeptAndNotAskedForAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	daemon := b.daemon()
	b.mustSync(daemon, 0, "user-1")
	b.look(daemon)
	record := b.record(b.claim().UID)
	if record == nil || strings.Contains(string(record.Data["record"]), "user-1") {
		t.Fatalf("the record: %v", record)
	}
	status := b.claim().Status.Leases[0]
	if !status.IssuedAt.Time.Equal(noon()) || !status.MaxExpiry.Time.Equal(noon().Add(24*time.Hour)) || status.PreviousExpiry != nil {
		t.Errorf("status: %+v", status)
	}

	// Half a day of renewals, by several daemons, writes nothing.
	for range 12 {
		b.later(50 * time.Minute)
		daemon = b.daemon()
		b.find(daemon)
		b.look(daemon)
		b.mustSync(daemon, 0, "user-1")
	}
	b.mustLend(1, 1)
	if now := b.record(b.claim().UID); now.ResourceVersion != record.ResourceVersion {
		t.Error("renewing wrote something")
	}
	if b.reread > 0 {
		t.Errorf("the claim was told to read %d times", b.reread)
	}
}

func TestAnotherIsIssuedInTimeAndTheOldOneGivenBackWhenPodsHaveLeft(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	daemon := b.daemon()
	b.pods.started = 50
	b.mustSync(daemon, 0, "user-1")
	b.later(17 * time.Hour)
	b.look(daemon)
	if b.reread != 1 {
		t.Fatalf("the claim was told to read %d times", b.reread)
	}
	b.mustSync(daemon, 100, "user-2")
	b.look(daemon)
	b.mustLend(2, 2)
	if previous := b.claim().Status.Leases[0].PreviousExpiry; previous == nil || !previous.Time.Equal(noon().Add(24*time.Hour)) {
		t.Errorf("the former ends %v", previous)
	}

	// It is renewed for as long as a pod may need it.
	b.later(50 * time.Minute)
	daemon = b.daemon()
	b.look(daemon)
	b.mustLend(2, 2)

	b.pods.started = 100
	b.later(10 * time.Second)
	b.look(daemon)
	b.mustLend(1, 2)
	b.mustSync(daemon, 200, "user-2")
	if previous := b.claim().Status.Leases[0].PreviousExpiry; previous != nil {
		t.Errorf("the former was given back, and ends %v", previous)
	}
	if b.record(b.claim().UID) == nil {
		t.Error("the record is gone")
	}
}

func TestALeaseThatTheStoreEndsIsReplaced(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	daemon := b.daemon()
	b.mustSync(daemon, 0, "user-1")
	b.store.EndLease(b.store.Lent(b.ref)[0])
	b.later(41 * time.Minute)
	b.look(daemon)
	if b.reread != 1 {
		t.Fatalf("the claim was told to read %d times", b.reread)
	}
	b.mustSync(daemon, 100, "user-2")
	b.look(daemon)
	b.mustLend(1, 2)
}

func TestAStoreThatIsAwayTakesNothingAndIsToldOfInTime(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	daemon := b.daemon()
	b.mustSync(daemon, 0, "user-1")
	b.store.Fail(providers.ErrUnavailable)
	b.later(41 * time.Minute)
	b.look(daemon)
	if expiring, known, failure := daemon.Told(b.of); expiring.Message != "" || failure == nil || !known {
		t.Errorf("after one renewal that failed: %v, %v, %t", expiring, failure, known)
	}
	b.mustSync(daemon, 0, "user-1")
	b.later(5 * time.Minute)
	b.look(daemon)
	expiring, _, _ := daemon.Told(b.of)
	if expiring.Reason != v1alpha1.ReasonNotRenewed || !strings.Contains(expiring.Message, "ends at 2026-06-01T13:00:00Z") {
		t.Errorf("a quarter of an hour before its end: %v", expiring)
	}
	select {
	case note := <-b.events.Events:
		if !strings.Contains(note, "LeaseExpiring") {
			t.Error(note)
		}
	default:
		t.Error("nobody was told")
	}
	b.store.Fail(nil)
	b.later(time.Minute)
	b.look(daemon)
	if expiring, _, failure := daemon.Told(b.of); expiring.Message != "" || failure != nil {
		t.Errorf("the store is back: %v, %v", expiring, failure)
	}
	b.mustLend(1, 1)
}

func TestWhatWasLentToAClaimThatIsGoneIsGivenBackWhenItsReadersAre(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.pods.started = 50
	b.mustSync(b.daemon(), 0, "user-1")
	claim := b.claim()
	if err := b.api.Delete(t.Context(), claim); err != nil {
		t.Fatal(err)
	}
	daemon := b.daemon() // one that never saw the claim
	b.find(daemon)
	b.look(daemon)
	b.later(50 * time.Minute)
	b.look(daemon)
	b.mustLend(1, 1)
	b.pods.started = -1
	b.look(daemon)
	b.mustLend(0, 1)
	if b.record(claim.UID) != nil {
		t.Error("its record is there")
	}
}

func TestASourceThatIsDroppedIsGivenBack(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	daemon := b.daemon()
	b.pods.started = 50
	b.mustSync(daemon, 0, "user-1")
	b.later(time.Hour / 2)
	claim := b.claim()
	before := claim.DeepCopy()
	claim.Status.Leases, claim.Status.Sequence = nil, 100
	b.inOrder(before, claim)
	b.look(daemon)
	b.mustLend(1, 1)
	b.pods.started = 100
	b.look(daemon)
	b.mustLend(0, 1)
	if b.record(claim.UID) != nil {
		t.Error("the record is there")
	}
}

func TestARecordThatCannotBeOpenedIsReplacedAndTold(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.mustSync(b.daemon(), 0, "user-1")
	record := b.record(b.claim().UID)
	record.Data["record"] = []byte("garbled")
	if err := b.api.Update(t.Context(), record); err != nil {
		t.Fatal(err)
	}
	daemon := b.daemon()
	b.look(daemon)
	if b.reread != 1 {
		t.Errorf("the claim was told to read %d times", b.reread)
	}
	b.mustSync(daemon, 100, "user-2")
	if note := <-b.events.Events; !strings.Contains(note, "LeaseRecordLost") {
		t.Error(note)
	}
	b.mustLend(2, 2) // the first ends by itself: nobody renews it
}

func TestWhatEndsTooSoonToReachPodsIsRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.store.Lend(b.ref, memory.Terms{Life: time.Second, Max: 10 * time.Second, Make: func(int) map[string]any { return map[string]any{"username": "x"} }})
	_, err := b.sync(b.daemon(), 0)
	if !errors.Is(err, providers.ErrInvalid) || !strings.Contains(err.Error(), "raise max_ttl") {
		t.Error(err)
	}
	b.mustLend(0, 1)
}

// mortal is a daemon's ways out, of which it gets to use just so many: at one request
// it dies, before that was sent or after it was done.
type mortal struct {
	at   int
	done bool
	n    int
	died string
}

func (m *mortal) request(what string, send func() error) error {
	if m.died != "" {
		return errKilled
	}
	if m.n++; m.n != m.at {
		return send()
	}
	m.died = what
	if m.done {
		_ = send() // nobody is left to hear of it
	}
	return errKilled
}

func (m *mortal) client(api client.WithWatch) client.Client {
	return interceptor.NewClient(api, interceptor.Funcs{
		Create: func(ctx context.Context, to client.WithWatch, object client.Object, options ...client.CreateOption) error {
			return m.request("making the record", func() error { return to.Create(ctx, object, options...) })
		},
		Update: func(ctx context.Context, to client.WithWatch, object client.Object, options ...client.UpdateOption) error {
			return m.request("writing the record", func() error { return to.Update(ctx, object, options...) })
		},
		Delete: func(ctx context.Context, to client.WithWatch, object client.Object, options ...client.DeleteOption) error {
			return m.request("dropping the record", func() error { return to.Delete(ctx, object, options...) })
		},
	})
}

type mortalStore struct {
	lease.Store
	m *mortal
}

func (s mortalStore) Issue(ctx context.Context, store v1alpha1.Store, as providers.Identity, ref providers.Ref, keep func(context.Context, providers.Value) error) (lent providers.Lease, err error) {
	err = s.m.request("logging in", func() error { return nil })
	if err != nil {
		return lent, err
	}
	kept := false
	lent, err = s.Store.Issue(ctx, store, as, ref, func(ctx context.Context, token providers.Value) error {
		if err := keep(ctx, token); err != nil {
			return err
		}
		kept = true
		return nil
	})
	if !kept {
		return lent, err
	}
	if died := s.m.request("having it made", func() error { return err }); died != nil {
		return providers.Lease{}, died
	}
	return lent, err
}

func (s mortalStore) Revoke(ctx context.Context, store v1alpha1.Store, as providers.Identity, token providers.Value) error {
	return s.m.request("giving it back", func() error { return s.Store.Revoke(ctx, store, as, token) })
}

// However a daemon dies at any request that changes something, the next one leaves
// one that lives, the one that the claim has, and nobody's is ended before pods left.
func TestADaemonThatDiesAtAnyRequestLeavesNothingThatNobodyKnows(t *testing.T) {
	t.Parallel()
	live := func(m *mortal) *bench {
		b := newBench(t)
		b.pods.started = 50
		dying := b.daemonWith(m.client(b.api), mortalStore{stores{b.store}, m})
		b.story(dying, m)
		if m.died == "" {
			return b
		}
		b.story(b.daemon(), &mortal{})
		return b
	}
	count := &mortal{}
	whole := live(count)
	whole.mustLend(1, 2)
	if count.n < 6 {
		t.Fatalf("there are but %d requests", count.n)
	}
	for at := 1; at <= count.n; at++ {
		for _, done := range []bool{false, true} {
			m := &mortal{at: at, done: done}
			b := live(m)
			if alive := len(b.store.Lent(b.ref)); alive != 1 {
				t.Errorf("killed at request %d (%s, done %t): %d live of %d", at, m.died, done, alive, b.store.Issued(b.ref))
			}
			t.Logf("killed at request %d, %s, done %t: %d issued, one lives", at, m.died, done, b.store.Issued(b.ref))
		}
	}
}

// story is a first lease, another in its place, pods that leave the old one, and its
// end. It can be told from any point on, by another daemon.
func (b *bench) story(daemon *lease.Keeper, m *mortal) {
	b.Helper()
	b.find(daemon)
	for range 12 {
		if _, err := daemon.Reconcile(b.Context(), reconcile.Request{NamespacedName: b.of}); err != nil && m.died == "" {
			b.Fatal(err)
		}
		if m.died != "" {
			return
		}
		before := b.since()
		_, err := b.sync(daemon, b.clock.Now().Unix())
		if m.died != "" {
			return
		}
		if err != nil {
			b.Fatal(err)
		}
		if after := b.since(); !before.IsZero() && !after.Equal(before) {
			if len(b.store.Lent(b.ref)) < 2 {
				b.Error("what pods hold was given back")
			}
			b.later(10 * time.Second)
			b.lookOr(daemon, m)
			b.pods.started = b.claim().Status.Sequence // they were replaced
		}
		if b.clock.Now().Before(noon().Add(17 * time.Hour)) {
			b.later(17 * time.Hour)
			continue
		}
		b.later(10 * time.Second)
	}
}

// since when the claim has what it has; zero: it has nothing.
func (b *bench) since() time.Time {
	b.Helper()
	if leases := b.claim().Status.Leases; len(leases) > 0 {
		return leases[0].IssuedAt.Time
	}
	return time.Time{}
}

// lookOr has a daemon look that may die of it.
func (b *bench) lookOr(daemon *lease.Keeper, m *mortal) {
	if _, err := daemon.Reconcile(b.Context(), reconcile.Request{NamespacedName: b.of}); err != nil && m.died == "" {
		b.Fatal(err)
	}
}

func TestPodsThatHoldWhatTheStoreHasEndedHaveNoTimeLeft(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	daemon := b.daemon()
	b.pods.started = 50
	b.mustSync(daemon, 0, "user-1")
	b.store.EndLease(b.store.Lent(b.ref)[0])
	b.later(41 * time.Minute)
	b.look(daemon)
	b.mustSync(daemon, 100, "user-2")
	for range 3 { // it is told for as long as they do
		previous := b.claim().Status.Leases[0].PreviousExpiry
		if previous == nil || previous.After(b.clock.Now()) {
			t.Fatalf("what they hold ends %v", previous)
		}
		b.later(time.Minute)
		b.look(daemon)
		b.mustSync(daemon, 100, "user-2")
	}
	b.pods.started = 100
	b.look(daemon)
	b.mustSync(daemon, 100, "user-2")
	if previous := b.claim().Status.Leases[0].PreviousExpiry; previous != nil {
		t.Errorf("nobody holds it, and it ends %v", previous)
	}
}
