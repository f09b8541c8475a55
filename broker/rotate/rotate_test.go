package rotate_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/annotation"
	"github.com/privyseal/privyseal/broker/rotate"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/broker/window"
	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/rotation"
)

func TestADueRotationGivesTheDocumentANewValueAndNothingElse(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	daemon := b.daemon()
	wait := b.run(daemon)
	b.must(b.condition(v1alpha1.ConditionReady).Status == metav1.ConditionTrue, "it is not ready")
	b.must(b.status().NextRotation.Time.Equal(three()), "it is not due at three")
	b.must(wait.RequeueAfter <= 10*time.Minute, "it is looked at again after %s", wait.RequeueAfter)
	if b.password() != "first" || b.record() != nil {
		t.Fatal("it rotates before its time")
	}

	b.clock.SetTime(three())
	b.until(daemon, rotation.Done)
	document := b.document()
	if len(b.password()) != 64 || document.Version != 2 {
		t.Errorf("the password has %d characters, in version %d", len(b.password()), document.Version)
	}
	if string(document.Values["host"].Bytes()) != "db" || string(document.Values["port"].Bytes()) != "5432" {
		t.Error("another key was changed")
	}
	status := b.status()
	b.must(status.FromVersion == 1 && status.ToVersion == 2 && status.Attempt == 1, "the versions are others")
	b.must(len(status.History) == 1 && status.History[0].Run == "2026-06-01T03:00" && status.History[0].Phase == "Done", "the history is another")
	b.must(status.LastRotation.Time.Sub(three()) < time.Minute && status.NextRotation.Time.Equal(three().Add(24*time.Hour)), "last and next are others")
	b.must(b.condition(v1alpha1.ConditionRotated).Reason == v1alpha1.ReasonRotationDone, "it does not say that it went well")
	b.must(b.record() == nil && b.world.told > 0, "the record is there, or nobody told the claim")

	// One that begins to lead finds nothing to do.
	before := b.rotation().ResourceVersion
	b.run(b.daemon())
	if after := b.rotation().ResourceVersion; after != before || b.document().Version != 2 {
		t.Error("the next daemon wrote something")
	}
}

// However the daemon dies at any request that changes something, the next one ends
// what was begun: one new value, one run, and the right end.
func TestADaemonThatDiesAtAnyRequestLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	for _, way := range []struct {
		end      rotation.Phase
		follower rotate.Follower
		version  int64
		password int
	}{
		{rotation.Done, rotate.Follower{}, 2, 64},
		{rotation.RolledBack, rotate.Follower{Workload: "Deployment/pay/web", Behind: "it fails", Fails: "CrashLoopBackOff"}, 3, len("first")},
	} {
		t.Run(string(way.end), func(t *testing.T) {
			t.Parallel()
			live := func(m *mortal) *bench {
				b := newBench(t, nil)
				b.atThree(b.daemon())
				b.world.follower = way.follower
				dying := b.daemonWith(m.client(b.api), m.store(stores{b.store}))
				for m.died == "" && b.status().Phase != string(way.end) {
					if _, err := b.step(dying); err != nil && m.died == "" {
						t.Fatal(err)
					}
				}
				return b
			}
			unharmed := &mortal{}
			live(unharmed)
			if unharmed.n < 8 {
				t.Fatalf("it takes only %d requests", unharmed.n)
			}
			for n := 1; n <= unharmed.n; n++ {
				for _, done := range []bool{false, true} {
					m := &mortal{at: n, done: done}
					b := live(m)
					b.until(b.daemon(), way.end)
					status := b.status()
					t.Logf("killed at %2d, %-22s done: %-5t attempts: %d, version: %d", n, m.died, done, status.Attempt, b.document().Version)
					b.must(m.died != "" && b.document().Version == way.version && len(b.password()) == way.password, "another value")
					b.must(len(status.History) == 1 && len(status.Runs) == 1 && status.Attempt == 1, "another history")
					b.must(b.record() == nil, "the record is left")
				}
			}
		})
	}
}

func TestARolloutThatDoesNotGetReadyIsTakenBack(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(spec *v1alpha1.SecretRotationSpec) {
		spec.Verify.Timeout = &metav1.Duration{Duration: time.Minute}
	})
	daemon := b.daemon()
	b.atThree(daemon)
	b.world.follower = rotate.Follower{Workload: "Deployment/pay/web", Behind: "not all pods are ready"}
	b.until(daemon, rotation.RolledBack)
	if b.password() != "first" || b.document().Version != 3 || b.world.version != 3 {
		t.Errorf("the password is %q in version %d, and the claim has %d", b.password(), b.document().Version, b.world.version)
	}
	rotated := b.condition(v1alpha1.ConditionRotated)
	b.must(rotated.Status == metav1.ConditionFalse && strings.Contains(rotated.Message, "Deployment/pay/web: not all pods are ready"), "it does not say why")
	if told := b.told(); !strings.Contains(told, "Warning RollingBack") || !strings.Contains(told, "Warning RolledBack") {
		t.Errorf("the events are\n%s", told)
	}
	b.must(b.record() == nil && b.status().LastRotation == nil, "it is not over")
	if waited := b.clock.Now().Sub(three()); waited < time.Minute || waited > 2*time.Minute {
		t.Errorf("it was waited for %s", waited)
	}

	// The next run is another.
	b.world.follower = rotate.Follower{}
	b.clock.SetTime(three().Add(24 * time.Hour))
	b.until(daemon, rotation.Done)
	b.must(b.document().Version == 4 && b.status().Attempt == 2 && len(b.status().History) == 2, "it did not rotate the next day")
}

func TestAClaimThatDoesNotReadHasItTakenBack(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	daemon := b.daemon()
	b.atThree(daemon)
	b.world.deaf = true
	for b.run(daemon); b.status().Phase != string(rotation.RolledBack); b.run(daemon) {
		b.later(30 * time.Second)
	}
	b.must(strings.Contains(b.condition(v1alpha1.ConditionRotated).Message, "claim pay/db"), "it does not name the claim")
	if b.world.told < 10 {
		t.Errorf("the claim was told %d times in ten minutes", b.world.told)
	}
	if b.password() != "first" {
		t.Error("the old value is not back")
	}
}

func TestOnFailureHaltKeepsBothValuesUntilSomebodySaysHowItGoesOn(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(spec *v1alpha1.SecretRotationSpec) { spec.OnFailure = v1alpha1.RotationHalt })
	daemon := b.daemon()
	b.atThree(daemon)
	b.world.follower = rotate.Follower{Workload: "Deployment/pay/web", Behind: "it has no pods", Fails: "ImagePullBackOff"}
	b.until(daemon, rotation.Halted)
	b.must(b.record() != nil && b.document().Version == 2, "it does not keep both")
	says := func(part string) {
		t.Helper()
		b.run(daemon)
		b.must(strings.Contains(b.condition(v1alpha1.ConditionRotated).Message, part), "it does not say %q", part)
	}
	says("Deployment/pay/web (ImagePullBackOff)")
	says("Retry, RollBack, or Accept")
	b.annotate(annotation.RotationOrder, "Explode")
	says(`"Explode" is none of them`)
	b.annotate(annotation.RotationOrder, "Retry")
	b.until(daemon, rotation.Halted)
	says(`"Retry" was obeyed already`)
	b.annotate(annotation.RotationOrder, "RollBack")
	b.until(daemon, rotation.RolledBack)
	if b.password() != "first" || b.record() != nil {
		t.Error("it was not taken back")
	}
}

func TestWhatSomebodyElseWroteMeanwhileIsNotOverwritten(t *testing.T) {
	t.Parallel()
	t.Run("to the rotation's own key", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, nil)
		daemon := b.daemon()
		b.atThree(daemon)
		b.world.follower = rotate.Follower{Workload: "Deployment/pay/web", Behind: "its rollout is under way"}
		b.until(daemon, rotation.Rolling)
		b.store.Set(b.ref, map[string]any{"password": "theirs", "host": "db"})
		b.until(daemon, rotation.Halted)
		b.must(b.password() == "theirs" && strings.Contains(b.status().Why, "somebody else wrote"), "it does not halt for it")
	})
	t.Run("to another key, before anything was written", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, nil)
		foreign := &meddling{Store: stores{b.store}, before: func() {
			b.store.Set(b.ref, map[string]any{"password": "first", "host": "db2"})
		}}
		daemon := b.daemonWith(b.api, foreign)
		b.atThree(daemon)
		b.until(daemon, rotation.Done)
		if host := string(b.document().Values["host"].Bytes()); host != "db2" || len(b.password()) != 64 {
			t.Errorf("the host is %q", host)
		}
		b.must(b.status().Attempt == 2 && len(b.status().History) == 1, "it was not tried again as the same run")
	})
}

// meddling is a store to which somebody writes just before the first write.
type meddling struct {
	rotate.Store
	before func()
}

func (m *meddling) Write(ctx context.Context, store v1alpha1.Store, as providers.Identity, change providers.Change) (int64, error) {
	if m.before != nil {
		m.before()
		m.before = nil
	}
	return m.Store.Write(ctx, store, as, change)
}

func TestOfTwoWhoLeadOneWritesAStateDown(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	first, second := b.daemon(), b.daemon()
	b.atThree(first)
	for range 60 {
		for _, daemon := range []*rotate.Reconciler{first, second} {
			if _, err := b.step(daemon); err != nil {
				t.Fatal(err)
			}
		}
	}
	b.must(b.status().Phase == string(rotation.Done), "it is not done")
	b.must(b.document().Version == 2 && b.status().Attempt == 1 && len(b.status().History) == 1, "it was done twice")
}

func TestWindowsHoldARunBackAndAWordLetsOneGo(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.world.windows = []window.Window{{Kind: window.Blackout, Schedule: "0 1 * * *", Duration: 4 * time.Hour}}
	daemon := b.daemon()
	b.atThree(daemon)
	b.run(daemon)
	b.must(b.status().Phase == "" && b.status().NextRotation.Time.Equal(three().Add(2*time.Hour)), "it does not wait until five")
	b.annotate(annotation.RotateNow, "leaked")
	b.until(daemon, rotation.Done)
	b.must(b.status().Run == "now:leaked" && b.document().Version == 2, "the word lets nothing go")
	b.run(b.daemon())
	b.must(b.document().Version == 2, "the word is good for more than one run")

	// What waited for the window is not lost.
	b.clock.SetTime(three().Add(2 * time.Hour))
	b.run(daemon)
	b.until(daemon, rotation.Done)
	b.must(b.document().Version == 3 && b.status().Run == "2026-06-01T03:00", "the run of three in the morning is lost")
}

func TestWhatIsSuspendedBeginsNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(spec *v1alpha1.SecretRotationSpec) { spec.Suspend = true })
	daemon := b.daemon()
	b.atThree(daemon)
	b.annotate(annotation.RotateNow, "leaked")
	b.run(daemon)
	b.must(b.status().Phase == "" && b.document().Version == 1, "it began")
}

func TestARunThatMissesItsDeadlineIsToldOfOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(spec *v1alpha1.SecretRotationSpec) {
		spec.StartingDeadline = &metav1.Duration{Duration: time.Hour}
	})
	b.run(b.daemon())
	b.clock.SetTime(three().Add(2 * time.Hour))
	b.run(b.daemon())
	b.run(b.daemon())
	b.must(len(b.status().History) == 1 && b.status().History[0].Phase == "Missed" && b.document().Version == 1, "it is not told of")
	if told := b.told(); strings.Count(told, "RotationMissed") != 1 {
		t.Errorf("the events are\n%s", told)
	}
}

func TestAScheduleThatIsChangedMakesNothingUp(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	daemon := b.daemon()
	b.run(daemon)
	of := b.rotation()
	of.Spec.Schedule = "0 11 * * *" // an hour ago
	if err := b.api.Update(t.Context(), of); err != nil {
		t.Fatal(err)
	}
	b.run(daemon)
	b.must(b.status().Phase == "" && b.status().NextRotation.Time.Equal(three().Add(8*time.Hour)), "it made up a run of before")
}

func TestAStoreThatIsAwayIsWaitedFor(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	daemon := b.daemon()
	b.atThree(daemon)
	b.store.Fail(fmt.Errorf("%w: it is sealed", providers.ErrUnavailable))
	b.later(time.Minute)
	b.run(daemon)
	b.later(time.Hour)
	b.run(daemon)
	b.must(b.status().Phase == string(rotation.Due), "it does not wait")
	b.must(strings.Contains(b.condition(v1alpha1.ConditionRotated).Message, "the store cannot be asked"), "it does not say so")
	b.must(b.condition(v1alpha1.ConditionReady).Status == metav1.ConditionTrue, "an outage says nothing about the spec")
	b.store.Fail(nil)
	b.until(daemon, rotation.Done)
}

func TestTheValuesInARecordAreSealed(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	daemon := b.daemon()
	b.atThree(daemon)
	b.world.follower = rotate.Follower{Workload: "Deployment/pay/web", Behind: "its rollout is under way"}
	b.until(daemon, rotation.Rolling)
	record, err := json.Marshal(b.record())
	if err != nil {
		t.Fatal(err)
	}
	status, err := json.Marshal(b.rotation())
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range [][]byte{record, status, []byte(b.told())} {
		if strings.Contains(string(text), b.password()) || strings.Contains(string(text), `"Zmlyc3Q`) {
			t.Errorf("a value is in %s", text)
		}
	}
	b.must(b.record().Type == "privyseal.io/rotation", "it has another type")
}

// counting counts what is asked of the API server itself.
type counting struct {
	client.Reader
	n int
}

func (c *counting) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	c.n++
	return c.Reader.Get(ctx, key, object, options...)
}

func TestARotationThatWaitsForItsTimeCostsNoRequest(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	asked := &counting{Reader: b.api}
	daemon := rotate.New(rotate.Config{
		Client: b.api, Live: asked, Places: b.world, Store: stores{b.store}, Claims: b.world, Workloads: b.world,
		Keys: keys{b.key}, Namespace: system, Events: b.events, Clock: b.clock,
	})
	b.run(daemon)
	before, version := asked.n, b.rotation().ResourceVersion
	for range 10 {
		b.later(10 * time.Minute)
		b.run(daemon)
	}
	if asked.n != before || b.rotation().ResourceVersion != version || b.store.Reads() > 0 {
		t.Errorf("%d requests, and %d reads of the store", asked.n-before, b.store.Reads())
	}
	b.clock.SetTime(three())
	b.until(daemon, rotation.Done)
}
