package claim

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/privyseal/privyseal/broker/environment"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
)

// Place is where a document lies, and as whom it is asked for.
type Place struct {
	Store    v1alpha1.Store
	Identity providers.Identity
	Ref      providers.Ref
	// Home is the environment whose rules say so. It is the cache's own.
	Home *v1alpha1.Environment
}

// Place finds a path as a claim of the namespace would have it found, in the store of
// its environment that ref names; nil: in its first. field is what errors name, which
// are *Refusal.
func (g Gatherer) Place(ctx context.Context, namespace string, ref *v1alpha1.StoreRef, field, path string) (Place, error) {
	gathered, err := g.gather(ctx, &v1alpha1.SecretClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace}, Spec: v1alpha1.SecretClaimSpec{StoreRef: ref},
	})
	if err != nil {
		return Place{}, err
	}
	home, refusal := homeOf(gathered)
	switch {
	case refusal != nil:
		return Place{}, refusal
	case home == nil:
		return Place{}, refuse(v1alpha1.ReasonNoEnvironment,
			"namespace %s is in no environment; label it so that an Environment's spec.namespaceSelector selects it", namespace)
	}
	rules, err := environment.Compile(home)
	if err != nil {
		return Place{}, because(v1alpha1.ReasonPathInvalid, "environment "+home.Name, err)
	}
	store, refusal := storeOf(gathered, home)
	if refusal != nil {
		return Place{}, refusal
	}
	resolved, err := rules.Resolve(namespace, path)
	switch {
	case errors.Is(err, environment.ErrOutside):
		return Place{}, because(v1alpha1.ReasonPathNotAllowed, field, err)
	case err != nil:
		return Place{}, because(v1alpha1.ReasonPathInvalid, field, err)
	}
	return Place{
		Store: store.Store(), Ref: resolved, Home: home,
		Identity: providers.Identity{Namespace: namespace, Environment: home.Name},
	}, nil
}

// Reading is how far a claim is that follows the newest version of a document.
type Reading struct {
	Claim, Target types.NamespacedName
	// Version of the document that the target was made of; 0 where that is not
	// known, or the claim is not in order.
	Version int64
	// Sequence of the target's content.
	Sequence int64
}

// ReadingOf gives the claims of all namespaces that follow a document. Which they
// are is the cache's to say; how far each is, the API server's. One that pins a
// version, or is read but once, follows nothing.
func (r *Reconciler) ReadingOf(ctx context.Context, place Place) ([]Reading, error) {
	var claims v1alpha1.SecretClaimList
	if err := r.config.Client.List(ctx, &claims, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing claims: %w", err)
	}
	var readings []Reading
	for i := range claims.Items {
		sources, err := r.sourcesAt(ctx, &claims.Items[i], place)
		if err != nil {
			return nil, err
		}
		if len(sources) == 0 {
			continue
		}
		reading, there, err := r.reading(ctx, client.ObjectKeyFromObject(&claims.Items[i]), sources)
		if err != nil {
			return nil, err
		}
		if there {
			readings = append(readings, reading)
		}
	}
	return readings, nil
}

// sourcesAt are the sources of a claim that follow a document, by their indexes. A
// claim that is refused follows none: it keeps what it has.
func (r *Reconciler) sourcesAt(ctx context.Context, claim *v1alpha1.SecretClaim, place Place) ([]int, error) {
	if once(claim) || !claim.DeletionTimestamp.IsZero() {
		return nil, nil
	}
	planned, err := r.config.Line.resolve(ctx, claim)
	var refusal *Refusal
	switch {
	case errors.As(err, &refusal):
		return nil, nil
	case err != nil:
		return nil, err
	case !planned.store.Same(place.Store):
		return nil, nil
	}
	var sources []int
	for i, request := range planned.requests {
		if request.Ref == place.Ref && request.Version == 0 {
			sources = append(sources, i)
		}
	}
	return sources, nil
}

// reading looks at a claim itself.
func (r *Reconciler) reading(ctx context.Context, name types.NamespacedName, sources []int) (found Reading, there bool, _ error) {
	claim := &v1alpha1.SecretClaim{}
	err := r.live().Get(ctx, name, claim)
	if apierrors.IsNotFound(err) {
		return Reading{}, false, nil
	}
	if err != nil {
		return Reading{}, false, fmt.Errorf("reading claim %s: %w", name, err)
	}
	found = Reading{Claim: name, Target: claim.TargetName(), Sequence: claim.Status.Sequence}
	if !inOrder(claim) {
		return found, true, nil
	}
	versions := claim.Status.SourceVersions
	for i, source := range sources {
		if source >= len(versions) {
			return Reading{Claim: name, Target: found.Target}, true, nil // the spec was changed
		}
		if i == 0 || versions[source] < found.Version {
			found.Version = versions[source]
		}
	}
	return found, true, nil
}

func (r *Reconciler) live() client.Reader {
	if r.config.Live == nil {
		return r.config.Client
	}
	return r.config.Live
}

// Reread has claims read at once. It does not wait for it.
func (r *Reconciler) Reread(ctx context.Context, claims ...types.NamespacedName) {
	for _, claim := range claims {
		r.schedule.wake(claim)
		news := event.TypedGenericEvent[types.NamespacedName]{Object: claim}
		select {
		case r.reread <- news:
		case <-ctx.Done():
			return
		}
	}
}
