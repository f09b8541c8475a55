package sealedsecret

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/privyseal/privyseal/broker/installkey"
	"github.com/privyseal/privyseal/broker/statuses"
	"github.com/privyseal/privyseal/broker/target"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// KeySource gives the installation's keys.
type KeySource interface {
	Keyring(ctx context.Context) (*installkey.Keyring, error)
}

// Config of a Reconciler. Every field is required but AllowedMetadata, Log,
// Revision and Registerer.
type Config struct {
	// Client reads SealedSecrets, namespaces and environments from the cache, and
	// writes statuses and what is remembered.
	Client client.Client

	// Metadata reads Secrets' metadata from the cache. Client may not have them
	// there, and would ask the API server for each.
	Metadata client.Reader

	// Live reads from the API server itself.
	Live client.Reader

	// Keys are the sealing keys.
	Keys Keys

	// InstallKeys are what is remembered under.
	InstallKeys KeySource

	// Targets writes Secrets.
	Targets Applier

	// AllowedMetadata are keys of labels and annotations, or prefixes that end in
	// a slash, that templates may set though other controllers trust them. Empty:
	// only what a namespace's environment lists.
	AllowedMetadata []string

	// Events tells people what happened to their SealedSecret.
	Events events.EventRecorder

	// Clock is the time, and Later runs a function when a time has passed.
	Clock clock.PassiveClock
	Later func(time.Duration, func())

	// Registerer takes the metrics. Nil: there are none.
	Registerer prometheus.Registerer

	// Revision of this program, for the metrics. Empty: unknown.
	Revision string

	// Log takes what nobody is told in a status. The zero value drops it.
	Log logr.Logger
}

// Reconciler makes the Secrets of SealedSecrets.
type Reconciler struct {
	config  Config
	line    *line
	ledger  *ledger
	owed    *statuses.Owed[target.Applied]
	told    *statuses.Told[*ssv1alpha1.SealedSecretStatus]
	metrics *metrics
}

// New makes a Reconciler.
func New(config Config) *Reconciler {
	r := &Reconciler{
		config: config, line: newLine(config), owed: &statuses.Owed[target.Applied]{}, told: &statuses.Told[*ssv1alpha1.SealedSecretStatus]{},
		metrics: newMetrics(config.Registerer, config.Revision),
	}
	r.ledger = newLedger(config, r.living)
	return r
}

// Reconcile sees to one SealedSecret.
func (r *Reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	sealed := &ssv1alpha1.SealedSecret{}
	err := r.config.Client.Get(ctx, request.NamespacedName, sealed)
	if apierrors.IsNotFound(err) || err == nil && !sealed.DeletionTimestamp.IsZero() {
		r.owed.Forget(request.NamespacedName)
		r.told.Forget(request.NamespacedName)
		r.metrics.forget(request.NamespacedName)
		return reconcile.Result{}, r.forgetTheDead(ctx, request.Namespace)
	}
	if err != nil {
		r.metrics.failed(countFetch, "")
		return reconcile.Result{}, fmt.Errorf("looking up SealedSecret %s: %w", request, err)
	}
	if status, told := r.told.CatchUp(sealed); told {
		sealed.Status = status.DeepCopy()
	}
	if applied, owed := r.owed.Take(sealed); owed {
		return reconcile.Result{}, r.tell(ctx, sealed, applied, nil)
	}
	return r.see(ctx, sealed)
}

// see runs the line, unless everything is as it was left.
func (r *Reconciler) see(ctx context.Context, sealed *ssv1alpha1.SealedSecret) (reconcile.Result, error) {
	home, err := r.line.home(ctx, sealed.Namespace)
	if err != nil {
		return reconcile.Result{}, r.finish(ctx, sealed, target.Applied{}, err)
	}
	if standby(sealed) {
		if stands, result, err := r.standBy(ctx, sealed, home); !stands {
			return result, err
		}
	}
	memory, err := r.recall(ctx, sealed, home)
	if err != nil {
		return reconcile.Result{}, err
	}
	if memory.untouched {
		return reconcile.Result{}, r.tell(ctx, sealed, target.Applied{Outcome: target.Unchanged}, nil)
	}
	job := unsealing{sealed: sealed, home: home, known: memory.known, replaces: memory.missing && !memory.known}
	if memory.found {
		job.lives = func(ctx context.Context) (bool, error) { return r.lives(ctx, sealed) }
	}
	if memory.missing { // before anything is decrypted, as well as before it is written
		if lives, err := job.lives(ctx); !lives || err != nil {
			return reconcile.Result{}, err
		}
	}
	r.metrics.requests.Inc()
	applied, err := r.line.run(ctx, job)
	if errors.Is(err, target.ErrGone) {
		return reconcile.Result{}, nil
	}
	if err != nil {
		return reconcile.Result{}, r.finish(ctx, sealed, applied, err)
	}
	r.metrics.unsealed.WithLabelValues(string(applied.Outcome)).Inc()
	r.ledger.note(ctx, sealed.Namespace, sealed.UID, recordOf(memory.ring, memory.made, applied.Status.UID, applied.Status.ResourceVersion))
	if applied.Outcome != target.Unchanged {
		r.owed.Note(sealed, applied)
		return reconcile.Result{RequeueAfter: statuses.AtOnce, Priority: new(statuses.WhatIsOwed)}, nil
	}
	return reconcile.Result{}, r.tell(ctx, sealed, applied, nil)
}

// finish tells why the line did not come to its end, and has it tried again.
func (r *Reconciler) finish(ctx context.Context, sealed *ssv1alpha1.SealedSecret, applied target.Applied, err error) error {
	count := countUpdate
	var refusal *Refusal
	if errors.As(err, &refusal) {
		count = refusal.count
	}
	r.metrics.failed(count, sealed.Namespace)
	return errors.Join(err, r.tell(ctx, sealed, applied, err))
}

// memory is what is remembered of a SealedSecret, held against what is.
type memory struct {
	ring *installkey.Keyring
	made [][]byte

	// untouched: neither it nor its Secret changed since all was in order.
	untouched bool

	// found: it was unsealed before. known: it did not change since, whatever became
	// of the Secret. missing: the Secret that was made of it is gone.
	found, known, missing bool
}

func (r *Reconciler) recall(ctx context.Context, sealed *ssv1alpha1.SealedSecret, home *v1alpha1.Environment) (memory, error) {
	ring, err := r.config.InstallKeys.Keyring(ctx)
	if err != nil {
		return memory{}, err
	}
	made, err := inputs(sealed, home)
	if err != nil {
		return memory{}, err
	}
	last, found, err := r.ledger.recall(ctx, sealed.Namespace, sealed.UID)
	if err != nil {
		return memory{}, err
	}
	meta := secretMeta()
	err = r.config.Metadata.Get(ctx, client.ObjectKeyFromObject(sealed), meta, client.UnsafeDisableDeepCopy)
	if client.IgnoreNotFound(err) != nil {
		return memory{}, fmt.Errorf("looking for Secret %s/%s: %w", sealed.Namespace, sealed.Name, err)
	}
	there := err == nil
	known := found && last.knows(ring, made)
	return memory{
		ring: ring, made: made, found: found, known: known,
		untouched: known && there && last.saw(meta),
		missing:   found && !there,
	}, nil
}

// lives says whether a SealedSecret is still there, whatever the cache has: who
// deletes a namespace's objects deletes its Secret as well, and that would be
// made again for nobody.
func (r *Reconciler) lives(ctx context.Context, sealed *ssv1alpha1.SealedSecret) (bool, error) {
	live := &ssv1alpha1.SealedSecret{}
	err := r.config.Live.Get(ctx, client.ObjectKeyFromObject(sealed), live)
	if client.IgnoreNotFound(err) != nil {
		return true, fmt.Errorf("looking whether SealedSecret %s/%s is still there: %w", sealed.Namespace, sealed.Name, err)
	}
	return err == nil && live.UID == sealed.UID && live.DeletionTimestamp.IsZero(), nil
}

// forgetTheDead drops what is remembered of SealedSecrets that are gone.
func (r *Reconciler) forgetTheDead(ctx context.Context, namespace string) error {
	living, err := r.living(ctx, namespace)
	if err != nil {
		return err
	}
	r.ledger.keep(ctx, namespace, living)
	return nil
}

// living are a namespace's SealedSecrets.
func (r *Reconciler) living(ctx context.Context, namespace string) (map[types.UID]bool, error) {
	var list ssv1alpha1.SealedSecretList
	if err := r.config.Client.List(ctx, &list, client.InNamespace(namespace), client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing SealedSecrets: %w", err)
	}
	living := make(map[types.UID]bool, len(list.Items))
	for i := range list.Items {
		living[list.Items[i].UID] = true
	}
	return living, nil
}

// tell writes the status, if it changed, and an event, if something happened.
func (r *Reconciler) tell(ctx context.Context, sealed *ssv1alpha1.SealedSecret, applied target.Applied, err error) error {
	status := statusAfter(sealed, err, metav1.NewTime(r.config.Clock.Now()))
	news := !equality.Semantic.DeepEqual(sealed.Status, status)
	if news {
		before := sealed.DeepCopy()
		sealed.Status = status
		// A merge patch without a version cannot conflict, and the status is
		// nobody's but ours.
		if err := r.config.Client.Status().Patch(ctx, sealed, client.MergeFrom(before)); err != nil {
			if apierrors.IsNotFound(err) {
				return nil
			}
			r.metrics.failed(countStatus, sealed.Namespace)
			return fmt.Errorf("writing the status of SealedSecret %s/%s: %w", sealed.Namespace, sealed.Name, err)
		}
		r.told.Remember(before.ResourceVersion, sealed, sealed.Status.DeepCopy())
	}
	r.metrics.observe(sealed)
	r.announce(ctx, sealed, applied, err, news)
	return nil
}

func (r *Reconciler) announce(ctx context.Context, sealed *ssv1alpha1.SealedSecret, applied target.Applied, err error, news bool) {
	var refusal *Refusal
	switch {
	case errors.As(err, &refusal):
		if news {
			log.FromContext(ctx).Info("SealedSecret refused", "reason", refusal.Reason, "message", refusal.Error())
			r.config.Events.Eventf(sealed, nil, corev1.EventTypeWarning, refusal.Reason, "Unseal", "%s", limited(refusal.Error()))
		}
	case err != nil, applied.Outcome == "", applied.Outcome == target.Unchanged:
	case applied.Outcome == target.Recreated:
		r.config.Events.Eventf(sealed, nil, corev1.EventTypeNormal, reasonUnsealed, "Unseal",
			"Secret %s could not be changed, so it was deleted and made anew", applied.Status.Name)
	default:
		r.config.Events.Eventf(sealed, nil, corev1.EventTypeNormal, reasonUnsealed, "Unseal",
			"SealedSecret unsealed successfully: Secret %s was %s", applied.Status.Name, applied.Outcome)
	}
}

// limited is as much of a text as an event takes.
func limited(text string) string {
	const maxNote = 1024
	return strings.ToValidUTF8(text[:min(len(text), maxNote)], "")
}
