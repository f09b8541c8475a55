package claim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/privyseal/privyseal/broker/statuses"
	"github.com/privyseal/privyseal/broker/target"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
)

// retryRefused is how long a refused claim waits before the store is asked
// again, where nothing else wakes it: nobody tells us that a policy was
// corrected or a secret written.
const retryRefused = 30 * time.Second

// handover bounds the time from a daemon's start until it leads, if nobody led
// before it: a Lease's life, and the caches' filling. One that waited longer
// waited for a daemon that was alive until less than this ago.
const handover = time.Minute

// Config of a Reconciler. Every field is required but Live, Pods, Interval,
// StaleAfter and LastAlive.
type Config struct {
	// Line is the way of a secret.
	Line *Line

	// Client reads claims from the cache and writes their status.
	Client client.Client

	// Live reads a claim from the API server itself. Nil: the cache is believed.
	Live client.Reader

	// Metadata reads Secrets' metadata from the metadata-only cache.
	Metadata client.Reader

	// Events tells people what happened to their claim.
	Events events.EventRecorder

	// Pods knows what pods do with targets. Nil: claims tell nothing of it.
	Pods Pods

	// Clock is the time.
	Clock clock.PassiveClock

	// Interval between two reads of a claim that does not say. 0:
	// DefaultInterval.
	Interval time.Duration

	// StaleAfter is how long a claim goes without a successful read before it
	// is stale; three of its intervals, where those are longer. 0:
	// DefaultStaleAfter.
	StaleAfter time.Duration

	// LastAlive is when a daemon was last seen alive before this one. Zero:
	// unknown, and then no claim is taken to have missed its time. It is also
	// the last time at which a claim may have been read without this daemon's
	// knowing; where it is zero, that is when this one began to work.
	LastAlive time.Time
}

// Reconciler runs the line for claims: at once for one that is new, changed,
// refused, or whose Secret is not as it was left; else when it is due.
type Reconciler struct {
	config   Config
	schedule *schedule
	told     *statuses.Told[v1alpha1.SecretClaimStatus]
	owed     *statuses.Owed[Synced]
	reads    *reads
	flips    *rate.Limiter
	// reread are claims that somebody wants to be read at once.
	reread chan event.TypedGenericEvent[types.NamespacedName]

	// began is when this daemon saw to its first claim.
	began func() time.Time
	made  time.Time
}

// New makes a Reconciler.
func New(config Config) *Reconciler {
	r := &Reconciler{
		config: config, schedule: newSchedule(config.Clock.Now), told: &statuses.Told[v1alpha1.SecretClaimStatus]{}, owed: &statuses.Owed[Synced]{}, reads: newReads(), flips: newFlips(),
		reread: make(chan event.TypedGenericEvent[types.NamespacedName], 1024),
		began:  sync.OnceValue(config.Clock.Now), made: config.Clock.Now(),
	}
	if config.Line != nil {
		line := *config.Line
		line.Lives = r.lives
		r.config.Line = &line
	}
	return r
}

// Reconcile sees to one claim.
func (r *Reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	claim := &v1alpha1.SecretClaim{}
	err := r.config.Client.Get(ctx, request.NamespacedName, claim)
	if apierrors.IsNotFound(err) || err == nil && !claim.DeletionTimestamp.IsZero() {
		r.schedule.forget(request.NamespacedName)
		r.told.Forget(request.NamespacedName)
		r.owed.Forget(request.NamespacedName)
		r.reads.forget(request.NamespacedName)
		return reconcile.Result{}, nil
	}
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("looking up claim %s: %w", request, err)
	}
	if status, told := r.told.CatchUp(claim); told {
		claim.Status = *status.DeepCopy()
	}
	r.began()
	if synced, owed := r.owed.Take(claim); owed {
		return r.finish(ctx, claim, synced, nil)
	}
	now := r.config.Clock.Now()
	due, err := r.due(ctx, claim, now)
	if err != nil {
		return reconcile.Result{}, err
	}
	if due.After(now) {
		later, err := r.recount(ctx, claim, now)
		if err != nil {
			return reconcile.Result{}, err
		}
		return sooner(reconcile.Result{RequeueAfter: due.Sub(now), Priority: new(statuses.WhatIsDue)}, later), nil
	}

	if gone, err := r.gone(ctx, claim); gone || err != nil {
		return reconcile.Result{}, err
	}
	since := due
	if due.IsZero() {
		since = r.schedule.waitingSince(request.NamespacedName, now)
	}
	synced, err := r.config.Line.Sync(ctx, claim, since)
	if errors.Is(err, target.ErrGone) {
		return reconcile.Result{}, nil
	}
	r.reads.note(request.NamespacedName, synced, cmp.Or(err, synced.Unread), now)
	if err == nil && synced.Applied.Outcome != target.Unchanged {
		r.owed.Note(claim, synced)
		return reconcile.Result{RequeueAfter: statuses.AtOnce, Priority: new(statuses.WhatIsOwed)}, nil
	}
	return r.finish(ctx, claim, synced, err)
}

// finish tells how a run of the line ended, and says when to look again.
func (r *Reconciler) finish(ctx context.Context, claim *v1alpha1.SecretClaim, synced Synced, err error) (reconcile.Result, error) {
	later, statusErr := r.tell(ctx, claim, synced, err)
	if statusErr != nil {
		return reconcile.Result{}, statusErr
	}
	result, err := r.settle(ctx, claim, err)
	if err != nil {
		return reconcile.Result{}, err
	}
	return sooner(result, later), nil
}

// sooner has a claim looked at again later, if it is not before that anyway.
func sooner(result reconcile.Result, later time.Duration) reconcile.Result {
	if later > 0 && (result.RequeueAfter == 0 || later < result.RequeueAfter) {
		result.RequeueAfter = later
	}
	return result
}

// lastAlive is when a daemon was last alive before this one worked.
func (r *Reconciler) lastAlive() time.Time {
	if began := r.began(); began.Sub(r.made) > handover {
		return began.Add(-handover)
	}
	return r.config.LastAlive
}

// due is when the line has to run for a claim: the zero time says now.
func (r *Reconciler) due(ctx context.Context, claim *v1alpha1.SecretClaim, now time.Time) (time.Time, error) {
	untouched, err := r.targetUntouched(ctx, claim)
	if err != nil {
		return time.Time{}, err
	}
	name := client.ObjectKeyFromObject(claim)
	stale := isStale(claim) && r.reads.of(name).last.IsZero()
	if !untouched || stale || !inOrder(claim) {
		return time.Time{}, nil
	}
	due := r.schedule.dueAt(name, func() time.Time {
		return firstSlot(claim.Namespace, r.interval(claim), r.lastAlive(), now)
	})
	if once(claim) && !due.IsZero() {
		// Never due by itself; looked at now and then all the same.
		due = now.Add(r.interval(claim))
	}
	// The line resolves anew anyway, so only a claim that could wait is asked.
	if due.After(now) && !r.config.Line.allowed(ctx, claim) {
		return time.Time{}, nil
	}
	return due, nil
}

// gone says that a claim was deleted, though the cache has it still. The API
// server is asked only where the claim's Secret is gone, too: who deletes the
// one deletes both, we may hear of the Secret first, and one that was made again
// then would be there until the garbage collector comes back for it.
func (r *Reconciler) gone(ctx context.Context, claim *v1alpha1.SecretClaim) (bool, error) {
	if r.config.Live == nil || claim.Status.Target == nil || merges(claim) {
		return false, nil
	}
	meta := &metav1.PartialObjectMetadata{}
	meta.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
	if err := r.config.Metadata.Get(ctx, claim.TargetName(), meta); !apierrors.IsNotFound(err) {
		return false, err
	}
	lives, err := r.lives(ctx, claim)
	return !lives, err
}

// lives asks the API server itself whether a claim is there. What cannot be
// asked is.
func (r *Reconciler) lives(ctx context.Context, claim *v1alpha1.SecretClaim) (bool, error) {
	if r.config.Live == nil {
		return true, nil
	}
	live := &v1alpha1.SecretClaim{}
	err := r.config.Live.Get(ctx, client.ObjectKeyFromObject(claim), live)
	if err != nil && !apierrors.IsNotFound(err) {
		return true, fmt.Errorf("looking whether claim %s/%s is still there: %w", claim.Namespace, claim.Name, err)
	}
	return err == nil && live.UID == claim.UID && live.DeletionTimestamp.IsZero(), nil
}

// targetUntouched says that the target is the very Secret that was last seen.
func (r *Reconciler) targetUntouched(ctx context.Context, claim *v1alpha1.SecretClaim) (bool, error) {
	last := claim.Status.Target
	if last == nil || last.Name != claim.TargetName().Name {
		return false, nil
	}
	meta := &metav1.PartialObjectMetadata{}
	meta.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
	err := r.config.Metadata.Get(ctx, claim.TargetName(), meta)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking for Secret %s: %w", claim.TargetName(), err)
	}
	return string(meta.UID) == last.UID && meta.ResourceVersion == last.ResourceVersion, nil
}

// tell writes the claim's status, if it changed, and an event, if it is news.
// Later is when to look again to tell what had to wait, or 0.
func (r *Reconciler) tell(ctx context.Context, claim *v1alpha1.SecretClaim, synced Synced, err error) (later time.Duration, _ error) {
	before, now := claim.DeepCopy(), r.config.Clock.Now()
	claim.Status = statusAfter(claim, synced, err, metav1.NewTime(now))
	r.tellCopy(claim, metav1.NewTime(now))
	r.tellLeases(claim, metav1.NewTime(now))
	if err := r.tellPods(ctx, claim, metav1.NewTime(now)); err != nil {
		return 0, err
	}
	news := changed(before, claim)
	later = r.tellStale(claim, news, now)
	if err := r.write(ctx, before, claim); err != nil {
		return 0, err
	}
	if news {
		r.announce(claim, synced, err)
	}
	return later, nil
}

// write writes the claim's status, if it changed.
func (r *Reconciler) write(ctx context.Context, before, claim *v1alpha1.SecretClaim) error {
	if !changed(before, claim) {
		return nil
	}
	if err := r.config.Client.Status().Patch(ctx, claim, client.MergeFrom(before)); err != nil {
		return client.IgnoreNotFound(fmt.Errorf("writing the status of claim %s/%s: %w", claim.Namespace, claim.Name, err))
	}
	r.told.Remember(before.ResourceVersion, claim, *claim.Status.DeepCopy())
	r.announceDeferred(before, claim)
	return nil
}

func changed(before, claim *v1alpha1.SecretClaim) bool {
	return !equality.Semantic.DeepEqual(before.Status, claim.Status)
}

func (r *Reconciler) announce(claim *v1alpha1.SecretClaim, synced Synced, err error) {
	var refusal *Refusal
	switch {
	case errors.As(err, &refusal):
		r.config.Events.Eventf(claim, nil, corev1.EventTypeWarning, refusal.Reason, "Sync", "%s", refusal.Message)
	case err != nil:
	case synced.Applied.Outcome == target.Updated:
		r.config.Events.Eventf(claim, nil, corev1.EventTypeNormal, "Updated", "Sync",
			"the content of Secret %s changed: keys %v", synced.Applied.Status.Name, synced.Applied.Changed)
	case synced.Applied.Outcome == target.Adopted:
		r.config.Events.Eventf(claim, nil, corev1.EventTypeNormal, "Adopted", "Sync",
			"Secret %s had been made by its sealed copy, holds what the store holds, and is the claim's again", synced.Applied.Status.Name)
	case synced.Applied.Outcome == target.Healed:
		r.config.Events.Eventf(claim, nil, corev1.EventTypeWarning, "Healed", "Sync",
			"Secret %s had been changed by somebody else and was put back", synced.Applied.Status.Name)
	}
}

// settle says when the claim is looked at again.
func (r *Reconciler) settle(ctx context.Context, claim *v1alpha1.SecretClaim, err error) (reconcile.Result, error) {
	now := r.config.Clock.Now()
	var refusal *Refusal
	switch {
	case err == nil:
		next := nextSlot(claim.Namespace, r.interval(claim), now)
		r.schedule.set(client.ObjectKeyFromObject(claim), next)
		return reconcile.Result{RequeueAfter: next.Sub(now), Priority: new(statuses.WhatIsDue)}, nil
	case errors.As(err, &refusal):
		log.FromContext(ctx).Info("claim refused", "reason", refusal.Reason, "message", refusal.Message)
		return reconcile.Result{RequeueAfter: min(retryRefused, r.interval(claim)), Priority: new(statuses.WhatIsDue)}, nil
	case errors.Is(err, providers.ErrUnavailable):
		log.FromContext(ctx).Info("store unavailable, the last good value stays", "error", err.Error())
		return reconcile.Result{RequeueAfter: min(retryRefused, r.interval(claim)), Priority: new(statuses.WhatIsDue)}, nil
	default:
		return reconcile.Result{}, err
	}
}

// recount writes the numbers of consumers, and what their pods complain of, if
// they moved while the claim itself was in order: rollouts began or ended. With
// them goes what waited to be told.
func (r *Reconciler) recount(ctx context.Context, claim *v1alpha1.SecretClaim, now time.Time) (later time.Duration, _ error) {
	consumers, err := r.config.Line.Restarts.Roll(ctx, claim.TargetName())
	if err != nil {
		return 0, fmt.Errorf("counting the consumers of %s: %w", claim.TargetName(), err)
	}
	before := claim.DeepCopy()
	claim.Status.Consumers = &consumers
	r.tellCopy(claim, metav1.NewTime(now))
	r.tellLeases(claim, metav1.NewTime(now))
	if err := r.tellPods(ctx, claim, metav1.NewTime(now)); err != nil {
		return 0, err
	}
	later = r.tellStale(claim, changed(before, claim), now)
	return later, r.write(ctx, before, claim)
}
