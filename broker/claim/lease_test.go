package claim

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
)

// lender is a store in which everything is leased, and a keeper of that.
type lender struct {
	held    bool
	taken   int
	asked   int
	failure error
}

func (l *lender) Read(context.Context, v1alpha1.Store, providers.Identity, providers.Request) (providers.Document, error) {
	l.asked++
	return providers.Document{}, providers.ErrLeased
}

func (l *lender) document() providers.Document {
	return providers.Document{Values: map[string]providers.Value{"username": providers.NewValue([]byte("user"))}}
}

func (l *lender) Held(_ context.Context, _ *v1alpha1.SecretClaim, _ v1alpha1.Store, _ providers.Identity, ref providers.Ref) (providers.Document, v1alpha1.Lease, error) {
	if !l.held {
		return providers.Document{}, v1alpha1.Lease{}, nil
	}
	return l.document(), v1alpha1.Lease{Source: ref.String(), IssuedAt: metav1.NewTime(time.Unix(100, 0))}, nil
}

func (l *lender) Take(_ context.Context, _ *v1alpha1.SecretClaim, _ v1alpha1.Store, _ providers.Identity, ref providers.Ref) (providers.Document, v1alpha1.Lease, error) {
	l.taken++
	return l.document(), v1alpha1.Lease{Source: ref.String(), IssuedAt: metav1.NewTime(time.Unix(200, 0))}, nil
}

func (l *lender) Told(types.NamespacedName) (metav1.Condition, bool, error) {
	return metav1.Condition{}, true, l.failure
}

func leasedPlan(t *testing.T, version int64, paths ...string) plan {
	t.Helper()
	var asked plan
	for _, path := range paths {
		ref, err := providers.ParseRef(path)
		if err != nil {
			t.Fatal(err)
		}
		asked.requests = append(asked.requests, providers.Request{Ref: ref, Version: version})
	}
	return asked
}

func TestTwoSourcesOfOnePathAreLentOnce(t *testing.T) {
	store := &lender{}
	line := &Line{Store: store, Leases: store}
	documents, leases, err := line.read(t.Context(), &v1alpha1.SecretClaim{}, leasedPlan(t, 0, "database/creds/rw", "database/creds/rw", "database/creds/ro"), time.Time{})
	if err != nil || len(documents) != 3 || len(leases) != 2 || store.taken != 2 {
		t.Fatalf("%d documents, %d leases, %d taken, %v", len(documents), len(leases), store.taken, err)
	}
	for _, document := range documents {
		if string(document.Values["username"].Bytes()) != "user" {
			t.Error("a document is not whole, or was cleared with another")
		}
	}
}

func TestWhatIsLentIsNotAskedTheStoreFor(t *testing.T) {
	store := &lender{held: true}
	line := &Line{Store: store, Leases: store}
	claim := &v1alpha1.SecretClaim{}
	claim.Status.Leases = []v1alpha1.Lease{{Source: "database/creds/rw", IssuedAt: metav1.NewTime(time.Unix(100, 0)), Sequence: 7}}
	_, leases, err := line.read(t.Context(), claim, leasedPlan(t, 0, "database/creds/rw"), time.Time{})
	if err != nil || store.asked+store.taken > 0 {
		t.Fatalf("the store was asked %d times, %d were taken, %v", store.asked, store.taken, err)
	}
	if leases = since(claim.Status.Leases, leases, 9); leases[0].Sequence != 7 {
		t.Errorf("it is in force since %d", leases[0].Sequence)
	}
	store.held = false
	_, leases, err = line.read(t.Context(), claim, leasedPlan(t, 0, "database/creds/rw"), time.Time{})
	if leases = since(claim.Status.Leases, leases, 9); err != nil || store.taken != 1 || leases[0].Sequence != 9 {
		t.Errorf("another: %d taken, in force since %d, %v", store.taken, leases[0].Sequence, err)
	}
}

func TestALeasedSourceHasNoVersions(t *testing.T) {
	store := &lender{held: true}
	for _, leases := range []Leases{store, nil} {
		line := &Line{Store: store, Leases: leases}
		_, _, err := line.read(t.Context(), &v1alpha1.SecretClaim{}, leasedPlan(t, 3, "database/creds/rw"), time.Time{})
		var refusal *Refusal
		if !errors.As(err, &refusal) || refusal.Reason != v1alpha1.ReasonLeaseInvalid || !strings.Contains(refusal.Message, "spec.sources[0]") {
			t.Errorf("%v", err)
		}
	}
	if store.taken > 0 {
		t.Error("something was taken for nothing")
	}
}

func TestAClaimWhoseLeasesCannotBeRenewedCountsAsUnread(t *testing.T) {
	store := &lender{failure: providers.ErrUnavailable}
	line := &Line{Store: store, Leases: store}
	lent := []v1alpha1.Lease{{Source: "database/creds/rw"}}
	err := line.unread(&v1alpha1.SecretClaim{}, lent)
	if now := (reading{last: time.Unix(1, 0)}).after(Synced{Unread: err}, err, time.Unix(2, 0)); now.failure != v1alpha1.ReasonStoreUnavailable || now.last.Unix() != 1 {
		t.Errorf("after a renewal that failed: %+v", now)
	}
	if err := line.unread(&v1alpha1.SecretClaim{}, nil); err != nil {
		t.Errorf("a claim without leases: %v", err)
	}
}
