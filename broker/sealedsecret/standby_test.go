package sealedsecret_test

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/privyseal/privyseal/broker/sealedsecret"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// claimed is a claim with these conditions, as type, status and reason.
func claimed(hadTarget bool, conditions ...[3]string) *v1alpha1.SecretClaim {
	claim := &v1alpha1.SecretClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: "db"}}
	if hadTarget {
		claim.Status.Target = &v1alpha1.TargetStatus{Name: "db"}
	}
	for _, condition := range conditions {
		claim.Status.Conditions = append(claim.Status.Conditions, metav1.Condition{
			Type: condition[0], Status: metav1.ConditionStatus(condition[1]), Reason: condition[2]})
	}
	return claim
}

func TestAStandbyMakesASecretOnlyWhereNoWorkingClaimDoes(t *testing.T) {
	ready := [3]string{"Ready", "True", v1alpha1.ReasonSynced}
	down := [3]string{"Ready", "False", v1alpha1.ReasonStoreUnavailable}
	stale := [3]string{"Stale", "True", v1alpha1.ReasonStoreUnavailable}
	for _, row := range []struct {
		name  string
		facts sealedsecret.StandbyFacts
		is    sealedsecret.StandbyVerdict
	}{
		{"nothing is there, and no claim", sealedsecret.StandbyFacts{}, sealedsecret.StandbyCreate},
		{"the Secret is there, and no claim", sealedsecret.StandbyFacts{Exists: true}, sealedsecret.StandbyWait},
		{"the Secret is there, and the store down for an hour", sealedsecret.StandbyFacts{
			Exists: true, Claim: claimed(true, ready, stale), Unavailable: time.Hour}, sealedsecret.StandbyWait},
		{"a claim that nobody has looked at", sealedsecret.StandbyFacts{Claim: claimed(false)}, sealedsecret.StandbyWait},
		{"a claim that waits for the first answer", sealedsecret.StandbyFacts{Claim: claimed(false, down)}, sealedsecret.StandbyCreate},
		{"a claim that works, whose Secret was just deleted", sealedsecret.StandbyFacts{Claim: claimed(true, ready)}, sealedsecret.StandbyWait},
		{"the store down for a minute", sealedsecret.StandbyFacts{Claim: claimed(true, ready), Unavailable: time.Minute}, sealedsecret.StandbyWait},
		{"the store down for three", sealedsecret.StandbyFacts{Claim: claimed(true, ready), Unavailable: 3 * time.Minute}, sealedsecret.StandbyCreate},
		{"the store down for longer than the daemon bears", sealedsecret.StandbyFacts{Claim: claimed(true, ready, stale)}, sealedsecret.StandbyCreate},
		{"denied by the store", sealedsecret.StandbyFacts{
			Claim: claimed(true, [3]string{"Ready", "False", v1alpha1.ReasonSourceDenied})}, sealedsecret.StandbyRefuse},
		{"denied by the store, from the first", sealedsecret.StandbyFacts{
			Claim: claimed(false, [3]string{"Ready", "False", v1alpha1.ReasonSourceDenied})}, sealedsecret.StandbyRefuse},
		{"denied by the store, which is down now", sealedsecret.StandbyFacts{
			Claim: claimed(true, [3]string{"Ready", "False", v1alpha1.ReasonSourceDenied}), Unavailable: time.Hour}, sealedsecret.StandbyRefuse},
		{"denied for long", sealedsecret.StandbyFacts{
			Claim: claimed(true, ready, [3]string{"Stale", "True", v1alpha1.ReasonSourceDenied}), Unavailable: time.Hour}, sealedsecret.StandbyRefuse},
		{"nothing at the path", sealedsecret.StandbyFacts{
			Claim: claimed(true, [3]string{"Ready", "False", v1alpha1.ReasonSourceNotFound})}, sealedsecret.StandbyRefuse},
		{"the version was deleted", sealedsecret.StandbyFacts{
			Claim: claimed(true, [3]string{"Ready", "False", v1alpha1.ReasonSourceDeleted})}, sealedsecret.StandbyRefuse},
		{"not allowed by the environment", sealedsecret.StandbyFacts{
			Claim: claimed(true, [3]string{"Ready", "False", v1alpha1.ReasonPathNotAllowed})}, sealedsecret.StandbyRefuse},
		{"stale once, and fresh again", sealedsecret.StandbyFacts{
			Claim: claimed(true, ready, [3]string{"Stale", "False", v1alpha1.ReasonFresh})}, sealedsecret.StandbyWait},
		{"a Secret of somebody else's was in the way, and is gone", sealedsecret.StandbyFacts{
			Claim: claimed(true, [3]string{"Ready", "False", v1alpha1.ReasonTargetNotOurs})}, sealedsecret.StandbyWait},
	} {
		decided := sealedsecret.DecideStandby(row.facts)
		if decided.Verdict != row.is || decided.Why == "" {
			t.Errorf("%s: %+v, want %s", row.name, decided, row.is)
		}
		if waits := decided.Verdict == sealedsecret.StandbyWait && !row.facts.Exists; waits != (decided.Again > 0) {
			t.Errorf("%s: looks again after %s", row.name, decided.Again)
		}
	}
}
