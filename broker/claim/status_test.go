package claim

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/privyseal/privyseal/broker/target"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
)

func TestWhatAStatusSays(t *testing.T) {
	at := func(second int64) metav1.Time { return metav1.NewTime(time.Unix(second, 0)) }
	done := Synced{Applied: target.Applied{Status: v1alpha1.TargetStatus{Name: "db", UID: "u", ResourceVersion: "7"}, Sequence: 5}}
	down := fmt.Errorf("reading: %w", providers.ErrUnavailable)
	denied := refuse(v1alpha1.ReasonSourceDenied, "no")

	fresh := &v1alpha1.SecretClaim{ObjectMeta: metav1.ObjectMeta{Generation: 1}}
	ready := func(status v1alpha1.SecretClaimStatus, is metav1.ConditionStatus, reason string) {
		t.Helper()
		got := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady)
		if got == nil || got.Status != is || got.Reason != reason {
			t.Errorf("Ready is %+v, want %s %s", got, is, reason)
		}
	}
	ready(statusAfter(fresh, done, nil, at(1)), metav1.ConditionTrue, v1alpha1.ReasonSynced)
	ready(statusAfter(fresh, Synced{}, down, at(1)), metav1.ConditionFalse, v1alpha1.ReasonStoreUnavailable)
	ready(statusAfter(fresh, Synced{}, denied, at(1)), metav1.ConditionFalse, v1alpha1.ReasonSourceDenied)

	same := func(why string, claim *v1alpha1.SecretClaim, synced Synced, err error) {
		t.Helper()
		if diff := cmp.Diff(claim.Status, statusAfter(claim, synced, err, at(99))); diff != "" {
			t.Errorf("%s moved the status:\n%s", why, diff)
		}
	}
	same("a fault of the API server", fresh, Synced{}, errors.New("the API server is gone"))
	synced := &v1alpha1.SecretClaim{ObjectMeta: metav1.ObjectMeta{Generation: 1}, Status: statusAfter(fresh, done, nil, at(1))}
	same("the same again, later", synced, done, nil)
	same("an outage of the store", synced, Synced{}, down)
	refused := statusAfter(synced, Synced{}, denied, at(2))
	ready(refused, metav1.ConditionFalse, v1alpha1.ReasonSourceDenied)
	if refused.Target == nil || refused.Sequence != 5 {
		t.Error("a refusal forgot the target")
	}
}

func TestAStoreThatStatesNoFactDidNotAnswer(t *testing.T) {
	ref, err := providers.ParseRef("kv/db")
	if err != nil {
		t.Fatal(err)
	}
	if err := refuseSource(0, ref, errors.New("odd")); !errors.Is(err, providers.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
}
