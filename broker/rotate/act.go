package rotate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/rotation"
)

const (
	// tellAgain is how long a claim gets to read the store before it is told again.
	tellAgain = 10 * time.Second
	// lookSoon is how often something is looked at that nobody tells of.
	lookSoon = 2 * time.Second
	// lookLater is how often a rotation is looked at that waits for its time: a
	// machine's clock may be put right meanwhile.
	lookLater = 10 * time.Minute
	// lookHeld is how often one is looked at that is under way and held back.
	lookHeld = 30 * time.Second
	// lookRefused is how often the store is asked again about one that is refused:
	// nobody tells us that a policy was corrected.
	lookRefused = 30 * time.Second
)

// act does one action for the state that is written down.
func (r *Reconciler) act(ctx context.Context, l *look, action rotation.Action) error {
	switch action.Do {
	case rotation.Prepare:
		return r.prepare(ctx, l, action)
	case rotation.RunSet, rotation.RunSetBack, rotation.RunVerify:
		return r.runHook(ctx, l)
	case rotation.StopSet, rotation.StopSetBack, rotation.StopVerify:
		return r.stopHook(ctx, l.hook)
	case rotation.Write:
		change := l.recordOf(action).change
		return r.write(ctx, l, action, change.After, change.JSONAfter)
	case rotation.WriteBack:
		change := l.recordOf(action).change
		return r.write(ctx, l, action, change.Before, change.JSONBefore)
	case rotation.DropPrevious:
		return r.dropPrevious(ctx, l, action)
	case rotation.Rotate:
		return r.rotateEngine(ctx, l, action)
	case rotation.Tell:
		r.tellClaims(ctx, l)
		return nil
	case rotation.Drop:
		if l.state.Phase == rotation.Restored {
			r.rereadAll(ctx, l) // the old values are back
		}
		if err := r.dropHooks(ctx, l, action); err != nil {
			return err
		}
		return r.drop(ctx, l.of.UID, action.Record)
	case rotation.Wait:
		return nil
	}
	return fmt.Errorf("nobody knows how to %s", action.Do) // unreachable: these are all
}

// recordOf an action; one without values where it is there no more, which writes
// nothing.
func (l *look) recordOf(action rotation.Action) *record {
	if l.record == nil || string(l.record.uid) != action.Record {
		return &record{}
	}
	return l.record
}

// prepare makes the new values, and seals them away with the old ones.
func (r *Reconciler) prepare(ctx context.Context, l *look, action rotation.Action) error {
	fresh, err := l.asked.fresh(l.facts.Now)
	defer clearAll(fresh)
	if err != nil {
		return err
	}
	change, err := l.asked.plan.Change(l.document, fresh, l.asked.users)
	if err != nil {
		return fmt.Errorf("spec.%w", err)
	}
	return r.keep(ctx, l.of, &record{
		attempt: action.Attempt, from: l.document.Version, store: l.place.Store.Name,
		identity: l.place.Identity, ref: l.place.Ref, plan: l.asked.plan, change: change,
		jobs: jobsOf(l.of.Spec), credentials: l.asked.credentials,
	})
}

// write the keys of the rotation over a version; json are those that are no text in
// the store. A conflict is no error: what is there now is looked at next.
func (r *Reconciler) write(ctx context.Context, l *look, action rotation.Action, values map[string]providers.Value, json map[string]bool) error {
	kept := l.recordOf(action)
	if len(kept.change.Keys) == 0 {
		return nil
	}
	change := providers.Change{Ref: kept.ref, From: action.Version, Values: maps.Clone(values), JSON: json}
	for _, key := range kept.change.Keys {
		if _, there := values[key]; !there {
			change.Remove = append(change.Remove, key)
		}
	}
	_, err := r.config.Store.Write(ctx, l.place.Store, l.place.Identity, change)
	if errors.Is(err, providers.ErrConflict) {
		return nil
	}
	return err
}

// tellClaims has those read the store that do not have what it has.
func (r *Reconciler) tellClaims(ctx context.Context, l *look) {
	now, again := l.facts.Now, false
	r.remembered(l.of, func(m *memory) {
		if again = now.Sub(m.told) >= tellAgain || now.Before(m.told) || l.state.Since.After(m.told); again {
			m.told = now
		}
	})
	if again {
		r.rereadAll(ctx, l)
	}
}

// rereadAll has all claims on the path read it.
func (r *Reconciler) rereadAll(ctx context.Context, l *look) {
	claims := make([]types.NamespacedName, 0, len(l.readings))
	for _, reading := range l.readings {
		claims = append(claims, reading.Claim)
	}
	r.config.Claims.Reread(ctx, slices.Compact(claims)...)
}

// next is when to look again, if nothing happens before.
func (l *look) next(action rotation.Action) time.Duration {
	until := func(at time.Time, most time.Duration) time.Duration {
		if wait := at.Sub(l.facts.Now); !at.IsZero() && wait < most {
			return max(wait, time.Millisecond)
		}
		return most
	}
	switch {
	case action.Do == rotation.Tell, action.Do == rotation.StopSet, action.Do == rotation.StopSetBack, action.Do == rotation.StopVerify:
		return lookSoon
	case action.Do != rotation.Wait:
		return time.Nanosecond
	case l.state.Phase == rotation.Halted:
		return lookLater
	case l.asked.refusal != nil && (l.state.Phase.Ended() || l.state.Phase == rotation.Due):
		return lookRefused
	case l.facts.Hold != "" && l.early(), l.facts.Consumers.Held, l.state.Phase == rotation.Due:
		return until(action.Again, lookHeld)
	case !l.state.Phase.Ended():
		return until(action.Again, lookSoon)
	case l.asked.unasked != nil:
		return lookRefused
	}
	if l.state.Dropping {
		return lookRefused
	}
	drops, _ := l.plan.Drops(l.state)
	return until(drops, until(l.verdict.Again, lookLater))
}
