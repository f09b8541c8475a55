package rotate_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/privyseal/privyseal/broker/rotate"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/rotation"
)

const (
	role = "database/rotate-role/payments"
	root = "database/rotate-root/main"
)

// engine of the one store.
type engine struct {
	turn    int64 // 0: it does not say
	rotated []string
	// away: it cannot be asked. lost: it does what it is told, and no answer comes.
	away, lost, denied bool
}

func (e *engine) Turn(context.Context, v1alpha1.Store, providers.Identity, providers.Engine) (int64, error) {
	if e.away {
		return 0, fmt.Errorf("asking: %w", providers.ErrUnavailable)
	}
	return e.turn, nil
}

func (e *engine) Rotate(_ context.Context, _ v1alpha1.Store, _ providers.Identity, which providers.Engine) error {
	if e.away {
		return fmt.Errorf("rotating: %w", providers.ErrUnavailable)
	}
	e.rotated = append(e.rotated, which.String())
	if e.turn > 0 {
		e.turn++
	}
	if e.lost {
		return errKilled
	}
	return nil
}

func (e *engine) Rotatable(_ context.Context, _ v1alpha1.Store, _ providers.Identity, which providers.Engine) error {
	if e.denied {
		return fmt.Errorf("asking whether %s may be rotated: %w: the login's policies lack update on it", which, providers.ErrDenied)
	}
	return nil
}

// engineBench is a bench with an engine.
type engineBench struct {
	*bench
	engine *engine
}

func newEngineBench(t *testing.T, which v1alpha1.RotationEngine, change func(*v1alpha1.SecretRotationSpec)) *engineBench {
	t.Helper()
	b := &engineBench{engine: &engine{turn: 7}}
	b.bench = newBench(t, func(spec *v1alpha1.SecretRotationSpec) {
		spec.Path, spec.Generate, spec.Engine = "", nil, &which
		if which.RotateRole == "" {
			spec.Verify = nil
		}
		if change != nil {
			change(spec)
		}
	})
	b.world.version, b.world.read = 7, func() int64 { return b.engine.turn }
	return b
}

func (b *engineBench) daemon() *rotate.Reconciler {
	return rotate.New(rotate.Config{
		Client: b.api, Live: b.api, Places: b.world, Store: stores{b.store}, Engines: b.engine, Claims: b.world, Workloads: b.world,
		Keys: keys{b.key}, Namespace: system, Events: b.events, Clock: b.clock,
	})
}

// stubborn has daemons look that are told of errors, until a phase.
func (b *engineBench) stubborn(daemon *rotate.Reconciler, phase rotation.Phase) {
	b.Helper()
	for range 1000 {
		result, _ := b.step(daemon)
		if b.status().Phase == string(phase) {
			return
		}
		b.later(max(result.RequeueAfter, time.Second))
	}
	b.Fatalf("it stays in phase %q: %+v", b.status().Phase, b.status())
}

func TestAnEngineRotatesOnItsScheduleAndTheWorkloadFollows(t *testing.T) {
	t.Parallel()
	b := newEngineBench(t, v1alpha1.RotationEngine{RotateRole: role}, nil)
	daemon := b.daemon()
	b.run(daemon)
	b.must(b.condition(v1alpha1.ConditionReady).Status == metav1.ConditionTrue && len(b.engine.rotated) == 0, "it does not wait")
	b.clock.SetTime(three())
	b.world.follower = rotate.Follower{Workload: "Deployment/pay/web", Behind: "its rollout is under way"}
	b.until(daemon, rotation.Rolling)
	status := b.status()
	b.must(status.Engine == role && status.FromVersion == 7 && status.ToVersion == 8 && b.world.version == 8, "it is not written down")
	b.world.follower = rotate.Follower{}
	b.until(daemon, rotation.Done)
	status = b.status()
	b.must(strings.Join(b.engine.rotated, " ") == role && status.Engine == "" && status.LastRotation != nil && b.record() == nil, "it did not end well")
	b.must(len(status.History) == 1 && status.History[0].ToVersion == 8, "the history is another")
	if told := b.told(); !strings.Contains(told, "RotationBegan") || !strings.Contains(told, v1alpha1.ReasonRotationDone) {
		t.Errorf("people are told %q", told)
	}
	b.later(time.Hour)
	b.run(b.daemon())
	b.must(len(b.engine.rotated) == 1, "another daemon rotates again")
}

// The answer is lost, and each daemon dies after each of its looks.
func TestAnEngineThatRotatedUnseenIsNotToldAgain(t *testing.T) {
	t.Parallel()
	b := newEngineBench(t, v1alpha1.RotationEngine{RotateRole: role}, nil)
	b.engine.lost = true
	b.run(b.daemon())
	b.clock.SetTime(three())
	for range 60 {
		_, _ = b.step(b.daemon())
		b.later(time.Second)
	}
	b.must(b.status().Phase == string(rotation.Done) && len(b.engine.rotated) == 1, "rotated %v", b.engine.rotated)
}

func TestAnEngineThatCannotBeReachedHaltsTheRunAndSaysSo(t *testing.T) {
	t.Parallel()
	b := newEngineBench(t, v1alpha1.RotationEngine{RotateRole: role}, nil)
	daemon := b.daemon()
	b.atThree(daemon)
	for b.status().Phase != string(rotation.Rotating) {
		if _, err := b.step(daemon); err != nil {
			t.Fatal(err)
		}
	}
	b.engine.away = true
	b.stubborn(daemon, rotation.Halted)
	b.run(daemon)
	said := b.condition(v1alpha1.ConditionRotated)
	b.must(said.Reason == v1alpha1.ReasonHalted && strings.Contains(said.Message, "could not be asked for 10m0s, and nobody knows whether it rotated") &&
		strings.Contains(said.Message, "Retry, or Accept") && !strings.Contains(said.Message, "RollBack") && !strings.Contains(said.Message, "both values"), "it says something else")

	b.engine.away = false
	b.annotate("privyseal.io/rotation-order", "RollBack 1")
	b.run(daemon)
	b.must(b.status().Phase == string(rotation.Halted) && strings.Contains(b.condition(v1alpha1.ConditionRotated).Message, "nobody can take back what an engine made"), "it takes it back")
	b.annotate("privyseal.io/rotation-order", "Retry 1")
	b.until(daemon, rotation.Done)
	b.must(len(b.engine.rotated) == 1, "rotated %v", b.engine.rotated)
}

func TestAnEngineThatSaysNothingIsToldOncePerRun(t *testing.T) {
	t.Parallel()
	b := newEngineBench(t, v1alpha1.RotationEngine{RotateRoot: root}, nil)
	b.engine.turn, b.world.deaf = 0, true
	daemon := b.daemon()
	b.atThree(daemon)
	b.until(daemon, rotation.Done)
	b.clock.SetTime(three().Add(24 * time.Hour))
	b.until(daemon, rotation.Done)
	b.must(strings.Join(b.engine.rotated, " ") == root+" "+root, "rotated %v", b.engine.rotated)
}

func TestAnEngineThatMayNotBeToldIsRefusedWhenItIsWritten(t *testing.T) {
	t.Parallel()
	b := newEngineBench(t, v1alpha1.RotationEngine{RotateRole: role}, nil)
	b.engine.denied = true
	b.run(b.daemon())
	ready := b.condition(v1alpha1.ConditionReady)
	b.must(ready.Reason == v1alpha1.ReasonPathNotWritable && strings.HasPrefix(ready.Message, "spec.engine: ") && strings.Contains(ready.Message, role), "it does not say so")
}

// A spec that is changed midway is for the next run, whichever machine that is of.
func TestWhatAnEngineBeganEndsAsItBegan(t *testing.T) {
	t.Parallel()
	b := newEngineBench(t, v1alpha1.RotationEngine{RotateRole: role}, nil)
	daemon := b.daemon()
	b.atThree(daemon)
	b.world.follower = rotate.Follower{Workload: "Deployment/pay/web", Behind: "its rollout is under way"}
	b.until(daemon, rotation.Rolling)
	of := b.rotation()
	of.Spec.Engine, of.Spec.Path = nil, "db"
	of.Spec.Generate = map[string]v1alpha1.Generator{"password": {Hex: &v1alpha1.BytesGenerator{}}}
	if err := b.api.Update(t.Context(), of); err != nil {
		t.Fatal(err)
	}
	b.world.follower = rotate.Follower{}
	b.until(daemon, rotation.Done)
	b.must(b.document().Version == 1 && len(b.engine.rotated) == 1, "it became another kind's on the way")
	b.world.version, b.world.read = 1, func() int64 { return b.document().Version }
	b.clock.SetTime(three().Add(24 * time.Hour))
	b.until(daemon, rotation.Done)
	b.must(b.document().Version == 2 && len(b.engine.rotated) == 1, "the next run is not as the spec says")
}

// The rules of the CRD and those of the daemon agree.
func TestASpecOfAnEngineIsRefusedByItsField(t *testing.T) {
	t.Parallel()
	api := apiServer(t)
	for _, row := range []struct {
		name   string
		change func(*v1alpha1.SecretRotationSpec)
		says   string
		alone  bool // the API server lets it pass
	}{
		{"no engine at all", func(s *v1alpha1.SecretRotationSpec) { s.Engine = &v1alpha1.RotationEngine{} }, "exactly one of rotateRole, rotateRoot and rotateKey", false},
		{"two engines", func(s *v1alpha1.SecretRotationSpec) { s.Engine.RotateRoot = root }, "exactly one of rotateRole, rotateRoot and rotateKey", false},
		{"a generator too", func(s *v1alpha1.SecretRotationSpec) {
			s.Generate = map[string]v1alpha1.Generator{"password": {Hex: &v1alpha1.BytesGenerator{}}}
		}, "generate", false},
		{"a path too", func(s *v1alpha1.SecretRotationSpec) { s.Path = "db" }, "path", false},
		{"neither", func(s *v1alpha1.SecretRotationSpec) { s.Engine = nil }, "path", false},
		{"a strategy", func(s *v1alpha1.SecretRotationSpec) { s.Strategy = v1alpha1.RotationReplace }, "leave strategy out", false},
		{"a way back", func(s *v1alpha1.SecretRotationSpec) { s.OnFailure = v1alpha1.RotationRollBack }, "nobody can take back what an engine made", false},
		{"readers of what nobody reads", func(s *v1alpha1.SecretRotationSpec) {
			s.Engine = &v1alpha1.RotationEngine{RotateRoot: root}
		}, "leave verify out", false},
		{"another part of the engine", func(s *v1alpha1.SecretRotationSpec) { s.Engine.RotateRole = "database/static-creds/payments" }, "spec.engine.rotateRole", true},
		{"a path with two readings", func(s *v1alpha1.SecretRotationSpec) { s.Engine.RotateRole = "database/../rotate-role/payments" }, "spec.engine.rotateRole", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			of := &v1alpha1.SecretRotation{ObjectMeta: metav1.ObjectMeta{Namespace: system, GenerateName: "engine-"}}
			of.Spec = v1alpha1.SecretRotationSpec{
				Schedule: "0 3 * * *", Engine: &v1alpha1.RotationEngine{RotateRole: role},
				Verify: &v1alpha1.RotationVerify{Consumers: v1alpha1.ConsumersReady},
			}
			row.change(&of.Spec)
			if err := rotate.Check(of.Spec); err == nil || !strings.Contains(err.Error(), row.says) || !strings.HasPrefix(err.Error(), "spec.") {
				t.Errorf("the daemon says %v", err)
			}
			err := api.Create(t.Context(), of)
			if row.alone {
				if err != nil {
					t.Errorf("the API server says %v", err)
				}
				_ = api.Delete(t.Context(), of)
				return
			}
			if err == nil || !strings.Contains(err.Error(), row.says) {
				t.Errorf("the API server says %v", err)
			}
		})
	}
}

// elsewhere has each store in its place.
type elsewhere struct {
	*engine
	asked map[string]bool
}

func (e elsewhere) Turn(ctx context.Context, store v1alpha1.Store, as providers.Identity, which providers.Engine) (int64, error) {
	e.asked[store.Name] = true
	return e.engine.Turn(ctx, store, as, which)
}

func TestAnEngineGoesOnAtTheStoreWhereItBegan(t *testing.T) {
	t.Parallel()
	b := newEngineBench(t, v1alpha1.RotationEngine{RotateRole: role}, nil)
	first := b.world.store
	at := elsewhere{b.engine, map[string]bool{}}
	daemon := rotate.New(rotate.Config{
		Client: b.api, Live: b.api, Places: b.world, Store: stores{b.store}, Engines: at, Claims: b.world, Workloads: b.world,
		Keys: keys{b.key}, Namespace: system, Events: b.events, Clock: b.clock,
	})
	b.atThree(daemon)
	b.world.follower = rotate.Follower{Workload: "Deployment/pay/web", Behind: "its rollout is under way"}
	b.until(daemon, rotation.Rolling)
	b.must(b.status().EngineStore == first.Name, "it is not written down where it began")
	of := b.rotation()
	of.Spec.StoreRef = &v1alpha1.StoreRef{Name: "spare"}
	if err := b.api.Update(t.Context(), of); err != nil {
		t.Fatal(err)
	}
	clear(at.asked)
	b.run(daemon)
	b.must(len(at.asked) == 1 && at.asked[first.Name] && b.world.asked == first.Name, "asked were %v", at.asked)
	b.world.follower = rotate.Follower{}
	b.until(daemon, rotation.Done)
	b.must(b.status().EngineStore == "" && !at.asked["spare"] && len(b.engine.rotated) == 1, "asked were %v", at.asked)
}
