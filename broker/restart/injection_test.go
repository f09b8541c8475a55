package restart_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/privyseal/privyseal/broker/restart"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// without adds a live pod, of that template and created at that second, that
// lacks a secret; injectedFor is what its template was patched for.
func without(template string, created int64, injectedFor string) fact {
	return func(f *restart.Facts) {
		f.Pods = append(f.Pods, restart.Pod{Created: created, Template: template, InjectedFor: injectedFor,
			Lacks: []restart.Lack{{Claim: "db", Target: "db"}}})
	}
}

// with adds one that has what it asks for.
func with(template string, created int64) fact {
	return func(f *restart.Facts) {
		f.Pods = append(f.Pods, restart.Pod{Created: created, Template: template, Reads: restart.ReadsOf(spec(envFrom("db")))})
	}
}

func webhook(uid string, since int64, answers bool) fact {
	return func(f *restart.Facts) { f.Webhook = restart.Webhook{UID: uid, Since: since, Answers: answers} }
}

func marked(injectedFor string) fact {
	return func(f *restart.Facts) { f.InjectedFor = injectedFor }
}

func TestAWorkloadWhosePodsLackASecret(t *testing.T) {
	hook := webhook("w1", 100, true)
	for name, test := range map[string]struct {
		facts []fact
		want  restart.Injection
	}{
		"does not, with all that they ask for":  {[]fact{hook, with("a", 200)}, restart.Injected},
		"does not, without pods":                {[]fact{hook}, restart.Injected},
		"is restarted":                          {[]fact{hook, without("a", 200, "")}, restart.InjectionDue},
		"is restarted, though others have it":   {[]fact{hook, with("a", 150), without("a", 200, ""), with("a", 300)}, restart.InjectionDue},
		"is restarted, if one is young":         {[]fact{hook, without("a", 50, ""), without("a", 200, "")}, restart.InjectionDue},
		"is left, if all are old":               {[]fact{hook, without("a", 50, "")}, restart.InjectionOld},
		"is left, if they are as old":           {[]fact{hook, without("a", 100, "")}, restart.InjectionOld},
		"is left where there is no webhook":     {[]fact{without("a", 200, "")}, restart.NoInjection},
		"is left that says never":               {[]fact{hook, without("a", 200, ""), never}, restart.InjectionNever},
		"waits for the webhook":                 {[]fact{webhook("w1", 100, false), without("a", 200, "")}, restart.InjectionWaits},
		"is left while they are replaced":       {[]fact{hook, marked("w1"), without("a", 200, "")}, restart.InjectionRolling},
		"is left while somebody else does so":   {[]fact{hook, without("a", 200, ""), with("b", 210)}, restart.InjectionRolling},
		"is left after that was in vain":        {[]fact{hook, marked("w1"), without("b", 210, "w1")}, restart.InjectionFailed},
		"is left in vain, with old ones still":  {[]fact{hook, marked("w1"), without("a", 200, ""), without("b", 210, "w1")}, restart.InjectionFailed},
		"is left in vain, whatever answers":     {[]fact{webhook("w1", 100, false), marked("w1"), without("b", 210, "w1")}, restart.InjectionFailed},
		"is left after an undo of an old one":   {[]fact{hook, marked(""), without("a", 50, "")}, restart.InjectionOld},
		"is restarted for another webhook":      {[]fact{webhook("w2", 300, true), marked("w1"), without("b", 310, "w1")}, restart.InjectionDue},
		"waits in a blackout":                   {[]fact{hook, closed, without("a", 200, "")}, restart.InjectionDeferred},
		"is left in a blackout, if all are old": {[]fact{hook, closed, without("a", 50, "")}, restart.InjectionOld},
		"is left by another webhook, if old":    {[]fact{webhook("w2", 300, true), marked("w1"), without("b", 210, "w1")}, restart.InjectionOld},
	} {
		t.Run(name, func(t *testing.T) {
			var facts restart.Facts
			for _, add := range test.facts {
				add(&facts)
			}
			decision := restart.Decide(facts)
			if decision.Injection != test.want {
				t.Errorf("%q, not %q", decision.Injection, test.want)
			}
			if patched := decision.Patch != nil; patched != (test.want == restart.InjectionDue) || patched && decision.InjectedFor != facts.Webhook.UID {
				t.Errorf("patched: %t, for %q", patched, decision.InjectedFor)
			}
		})
	}
}

// The webhook answers or not, pods come and go, and somebody looks at every
// moment: the template is patched for one configuration once at most.
func TestOnePatchForOneConfigurationWhateverBecomesOfThePods(t *testing.T) {
	facts := restart.Facts{Webhook: restart.Webhook{UID: "w1", Since: 100, Answers: true}}
	patches := 0
	for round := range int64(20) {
		facts.Pods = nil
		without("t", 200+round, facts.InjectedFor)(&facts) // the webhook never does its work
		if decision := restart.Decide(facts); decision.InjectedFor != "" {
			facts.InjectedFor = decision.InjectedFor
			patches++
		}
	}
	if patches != 1 {
		t.Errorf("%d patches", patches)
	}
}

func TestAStaleWorkloadThatLacksASecretIsRestartedOnceForBoth(t *testing.T) {
	facts := restart.Facts{}
	for _, add := range []fact{ours("db", "password: b@200 a@0"), pod(100, "", envFrom("db")), without("", 300, ""), webhook("w1", 150, true)} {
		add(&facts)
	}
	decision := restart.Decide(facts)
	if diff := cmp.Diff(map[string]int64{"db": 200}, decision.Patch); diff != "" || decision.InjectedFor != "w1" {
		t.Error(diff, decision.InjectedFor)
	}
	if want := "injection (pods run without a secret that they ask for), db (password changed, sequence 200)"; decision.Causes() != want {
		t.Error(decision.Causes())
	}
}

func TestThePatchForPodsThatLackASecret(t *testing.T) {
	workload := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{UID: "u1", ResourceVersion: "42"}}
	data := func(line map[string]int64) string {
		patch, err := restart.InjectionPatch(workload, line, "w1")
		if err != nil {
			t.Fatal(err)
		}
		if patch.Type() != types.MergePatchType {
			t.Error("its type is", patch.Type())
		}
		data, err := patch.Data(nil)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	const head = `{"metadata":{"resourceVersion":"42","uid":"u1"},"spec":{"template":{"metadata":{"annotations":{"privyseal.io/injected-for":"w1"`
	if diff := cmp.Diff(head+`}}}}}`, data(nil)); diff != "" {
		t.Error("with nothing else to cover", diff)
	}
	workload.Spec.Template.Annotations = map[string]string{v1alpha1.AnnotationRestartedFor: "db=1"}
	if diff := cmp.Diff(head+`,"privyseal.io/restarted-for":"db=2"}}}}}`, data(map[string]int64{"db": 2})); diff != "" {
		t.Error("over another line", diff)
	}
}
