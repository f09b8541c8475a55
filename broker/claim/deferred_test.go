package claim

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/privyseal/privyseal/broker/annotation"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/broker/waits"
)

// deferred is a deferral with a change, and the reasons of workloads.
func deferred(sequence int64, asked ...string) waits.Deferral {
	d := waits.Deferral{Sequence: sequence, Asked: map[string]string{}, Hold: waits.Hold{
		Environment: "prod", Cause: waits.Closed, Until: time.Unix(1800000000, 0), Why: "spec.windows[0] is a blackout now",
	}}
	for _, line := range asked {
		workload, reason, _ := strings.Cut(line, ": ")
		d.Asked[workload] = reason
	}
	return d
}

func TestAReasonIsNotedOnceForWhatWaitsWhenItIsSeen(t *testing.T) {
	claim := &v1alpha1.SecretClaim{ObjectMeta: metav1.ObjectMeta{Name: "db"}}
	tell := func(reason string, what waits.Deferral, want ...string) {
		t.Helper()
		claim.Annotations = map[string]string{annotation.RestartNow: reason}
		tellDeferred(claim, what, metav1.NewTime(time.Unix(1, 0)))
		var got []string
		for _, noted := range claim.Status.RestartNow {
			got = append(got, fmt.Sprintf("%s %s %d", noted.Workload, noted.Reason, noted.Sequence))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}

	tell("", waits.Deferral{})
	tell("too early", waits.Deferral{}) // nothing waits
	tell(" ", deferred(100))
	tell("fire", deferred(100), " fire 100")
	tell("fire", deferred(200), " fire 100") // it stayed, and the next change came
	tell("flood", deferred(200), " fire 100", " flood 200")
	tell("fire", deferred(300), " fire 100", " flood 200")
	tell("", deferred(300, "Deployment/web: fire"), " fire 100", " flood 200", "Deployment/web fire 300")
	tell("", deferred(400, "Deployment/web: fire"), " fire 100", " flood 200", "Deployment/web fire 300")
}

func TestReasonsThatNobodyGivesMakeRoomAndOthersDoNot(t *testing.T) {
	asked := map[string]string{"Deployment/new": "fire"}
	var noted []v1alpha1.RestartNow
	for i := range maxNoted {
		noted = append(noted, v1alpha1.RestartNow{Workload: fmt.Sprint("Deployment/", i), Reason: "fire", Sequence: 1})
	}
	after := noteReasons(noted, asked, 2)
	if len(after) != maxNoted || after[0].Workload != "Deployment/1" || after[maxNoted-1].Workload != "Deployment/new" {
		t.Errorf("the oldest did not make room: %v", after)
	}
	for i := range maxNoted {
		asked[fmt.Sprint("Deployment/", i)] = "fire"
	}
	if diff := cmp.Diff(noted, noteReasons(noted, asked, 2)); diff != "" {
		t.Error("one that is given made room", diff)
	}
}

func TestTheConditionSaysWhyRestartsWaitAndWhatToDo(t *testing.T) {
	claim := &v1alpha1.SecretClaim{ObjectMeta: metav1.ObjectMeta{Name: "db", Generation: 3}}
	tell := func(what waits.Deferral, reason string, parts ...string) metav1.Condition {
		t.Helper()
		tellDeferred(claim, what, metav1.NewTime(time.Unix(what.Sequence, 0)))
		is := meta.FindStatusCondition(claim.Status.Conditions, v1alpha1.ConditionRestartDeferred)
		if is == nil || is.Reason != reason || is.Status != metav1.ConditionTrue {
			t.Fatalf("it is %+v, want %s", is, reason)
		}
		for _, part := range parts {
			if !strings.Contains(is.Message, part) {
				t.Errorf("it says %q, and not %q", is.Message, part)
			}
		}
		return *is
	}
	first := tell(deferred(100), v1alpha1.ReasonWindowClosed, "restarts of workloads that read Secret db wait until 2027-01-15T08:00:00Z, in environment prod: spec.windows[0] is a blackout now",
		"annotation privyseal.io/restart-now of the claim or of a workload, with a reason, restarts them now")
	if second := tell(deferred(200), v1alpha1.ReasonWindowClosed); second != first {
		t.Errorf("another change moved the condition: %+v", second)
	}

	unknown := deferred(300)
	unknown.Hold = waits.Hold{Environment: "prod", Cause: waits.Unknown, Why: "spec.windows[0].schedule is odd"}
	tell(unknown, v1alpha1.ReasonWindowsMalformed, "wait until that is mended, in environment prod: spec.windows[0].schedule is odd")
	unknown.Hold = waits.Hold{Cause: waits.Unknown, Why: "namespace pay is in two"}
	tell(unknown, v1alpha1.ReasonWindowsMalformed, "wait until that is mended: namespace pay is in two")
	unknown.Hold.Cause = waits.NeverOpen
	tell(unknown, v1alpha1.ReasonWindowsNeverOpen)

	claim.Annotations = map[string]string{annotation.RestartNow: " "}
	tell(deferred(400), v1alpha1.ReasonWindowClosed, "gives no reason, and so does nothing: say why")
	claim.Annotations[annotation.RestartNow] = "fire"
	tell(deferred(400), v1alpha1.ReasonWindowClosed)
	tell(deferred(500), v1alpha1.ReasonWindowClosed, `says "fire", which was good for an earlier change: give another reason`)

	delete(claim.Annotations, annotation.RestartNow)
	spent := deferred(500)
	spent.Spent = "flood"
	tell(spent, v1alpha1.ReasonWindowClosed, `says "flood", which was good for an earlier change: give another reason`)

	tellDeferred(claim, waits.Deferral{}, metav1.NewTime(time.Unix(600, 0)))
	if is := meta.FindStatusCondition(claim.Status.Conditions, v1alpha1.ConditionRestartDeferred); is != nil {
		t.Errorf("nothing waits, and it says %+v", is)
	}
}
