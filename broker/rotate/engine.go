package rotate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/rotation"
)

// Engines of stores, which make new values by themselves. Errors wrap those of package
// providers.
type Engines interface {
	// Turn, Rotate and Rotatable are those of a providers.Rotator.
	Turn(ctx context.Context, store v1alpha1.Store, as providers.Identity, engine providers.Engine) (int64, error)
	Rotate(ctx context.Context, store v1alpha1.Store, as providers.Identity, engine providers.Engine) error
	Rotatable(ctx context.Context, store v1alpha1.Store, as providers.Identity, engine providers.Engine) error
}

// engineOf a spec that names one. What has no effect with an engine is refused.
func engineOf(spec v1alpha1.SecretRotationSpec) (engine providers.Engine, err error) {
	given := 0
	for _, choice := range []struct {
		field, path string
		kind        providers.EngineKind
	}{
		{"rotateRole", spec.Engine.RotateRole, providers.RotateRole},
		{"rotateRoot", spec.Engine.RotateRoot, providers.RotateRoot},
		{"rotateKey", spec.Engine.RotateKey, providers.RotateKey},
	} {
		if choice.path == "" {
			continue
		}
		given++
		if engine, err = providers.ParseEngine(choice.kind, choice.path); err != nil {
			return engine, fmt.Errorf("spec.engine.%s: %w", choice.field, err)
		}
	}
	switch {
	case given != 1:
		return engine, errors.New("spec.engine: give exactly one of rotateRole, rotateRoot and rotateKey")
	case len(spec.Generate) > 0:
		return engine, errors.New("spec.generate: the engine makes the value; give generate or engine")
	case spec.Path != "":
		return engine, errors.New("spec.path: the engine says where the value is; leave path out")
	case spec.Strategy != "":
		return engine, errors.New("spec.strategy: the engine has one value, which takes the old one's place; leave strategy out")
	case len(jobsOf(spec)) > 0:
		return engine, fmt.Errorf("spec.%s.job: a Job has nothing to do with what an engine makes; leave it out", slices.Sorted(maps.Keys(jobsOf(spec)))[0])
	case spec.OnFailure == v1alpha1.RotationRollBack:
		return engine, errors.New("spec.onFailure: nobody can take back what an engine made; leave it out, or say Halt")
	case spec.Verify != nil && !engine.Read():
		return engine, errors.New("spec.verify: no claim reads what the engine makes; leave verify out")
	}
	return engine, nil
}

// Document is the path that a spec is about, as a claim would name it, and the field
// that says so. An engine's is that of what it shows. One whose engine is refused has no
// path: LookAhead says why.
func Document(spec v1alpha1.SecretRotationSpec) (field, path string) {
	if spec.Engine == nil {
		return "spec.path", spec.Path
	}
	engine, err := engineOf(spec)
	if err != nil {
		return "spec.engine", "" // no place has that path
	}
	return "spec.engine", "/" + engine.Shows()
}

// PathOf a spec, for people: the document's as it is written, or the engine's.
func PathOf(spec v1alpha1.SecretRotationSpec) string {
	if spec.Engine == nil {
		return spec.Path
	}
	return cmp.Or(spec.Engine.RotateRole, spec.Engine.RotateRoot, spec.Engine.RotateKey)
}

// ByEngine is what StrategyOf gives for a spec with an engine, of which none of the
// strategies says what becomes of the value before.
const ByEngine = "Engine"

// StrategyOf a spec, for people.
func StrategyOf(spec v1alpha1.SecretRotationSpec) string {
	if spec.Engine != nil {
		return ByEngine
	}
	return cmp.Or(string(spec.Strategy), string(rotation.Replace))
}

// probeEngine asks the store whether the engine may be told to rotate.
func (r *Reconciler) probeEngine(ctx context.Context, place Place, engine providers.Engine) (refusal *Refusal, unasked error) {
	err := r.config.Engines.Rotatable(ctx, place.Store, place.Identity, engine)
	switch {
	case err == nil:
		return nil, nil
	case errors.Is(err, providers.ErrDenied), errors.Is(err, providers.ErrInvalid), errors.Is(err, providers.ErrNotFound):
		return refuse(v1alpha1.ReasonPathNotWritable, "spec.engine: %s", err), nil
	}
	return nil, err
}

// decides what comes next, by the machine that the attempt is of.
func (l *look) decides() (rotation.State, rotation.Action) {
	if l.state.ByEngine(l.facts) {
		return l.plan.NextByEngine(l.state, l.facts)
	}
	return l.plan.Next(l.state, l.facts)
}

// readTurn asks the engine for its turn: the one that the attempt began with, where
// one is under way, and by the rules that hold for its path by now.
func (r *Reconciler) readTurn(ctx context.Context, l *look) error {
	l.engine = l.asked.engine
	if !l.state.Phase.Ended() && l.state.Phase != rotation.Due {
		if err := r.recall(ctx, l); err != nil || l.unread != nil {
			return err
		}
	}
	l.facts.Turn.Read = l.engine.Read()
	l.facts.Turn.Told = r.remembered(l.of, func(*memory) {}).rotated == l.state.Attempt && l.state.Attempt > 0
	if !l.needsStore() {
		return nil
	}
	l.facts.Turn.At, l.unread = r.config.Engines.Turn(ctx, l.place.Store, l.place.Identity, l.engine)
	l.facts.Turn.Known = l.unread == nil
	l.facts.Store = rotation.Store{Known: l.facts.Turn.Known, Version: l.facts.Turn.At}
	return nil
}

// putEngineStore writes down where an attempt begins, since the spec may name another
// store before it ends.
func (l *look) putEngineStore(next rotation.State, status *v1alpha1.SecretRotationStatus) {
	switch {
	case next.Engine == "":
		status.EngineStore = ""
	case l.state.Engine == "":
		status.EngineStore = l.place.Store.Name
	}
}

// recall the engine of an attempt that is under way, at the store where it began. That
// its path, or the store, is not allowed any more is no error: it cannot be asked.
func (r *Reconciler) recall(ctx context.Context, l *look) (err error) {
	if l.engine, err = providers.EngineOf(l.state.Engine); err != nil {
		l.unread = fmt.Errorf("status.engine: %w", err)
		return nil
	}
	l.facts.Turn.Read = l.engine.Read()
	store := &v1alpha1.StoreRef{Kind: v1alpha1.KindClusterSecretStore, Name: l.of.Status.EngineStore}
	if l.engine == l.asked.engine && l.asked.refusal == nil && l.asked.place.Store.Name == store.Name {
		return nil
	}
	l.place, err = r.config.Places.Place(ctx, l.of.Namespace, store, "status.engine", "/"+l.engine.Shows())
	var refusal *Refusal
	if errors.As(err, &refusal) {
		l.unread = refusal
		return nil
	}
	return err
}

// rotateEngine tells the engine to make a new value.
func (r *Reconciler) rotateEngine(ctx context.Context, l *look, action rotation.Action) error {
	if err := r.config.Engines.Rotate(ctx, l.place.Store, l.place.Identity, l.engine); err != nil {
		return err
	}
	r.remembered(l.of, func(m *memory) { m.rotated = action.Attempt })
	return nil
}
