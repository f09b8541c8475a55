package lease

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
)

const (
	// lookSoon and lookRarely bound how often something is looked at that nobody
	// tells of: whether pods have left an old loan, or its claim has taken up a new
	// one.
	lookSoon, lookRarely = 5 * time.Second, 2 * time.Minute
	// settling is how long a new loan counts as its claim's, though the claim does
	// not say so.
	settling = 5 * time.Minute
)

// everything is the request to find the records that there are.
var everything = types.NamespacedName{}

// Reconcile looks at what is lent to the claims of one name: the one that there is,
// and those that there were.
func (k *Keeper) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	if request.NamespacedName == everything {
		return reconcile.Result{}, k.find(ctx)
	}
	claim := &v1alpha1.SecretClaim{}
	err := k.config.Client.Get(ctx, request.NamespacedName, claim)
	switch {
	case apierrors.IsNotFound(err):
		claim = nil
	case err != nil:
		return reconcile.Result{}, fmt.Errorf("looking up claim %s: %w", request, err)
	}
	var next time.Time
	for _, of := range k.recordsOf(request.NamespacedName, claim) {
		again, err := k.look(ctx, request.NamespacedName, of, claim)
		if err != nil {
			return reconcile.Result{}, err
		}
		if !again.IsZero() && (next.IsZero() || again.Before(next)) {
			next = again
		}
	}
	if next.IsZero() {
		return reconcile.Result{}, nil
	}
	return reconcile.Result{RequeueAfter: max(next.Sub(k.config.Clock.Now()), time.Millisecond)}, nil
}

// find has all records looked at, also of claims that are gone.
func (k *Keeper) find(ctx context.Context) error {
	secrets := &metav1.PartialObjectMetadataList{}
	secrets.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("SecretList"))
	err := k.config.Live.List(ctx, secrets, client.InNamespace(k.config.Namespace), client.MatchingLabels{v1alpha1.LabelLeaseRecord: "true"})
	if err != nil {
		return fmt.Errorf("listing what is lent: %w", err)
	}
	for _, secret := range secrets.Items {
		of, is := strings.CutPrefix(secret.Name, recordPrefix)
		namespace, name, named := strings.Cut(secret.Annotations[v1alpha1.AnnotationClaim], "/")
		if !is || !named {
			continue
		}
		claim := types.NamespacedName{Namespace: namespace, Name: name}
		k.remember(&record{of: types.UID(of), claim: claim})
		select {
		case k.wakes <- event.TypedGenericEvent[types.NamespacedName]{Object: claim}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// recordsOf the claims of a name.
func (k *Keeper) recordsOf(name types.NamespacedName, claim *v1alpha1.SecretClaim) []types.UID {
	k.mu.Lock()
	defer k.mu.Unlock()
	found := maps.Clone(k.known[name])
	if claim != nil && len(claim.Status.Leases) > 0 {
		if found == nil {
			found = map[types.UID]bool{}
		}
		found[claim.UID] = true
	}
	return slices.Sorted(maps.Keys(found))
}

// look sees to one record, and says when to look again; zero: there is none.
func (k *Keeper) look(ctx context.Context, name types.NamespacedName, of types.UID, claim *v1alpha1.SecretClaim) (time.Time, error) {
	defer k.lock(of)()
	kept, err := k.load(ctx, of, name)
	defer kept.clear()
	owner := claim
	if claim != nil && claim.UID != of {
		owner = nil
	}
	if errors.Is(err, errRecord) && owner == nil {
		return time.Time{}, k.remove(ctx, kept) // what it knew ends by itself
	}
	if err != nil && !errors.Is(err, errRecord) {
		return time.Time{}, err
	}
	if owner != nil && len(kept.loans) == 0 && len(owner.Status.Leases) > 0 {
		log.FromContext(ctx).Info("What is lent to a claim is known no more: another is issued", "claim", name)
		k.config.Reread(ctx, name)
		return k.config.Clock.Now().Add(lookLost), nil
	}
	before := len(kept.loans)
	again, err := k.tend(ctx, kept, owner, claim)
	if len(kept.loans) != before {
		if saveErr := k.save(ctx, kept); saveErr != nil {
			return time.Time{}, errors.Join(err, saveErr)
		}
	}
	k.settle(kept)
	k.tell(owner)
	return again, err
}

// lookLost is how long a claim gets to have another issued whose record is lost.
const lookLost = 30 * time.Second

// tend does what each loan of a record needs.
func (k *Keeper) tend(ctx context.Context, kept *record, owner, named *v1alpha1.SecretClaim) (next time.Time, err error) {
	for _, one := range slices.Clone(kept.loans) {
		standing := kept.standing(one, owner, k.config.Clock.Now())
		held := false
		if standing == Old {
			var heldErr error
			if held, heldErr = k.held(ctx, kept, one, owner, named); heldErr != nil {
				return time.Time{}, heldErr
			}
		}
		k.note(kept, one, func(m *memory) { m.inUse = standing == Fresh || standing == Current })
		again := k.serve(ctx, kept, one, standing, held)
		if standing != Current {
			again = soonest(again, k.config.Clock.Now().Add(kept.patience(k.config.Clock.Now())))
		}
		next = soonest(next, again)
	}
	return next, nil
}

// patience is how long to wait between two looks at what nobody tells of: less for
// what began a moment ago.
func (r *record) patience(now time.Time) time.Duration {
	var latest time.Time
	for _, one := range r.loans {
		if one.Issued.After(latest) {
			latest = one.Issued
		}
	}
	return min(lookRarely, max(lookSoon, now.Sub(latest)/10))
}

func soonest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// standing of a loan with the claim that owns the record; nil: it is gone.
func (r *record) standing(one *loan, owner *v1alpha1.SecretClaim, now time.Time) Standing {
	switch {
	case one.pending():
		return Pending
	case owner == nil || r.newest(one.Place) != one:
		return Old
	}
	status := leaseOf(owner, one.Place.Path)
	switch {
	case status != nil && status.IssuedAt.Time.Equal(one.Issued):
		return Current
	case status != nil && status.IssuedAt.Time.After(one.Issued):
		return Old
	case now.Sub(one.Issued) < settling || !inOrder(owner):
		return Fresh
	case status == nil: // the claim was brought in order without it
		return Old
	}
	return Fresh
}

func leaseOf(claim *v1alpha1.SecretClaim, path string) *v1alpha1.Lease {
	for i := range claim.Status.Leases {
		if claim.Status.Leases[i].Source == path {
			return &claim.Status.Leases[i]
		}
	}
	return nil
}

// inOrder says that a claim's status speaks of the spec that it has.
func inOrder(claim *v1alpha1.SecretClaim) bool {
	return claim.Status.ObservedGeneration == claim.Generation && meta.IsStatusConditionTrue(claim.Status.Conditions, v1alpha1.ConditionReady)
}

// held says whether a pod may use an old loan. What is not known for certain is
// held: it ends by itself.
//
// named is the claim that now has the name of the record's own; it is another where
// that is gone.
func (k *Keeper) held(ctx context.Context, r *record, one *loan, owner, named *v1alpha1.SecretClaim) (bool, error) {
	made := types.NamespacedName{Namespace: r.claim.Namespace, Name: one.Target}
	if owner == nil {
		return k.config.Pods.ReadBefore(ctx, made, succeeded(named))
	}
	sequence, left := leftAt(owner, one)
	if !left {
		return true, nil
	}
	if target := owner.TargetName(); target != made {
		if held, err := k.config.Pods.ReadBefore(ctx, made, time.Time{}); held || err != nil {
			return true, err
		}
	}
	held, known, err := k.config.Pods.StillHeld(ctx, owner.TargetName(), sequence)
	return held || !known, err
}

// leftAt is the sequence as of which a claim's Secret does not hold a loan; left is
// false while it may.
func leftAt(owner *v1alpha1.SecretClaim, one *loan) (sequence int64, left bool) {
	status := leaseOf(owner, one.Place.Path)
	if status == nil {
		return owner.Status.Sequence, inOrder(owner)
	}
	return status.Sequence, status.IssuedAt.Time.After(one.Issued)
}

// succeeded is the time since which pods that read a Secret hold what another claim
// of the same name put there; zero: none did.
func succeeded(by *v1alpha1.SecretClaim) time.Time {
	if by == nil || !inOrder(by) {
		return time.Time{}
	}
	since := by.CreationTimestamp.Time
	for _, lease := range by.Status.Leases {
		if lease.IssuedAt.After(since) {
			since = lease.IssuedAt.Time
		}
	}
	return since
}

// serve does what one loan needs, and says when to look again; zero: it is gone.
func (k *Keeper) serve(ctx context.Context, kept *record, one *loan, standing Standing, held bool) time.Time {
	action := Next(k.facts(kept, one, standing, held))
	if action.Do == Renew {
		k.renew(ctx, kept, one)
		action = Next(k.facts(kept, one, standing, held))
	}
	now := k.config.Clock.Now()
	switch action.Do {
	case Keep:
		k.reread(ctx, kept, one, standing == Fresh && now.Sub(one.Issued) >= retryIssue)
		return action.Again
	case Reissue:
		k.reread(ctx, kept, one, true)
		return now.Add(retryIssue)
	case Revoke:
		if !k.revoke(ctx, kept, one) {
			return now.Add(retryMost)
		}
	case Forget:
		log.FromContext(ctx).Info("A lease has ended", "claim", kept.claim, "source", one.Place.Path, "standing", standing)
	case Renew: // it was just renewed for no time at all
		return now.Add(retryLeast)
	}
	kept.drop(one)
	return time.Time{}
}

// retryIssue is how long a claim gets to have another issued, or to tell of it.
const retryIssue = 10 * time.Second

// reread has the claim look at its sources, if that is wanted and was not done just
// now.
func (k *Keeper) reread(ctx context.Context, kept *record, one *loan, wanted bool) {
	now := k.config.Clock.Now()
	if !wanted {
		return
	}
	tell := false
	k.note(kept, one, func(m *memory) {
		if tell = now.Sub(m.told) >= retryIssue || now.Before(m.told); tell {
			m.told = now
		}
	})
	if tell {
		k.config.Reread(ctx, kept.claim)
	}
}

func (k *Keeper) renew(ctx context.Context, kept *record, one *loan) {
	began := k.config.Clock.Now()
	store, err := k.storeOf(ctx, one.Place)
	var life time.Duration
	if err == nil {
		life, err = k.config.Store.Renew(ctx, store, one.Place.identity(), one.token(), one.ID)
	}
	gone := errors.Is(err, providers.ErrNotFound) && !errors.Is(err, errNoStore)
	k.note(kept, one, func(m *memory) {
		switch {
		case err == nil:
			m.renewed, m.expires, m.failed, m.failure = began, began.Add(life), time.Time{}, nil
		case gone:
			m.gone, m.failure = true, nil
		default:
			m.failed, m.failure = began, err
		}
	})
	switch {
	case gone:
		log.FromContext(ctx).Info("The store has ended a lease before its time", "claim", kept.claim, "source", one.Place.Path)
	case err != nil:
		log.FromContext(ctx).Info("A lease could not be renewed, and is tried again", "claim", kept.claim, "source", one.Place.Path, "error", err.Error())
	}
}

// revoke gives a loan back, and says whether it is over. One of a store that is gone
// ends by itself, since nobody can renew it.
func (k *Keeper) revoke(ctx context.Context, kept *record, one *loan) (over bool) {
	store, err := k.storeOf(ctx, one.Place)
	if errors.Is(err, errNoStore) {
		return true
	}
	if err == nil {
		err = k.config.Store.Revoke(ctx, store, one.Place.identity(), one.token())
	}
	if err != nil {
		log.FromContext(ctx).Info("A lease could not be given back, and is tried again", "claim", kept.claim, "source", one.Place.Path, "error", err.Error())
		return false
	}
	log.FromContext(ctx).Info("A lease was given back", "claim", kept.claim, "source", one.Place.Path)
	return true
}

// errNoStore: the store's object is gone.
var errNoStore = errors.New("there is no such store any more")

func (k *Keeper) storeOf(ctx context.Context, at place) (v1alpha1.Store, error) {
	var object v1alpha1.StoreObject = &v1alpha1.ClusterSecretStore{}
	if at.Kind == v1alpha1.KindSecretStore {
		object = &v1alpha1.SecretStore{}
	}
	name := client.ObjectKey{Namespace: at.Store.Namespace, Name: at.Store.Name}
	err := k.config.Client.Get(ctx, name, object.(client.Object))
	if apierrors.IsNotFound(err) {
		return v1alpha1.Store{}, fmt.Errorf("%s %s: %w", at.Kind, at.Store.Name, errNoStore)
	}
	if err != nil {
		return v1alpha1.Store{}, fmt.Errorf("looking up %s %s: %w", at.Kind, at.Store.Name, err)
	}
	return object.Store(), nil
}
