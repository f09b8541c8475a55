package rotate_test

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/rotate"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
)

// password has a spec make one so.
func password(change func(*v1alpha1.PasswordGenerator)) func(*v1alpha1.SecretRotationSpec) {
	return func(spec *v1alpha1.SecretRotationSpec) {
		generator := v1alpha1.PasswordGenerator{}
		change(&generator)
		spec.Generate = map[string]v1alpha1.Generator{"password": {Password: &generator}}
	}
}

func TestASpecThatCannotBeCarriedOutIsRefusedByItsField(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		change func(*v1alpha1.SecretRotationSpec)
		says   []string
	}{
		{"a date that never comes", func(s *v1alpha1.SecretRotationSpec) { s.Schedule = "0 3 30 2 *" }, []string{"spec.schedule", "never"}},
		{"a cron of others", func(s *v1alpha1.SecretRotationSpec) { s.Schedule = "@every 24h" }, []string{"spec.schedule", "five fields"}},
		{"an unknown time zone", func(s *v1alpha1.SecretRotationSpec) { s.TimeZone = "Europe/Bonn" }, []string{"spec.timeZone", "Europe/Bonn"}},
		{"a password that is guessed", password(func(p *v1alpha1.PasswordGenerator) { p.Length = 4 }), []string{"spec.generate[password].password"}},
		{"a policy that is none", password(func(p *v1alpha1.PasswordGenerator) { p.Policy = "length = 20" }), []string{"spec.generate[password].password.policy"}},
		{"a policy and symbols", password(func(p *v1alpha1.PasswordGenerator) { p.Policy, p.Symbols = "length = 20", "-" }), []string{"spec.generate[password].password.policy", "keep it or them"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, row.change)
			b.atThree(b.daemon())
			b.run(b.daemon())
			ready := b.condition(v1alpha1.ConditionReady)
			for _, part := range row.says {
				b.must(ready.Status == metav1.ConditionFalse && ready.Reason == v1alpha1.ReasonRotationInvalid && strings.Contains(ready.Message, part), "it does not say %q", part)
			}
			b.must(b.status().Phase == "" && b.status().NextRotation == nil && b.document().Version == 1, "it began")
		})
	}
}

func TestAPathThatMayBeReadAndNotWrittenIsRefusedWhenItIsWritten(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.store.DenyWrites(b.ref)
	daemon := b.daemon()
	b.run(daemon)
	ready := b.condition(v1alpha1.ConditionReady)
	b.must(ready.Reason == v1alpha1.ReasonPathNotWritable && strings.Contains(ready.Message, "create, update and read"), "it does not say so")
}

func TestASpecThatIsChangedMidwayIsForTheNextRunAndJudgedAtOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	daemon := b.daemon()
	b.atThree(daemon)
	b.world.follower = rotate.Follower{Workload: "Deployment/pay/web", Behind: "its rollout is under way"}
	b.until(daemon, "Rolling")
	other, err := providers.ParseRef("kv/prod/" + b.of.Namespace + "/other")
	if err != nil {
		t.Fatal(err)
	}
	b.store.Set(other, map[string]any{"token": "old"})
	b.store.DenyWrites(other)
	first := b.world.ref
	b.world.ref = other
	of := b.rotation()
	of.Spec.Path, of.Spec.Generate = "other", map[string]v1alpha1.Generator{"token": {UUID: &v1alpha1.UUIDGenerator{}}}
	if err := b.api.Update(t.Context(), of); err != nil {
		t.Fatal(err)
	}
	b.run(daemon)
	b.must(b.condition(v1alpha1.ConditionReady).Reason == v1alpha1.ReasonPathNotWritable, "it is not judged")
	b.world.follower = rotate.Follower{}
	b.until(daemon, "Done")
	if b.ref != first || b.document().Version != 2 || len(b.password()) != 64 {
		t.Error("what was begun did not end where it began")
	}
	b.clock.SetTime(three().Add(24 * time.Hour))
	b.run(daemon)
	b.must(b.status().Phase == "Done" && b.status().NextRotation == nil, "it begins where it may not write")
}

func TestOfTwoRotationsOnOnePathTheOneThatWasMadeFirstRotates(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	second := &v1alpha1.SecretRotation{ObjectMeta: metav1.ObjectMeta{Namespace: b.of.Namespace, Name: "zz"}, Spec: b.rotation().Spec}
	// Times of objects are whole seconds, and the UIDs of two of one second decide.
	b.create(second)
	first, other := b.of, client.ObjectKeyFromObject(second)
	if made := b.rotation(); made.CreationTimestamp.Equal(&second.CreationTimestamp) && second.UID < made.UID {
		first, other = other, first
	}
	daemon := b.daemon()
	b.of = other
	b.run(daemon)
	ready := b.condition(v1alpha1.ConditionReady)
	b.must(ready.Reason == v1alpha1.ReasonRotatedByAnother && strings.Contains(ready.Message, "SecretRotation "+first.String()), "it does not name the other")
	b.of = first
	b.run(daemon)
	b.must(b.condition(v1alpha1.ConditionReady).Status == metav1.ConditionTrue, "both are refused")

	// When it goes, the other takes over.
	if err := b.api.Delete(t.Context(), b.rotation()); err != nil {
		t.Fatal(err)
	}
	b.of = other
	b.run(daemon)
	b.must(b.condition(v1alpha1.ConditionReady).Status == metav1.ConditionTrue, "it is still refused")
}

func TestARotationThatIsRefusedWhileItIsUnderWayEndsWhereItBegan(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	daemon := b.daemon()
	b.atThree(daemon)
	b.world.follower = rotate.Follower{Workload: "Deployment/pay/web", Behind: "its rollout is under way"}
	b.until(daemon, "Rolling")
	b.world.refusal = &rotate.Refusal{Reason: v1alpha1.ReasonNoEnvironment, Message: "the namespace is in no environment"}
	b.run(daemon)
	b.must(b.condition(v1alpha1.ConditionReady).Reason == v1alpha1.ReasonNoEnvironment, "it does not say so")
	b.world.follower = rotate.Follower{}
	b.until(daemon, "Done")
	b.must(b.document().Version == 2 && b.status().NextRotation == nil, "it is not done")
}

func TestNothingIsRotatedInTheDaemonsNamespace(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	there := &v1alpha1.SecretRotation{ObjectMeta: metav1.ObjectMeta{Namespace: system, GenerateName: "db-"}, Spec: b.rotation().Spec}
	b.create(there)
	b.of = client.ObjectKeyFromObject(there)
	b.run(b.daemon())
	b.must(strings.Contains(b.condition(v1alpha1.ConditionReady).Message, "metadata.namespace"), "it is not refused")
}

// The daemon does so too, for one that was stored before its rule.
func TestTheAPIServerRefusesWhatNobodyCouldMean(t *testing.T) {
	t.Parallel()
	api := apiServer(t)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "bad-"}}
	if err := api.Create(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name   string
		change func(*v1alpha1.SecretRotationSpec)
		says   string
	}{
		{"no generator", func(s *v1alpha1.SecretRotationSpec) { s.Generate["password"] = v1alpha1.Generator{} }, "give exactly one of password, hex, base64 and uuid"},
		{"two generators", func(s *v1alpha1.SecretRotationSpec) {
			s.Generate["password"] = v1alpha1.Generator{UUID: &v1alpha1.UUIDGenerator{}, Hex: &v1alpha1.BytesGenerator{}}
		}, "give exactly one of"},
		{"no key", func(s *v1alpha1.SecretRotationSpec) { s.Generate = map[string]v1alpha1.Generator{} }, "give exactly one of generate and engine"},
		{"a long key", func(s *v1alpha1.SecretRotationSpec) { s.Generate[strings.Repeat("k", 254)] = s.Generate["password"] }, "a key has 1 to 253 characters"},
		{"few bytes", func(s *v1alpha1.SecretRotationSpec) {
			s.Generate["password"] = v1alpha1.Generator{Hex: &v1alpha1.BytesGenerator{Length: 4}}
		}, "spec.generate.password.hex.length"},
		{"a class of others", password(func(p *v1alpha1.PasswordGenerator) { p.Minimum = map[string]int32{"vowels": 1} }), "the classes are"},
		{"a strategy to come", func(s *v1alpha1.SecretRotationSpec) { s.Strategy = "Overlap" }, "spec.strategy"},
		{"another end", func(s *v1alpha1.SecretRotationSpec) { s.OnFailure = "Ignore" }, "spec.onFailure"},
		{"a long jitter", func(s *v1alpha1.SecretRotationSpec) { s.Jitter = &metav1.Duration{Duration: 25 * time.Hour} }, "want from 0s to 24h"},
		{"a short deadline", func(s *v1alpha1.SecretRotationSpec) { s.StartingDeadline = &metav1.Duration{Duration: time.Second} }, "want from 1m to 744h"},
		{"a short timeout", func(s *v1alpha1.SecretRotationSpec) { s.Verify.Timeout = &metav1.Duration{Duration: time.Second} }, "want from 10s to 24h"},
		{"something else to wait for", func(s *v1alpha1.SecretRotationSpec) { s.Verify.Consumers = "Restarted" }, "spec.verify.consumers"},
	} {
		t.Run(row.name, func(t *testing.T) {
			of := &v1alpha1.SecretRotation{ObjectMeta: metav1.ObjectMeta{Namespace: namespace.Name, Name: "bad"}}
			of.Spec = v1alpha1.SecretRotationSpec{
				Path: "db", Schedule: "0 3 * * *", Verify: &v1alpha1.RotationVerify{Consumers: v1alpha1.ConsumersReady},
				Generate: map[string]v1alpha1.Generator{"password": {Hex: &v1alpha1.BytesGenerator{}}},
			}
			row.change(&of.Spec)
			if err := api.Create(t.Context(), of, client.DryRunAll); err == nil || !strings.Contains(err.Error(), row.says) {
				t.Errorf("it says %v, not %q", err, row.says)
			}
			if err := rotate.Check(of.Spec); err == nil || !strings.HasPrefix(err.Error(), "spec.") {
				t.Errorf("the daemon says %v", err)
			}
		})
	}
}
