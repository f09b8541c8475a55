package sealedsecret

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/privyseal/privyseal/broker/environment"
	"github.com/privyseal/privyseal/broker/installkey"
	"github.com/privyseal/privyseal/broker/manifest"
	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/broker/target"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// AnnotationStandby marks a SealedSecret that stands in for a claim: it makes its
// Secret where there is none, and never changes one.
const AnnotationStandby = v1alpha1.Group + "/standby"

// Targets writes Secrets.
type Targets interface {
	ApplyUnsealed(ctx context.Context, wanted target.Unsealed) (target.Applied, error)
}

// Environments say which environment a namespace is in; "" is none. Errors wrap
// environment.ErrTwo or environment.ErrSelector where it cannot be in one.
type Environments interface {
	Environment(ctx context.Context, namespace string) (string, error)
}

// Keyrings gives the installation's keys, under which inputs are digested.
type Keyrings interface {
	Keyring(ctx context.Context) (*installkey.Keyring, error)
}

// Config of a Reconciler. Every field is required but Registerer and Log.
type Config struct {
	// Client reads from the cache, and writes statuses and records.
	Client client.Client

	// Live reads from the API server itself.
	Live client.Reader

	// Metadata reads Secrets' metadata from the metadata-only cache.
	Metadata client.Reader

	// Targets writes Secrets.
	Targets Targets

	// Keys opens items; an error says that the keys are not known yet.
	Keys func(ctx context.Context) (*seal.Keys, error)

	// Environments of namespaces.
	Environments Environments

	// Keyrings are the installation's keys.
	Keyrings Keyrings

	// Events tells people what happened to their SealedSecret.
	Events events.EventRecorder

	// Registerer takes the metrics. Nil: there are none.
	Registerer prometheus.Registerer

	// Log takes what goes wrong with records. The zero value drops it.
	Log logr.Logger

	// Clock is the time.
	Clock clock.PassiveClock
}

// Reconciler makes Secrets of SealedSecrets.
type Reconciler struct {
	config  Config
	records *records
	metrics *metrics

	mu   sync.Mutex
	last string                          // the key that opened an item last
	owed map[types.NamespacedName]debt   // statuses to be written
	tell map[types.NamespacedName]string // the failure that an event told last
}

// debt is how a pass ended, for the version of the SealedSecret that it was over.
type debt struct {
	version string
	ended   outcome
}

// New makes a Reconciler.
func New(config Config) *Reconciler {
	return &Reconciler{
		config: config, records: newRecords(config.Live, config.Client, config.Log), metrics: newMetrics(config.Registerer),
		owed: map[types.NamespacedName]debt{}, tell: map[types.NamespacedName]string{},
	}
}

// Reconcile implements reconcile.Reconciler. Where many SealedSecrets wait, the
// Secrets of all come before the status of any: pods wait for those.
func (r *Reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	sealed := &ssv1alpha1.SealedSecret{}
	if err := r.config.Client.Get(ctx, request.NamespacedName, sealed); err != nil {
		r.forget(request.NamespacedName)
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if !sealed.DeletionTimestamp.IsZero() {
		r.records.forget(sealed.Namespace, sealed.UID)
		return reconcile.Result{}, nil
	}
	if ended, found := r.take(sealed); found {
		return reconcile.Result{}, r.finish(ctx, sealed, ended)
	}
	ended, err := r.pass(ctx, sealed)
	if ended.reason == "" {
		return reconcile.Result{}, err // it is not known how it stands
	}
	if ended.wrote {
		r.owe(sealed, ended)
		return reconcile.Result{RequeueAfter: atOnce, Priority: new(whatIsOwed)}, nil
	}
	return reconcile.Result{}, errors.Join(r.finish(ctx, sealed, ended), err)
}

// pass makes the Secret what the SealedSecret says. An outcome without a reason
// says that nothing can be told of it; an error has it tried again.
func (r *Reconciler) pass(ctx context.Context, sealed *ssv1alpha1.SealedSecret) (outcome, error) {
	facts, err := r.gather(ctx, sealed)
	if err != nil {
		return outcome{}, err
	}
	if facts.problem != nil {
		return r.failed(sealed, ReasonUnsealFailed, errorUnseal, facts.problem)
	}
	if facts.inOrder() {
		return outcome{reason: ReasonUnsealed}, nil
	}
	opened, err := r.open(sealed, facts)
	if err != nil {
		return r.failed(sealed, ReasonUnsealFailed, errorUnseal, err)
	}
	defer opened.Clear()
	secret, err := manifest.Render(sealed, opened)
	if err != nil {
		return r.failed(sealed, ReasonUnsealFailed, errorUnseal, err)
	}
	applied, err := r.config.Targets.ApplyUnsealed(ctx, target.Unsealed{
		Secret: secret, Owner: target.SealedOwner{Name: sealed.Name, UID: sealed.UID},
		Known:      facts.sameInput(),
		Replaces:   facts.secret == nil && facts.before.Input != "" && !facts.sameInput(),
		Recreate:   sealed.Annotations[v1alpha1.AnnotationRecreate] == "true",
		CreateOnly: sealed.Annotations[AnnotationStandby] == "true",
	})
	for _, value := range secret.Data {
		clear(value)
	}
	switch {
	case errors.Is(err, target.ErrNotOurs):
		return r.failed(sealed, ReasonUpdateFailed, errorUnmanaged, err)
	case err != nil:
		return r.failed(sealed, ReasonUpdateFailed, errorUpdate, err)
	}
	r.records.put(sealed.Namespace, sealed.UID, record{
		Input: facts.input, UID: types.UID(applied.Status.UID), Version: applied.Status.ResourceVersion,
	})
	return outcome{reason: ReasonUnsealed, wrote: applied.Outcome != target.Unchanged}, nil
}

// open opens the items, with the key first that opened the last ones: most
// SealedSecrets of a cluster are sealed to one of a few keys.
func (r *Reconciler) open(sealed *ssv1alpha1.SealedSecret, facts facts) (manifest.Opened, error) {
	r.mu.Lock()
	last := r.last
	r.mu.Unlock()
	r.metrics.requests.Inc()
	opened, err := manifest.Open(sealed, facts.environment, facts.keys.First(last))
	if err == nil && len(opened.Keys) > 0 {
		r.mu.Lock()
		r.last = opened.Keys[0]
		r.mu.Unlock()
	}
	return opened, err
}

// facts are what a pass goes by.
type facts struct {
	keys        *seal.Keys
	environment string
	input       string // digest of what the Secret is to be made of
	before      record
	inputBefore string                        // the same digest under the record's key; "" if that is lost
	secret      *metav1.PartialObjectMetadata // nil: there is none
	problem     error                         // why it cannot be gone on, which people have to see to
}

// sameInput says that the Secret was made of this very input before.
func (f facts) sameInput() bool { return f.inputBefore != "" && f.inputBefore == f.before.Input }

// inOrder says that nothing moved since the Secret was right.
func (f facts) inOrder() bool {
	return f.sameInput() && f.secret != nil && f.secret.UID == f.before.UID && f.secret.ResourceVersion == f.before.Version
}

func (r *Reconciler) gather(ctx context.Context, sealed *ssv1alpha1.SealedSecret) (found facts, err error) {
	if found.keys, err = r.config.Keys(ctx); err != nil {
		return found, err
	}
	ring, err := r.config.Keyrings.Keyring(ctx)
	if err != nil {
		return found, err
	}
	home, err := r.config.Environments.Environment(ctx, sealed.Namespace)
	if errors.Is(err, environment.ErrTwo) || errors.Is(err, environment.ErrSelector) {
		found.problem = err
		return found, nil
	}
	if err != nil {
		return found, err
	}
	found.environment = home
	if found.before, err = r.records.get(ctx, sealed.Namespace, sealed.UID); err != nil {
		return found, err
	}
	found.input = digestInput(ring, ring.Current(), sealed, home)
	if kid := found.before.kid(); ring.Knows(kid) {
		found.inputBefore = digestInput(ring, kid, sealed, home)
	}
	secret := &metav1.PartialObjectMetadata{}
	secret.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
	err = r.config.Metadata.Get(ctx, client.ObjectKeyFromObject(sealed), secret)
	if err == nil {
		found.secret = secret
	}
	return found, client.IgnoreNotFound(err)
}

// digestInput is the keyed digest of all that the Secret is made of.
func digestInput(ring *installkey.Keyring, kid string, sealed *ssv1alpha1.SealedSecret, environment string) string {
	spec, err := json.Marshal(sealed.Spec)
	if err != nil {
		panic(err) // unreachable: it was read from JSON
	}
	return kid + ":" + ring.Input(kid, []byte(sealed.Namespace), []byte(sealed.Name), []byte(sealed.UID),
		[]byte(manifest.Scope(sealed).String()), []byte(environment),
		[]byte(sealed.Annotations[v1alpha1.AnnotationRecreate]), []byte(sealed.Annotations[AnnotationStandby]), spec)
}

// failed is how a pass ends that people have to know of. It is tried again.
func (r *Reconciler) failed(sealed *ssv1alpha1.SealedSecret, reason, metric string, err error) (outcome, error) {
	r.metrics.errors.WithLabelValues(metric, sealed.Namespace).Inc()
	return outcome{reason: reason, message: bounded(err.Error())}, err
}

// maxMessage bounds a message: a SealedSecret may have a thousand items.
const maxMessage = 1024

func bounded(message string) string {
	if len(message) > maxMessage {
		return message[:maxMessage] + "…"
	}
	return message
}

// finish tells how a pass ended, to the status, in an event and to the metrics.
func (r *Reconciler) finish(ctx context.Context, sealed *ssv1alpha1.SealedSecret, ended outcome) error {
	r.event(sealed, ended)
	r.metrics.tell(sealed, ended.synced())
	status, changed := statusOf(sealed.Status, sealed.Generation, ended, r.config.Clock.Now())
	if !changed {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		return fmt.Errorf("writing a status: %w", err)
	}
	// Of the fields of the status none is anybody else's, so there is nothing to
	// conflict with.
	err = r.config.Client.Status().Patch(ctx, sealed.DeepCopy(), client.RawPatch(types.MergePatchType, patch))
	if client.IgnoreNotFound(err) != nil {
		r.metrics.errors.WithLabelValues(errorStatus, sealed.Namespace).Inc()
		return fmt.Errorf("writing the status of SealedSecret %s: %w", client.ObjectKeyFromObject(sealed), err)
	}
	return nil
}

// event tells of a Secret that was written, and of a failure once.
func (r *Reconciler) event(sealed *ssv1alpha1.SealedSecret, ended outcome) {
	name := client.ObjectKeyFromObject(sealed)
	r.mu.Lock()
	told := r.tell[name]
	if ended.message == "" {
		delete(r.tell, name)
	} else {
		r.tell[name] = ended.message
	}
	r.mu.Unlock()
	switch {
	case ended.wrote:
		r.config.Events.Eventf(sealed, nil, corev1.EventTypeNormal, ReasonUnsealed, "Unseal", "SealedSecret unsealed successfully")
	case ended.message != "" && ended.message != told:
		r.config.Events.Eventf(sealed, nil, corev1.EventTypeWarning, ended.reason, "Unseal", "%s", ended.message)
	}
}

func (r *Reconciler) owe(sealed *ssv1alpha1.SealedSecret, ended outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.owed[client.ObjectKeyFromObject(sealed)] = debt{version: sealed.ResourceVersion, ended: ended}
}

// take gives the outcome that the SealedSecret is owed a status for; none if it
// was changed meanwhile.
func (r *Reconciler) take(sealed *ssv1alpha1.SealedSecret) (outcome, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name := client.ObjectKeyFromObject(sealed)
	debt, found := r.owed[name]
	delete(r.owed, name)
	return debt.ended, found && debt.version == sealed.ResourceVersion
}

func (r *Reconciler) forget(name types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.owed, name)
	delete(r.tell, name)
	r.metrics.forget(name.Namespace, name.Name)
}

// atOnce has a SealedSecret looked at again as soon as its priority allows.
const atOnce = time.Nanosecond
