package rotate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/rotation"
)

// What a record is known by. Nobody else makes Secrets in the daemon's namespace
// whose names begin so.
const (
	recordPrefix                   = "privyseal-rotation-"
	recordType   corev1.SecretType = v1alpha1.Group + "/rotation"
	recordItem                     = "record"
)

// record of an attempt: what it was begun with, and both values. A spec that is
// changed meanwhile is for the next run.
type record struct {
	uid     types.UID
	attempt int
	from    int64
	// store is the ClusterSecretStore's name.
	store    string
	identity providers.Identity
	ref      providers.Ref
	plan     rotation.Plan
	change   rotation.Change
	// jobs are the hooks, by what they are; set-back is set.
	jobs hooks
	// credentials of set and set-back; zero: they need none.
	credentials providers.Ref
}

// clear the values.
func (r *record) clear() {
	if r == nil {
		return
	}
	clearAll(r.change.Before)
	clearAll(r.change.After)
}

func clearAll(values map[string]providers.Value) {
	for _, value := range values {
		value.Clear()
	}
}

// hooks are the Jobs of a spec, by what they are.
type hooks = map[string]*v1alpha1.RotationJob

// written is a record as it is sealed. Values are []byte here, which JSON has in
// base64, and which are cleared at once.
type written struct {
	Attempt     int               `json:"attempt"`
	From        int64             `json:"from"`
	Store       string            `json:"store"`
	Namespace   string            `json:"namespace"`
	Environment string            `json:"environment"`
	Path        string            `json:"path"`
	Plan        rotation.Plan     `json:"plan"`
	Jobs        hooks             `json:"jobs,omitempty"`
	Before      map[string][]byte `json:"before"`
	After       map[string][]byte `json:"after"`
	JSONBefore  map[string]bool   `json:"jsonBefore,omitempty"`
	JSONAfter   map[string]bool   `json:"jsonAfter,omitempty"`
	Credentials string            `json:"credentials,omitempty"`
}

func recordName(of types.UID) string { return recordPrefix + string(of) }

// label is what a record is sealed under: it opens under no other name.
func (r *Reconciler) label(of types.UID) seal.Label {
	return seal.Label{Namespace: r.config.Namespace, Name: recordName(of), Item: recordItem}
}

// keep makes the record of an attempt. One that is there already is left alone:
// whoever looks next finds it.
func (r *Reconciler) keep(ctx context.Context, of *v1alpha1.SecretRotation, kept *record) error {
	item, err := r.sealed(ctx, of.UID, kept)
	if err != nil {
		return err
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: r.config.Namespace, Name: recordName(of.UID),
			Annotations: map[string]string{v1alpha1.AnnotationRotation: of.Namespace + "/" + of.Name},
		},
		Type: recordType, Data: map[string][]byte{recordItem: item},
	}
	if err := r.config.Client.Create(ctx, secret); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("making the record of attempt %d: %w", kept.attempt, err)
	}
	return nil
}

func (r *Reconciler) sealed(ctx context.Context, of types.UID, kept *record) ([]byte, error) {
	to, _, err := r.config.Keys.SealingKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("sealing the values of attempt %d: %w", kept.attempt, err)
	}
	plain, err := json.Marshal(written{
		Attempt: kept.attempt, From: kept.from, Store: kept.store, Plan: kept.plan, Path: kept.ref.String(), Jobs: kept.jobs,
		Namespace: kept.identity.Namespace, Environment: kept.identity.Environment,
		Before: raw(kept.change.Before), After: raw(kept.change.After),
		JSONBefore: kept.change.JSONBefore, JSONAfter: kept.change.JSONAfter, Credentials: pathOf(kept.credentials),
	})
	if err != nil {
		return nil, fmt.Errorf("writing the record of attempt %d: %w", kept.attempt, err) // unreachable: all of it is JSON
	}
	defer clear(plain)
	item, err := seal.Seal(providers.NewValue(plain), r.label(of), to)
	if err != nil {
		return nil, fmt.Errorf("sealing the values of attempt %d: %w", kept.attempt, err)
	}
	return item, nil
}

// pathOf a document that need not be; empty: there is none.
func pathOf(ref providers.Ref) string {
	if ref.IsZero() {
		return ""
	}
	return ref.String()
}

func raw(values map[string]providers.Value) map[string][]byte {
	all := make(map[string][]byte, len(values))
	for key, value := range values {
		all[key] = value.Bytes()
	}
	return all
}

// errRecord: the record is there, and cannot be read.
var errRecord = errors.New("its record cannot be opened")

// kept is the record of a rotation, from the API server itself; nil: there is none.
func (r *Reconciler) kept(ctx context.Context, of types.UID) (*record, error) {
	secret := &corev1.Secret{}
	err := r.config.Live.Get(ctx, client.ObjectKey{Namespace: r.config.Namespace, Name: recordName(of)}, secret)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading Secret %s/%s: %w", r.config.Namespace, recordName(of), err)
	}
	_, keys, err := r.config.Keys.SealingKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("opening Secret %s/%s: %w", r.config.Namespace, recordName(of), err)
	}
	opened, err := keys.Open(secret.Data[recordItem], r.label(of))
	if err != nil {
		return nil, fmt.Errorf("opening Secret %s/%s: %w: %w", r.config.Namespace, recordName(of), errRecord, err)
	}
	defer opened.Value.Clear()
	found, err := read(opened.Value)
	if err != nil {
		return nil, fmt.Errorf("opening Secret %s/%s: %w: %w", r.config.Namespace, recordName(of), errRecord, err)
	}
	found.uid = secret.UID
	return found, nil
}

func read(plain providers.Value) (*record, error) {
	var w written
	if err := json.Unmarshal(plain.Bytes(), &w); err != nil {
		return nil, errors.New("what was sealed is no record")
	}
	ref, err := providers.ParseRef(w.Path)
	if err != nil {
		return nil, err
	}
	var credentials providers.Ref
	if w.Credentials != "" {
		if credentials, err = providers.ParseRef(w.Credentials); err != nil {
			return nil, err
		}
	}
	change := rotation.Change{Before: values(w.Before), After: values(w.After), JSONBefore: w.JSONBefore, JSONAfter: w.JSONAfter}
	change.Keys = slices.Sorted(maps.Keys(change.After))
	return &record{
		attempt: w.Attempt, from: w.From, store: w.Store, ref: ref, plan: w.Plan, change: change, jobs: w.Jobs, credentials: credentials,
		identity: providers.Identity{Namespace: w.Namespace, Environment: w.Environment},
	}, nil
}

func values(raw map[string][]byte) map[string]providers.Value {
	all := make(map[string]providers.Value, len(raw))
	for key, value := range raw {
		all[key] = providers.NewValue(value)
	}
	return all
}

// drop a record, and no other that was made in its place.
func (r *Reconciler) drop(ctx context.Context, of types.UID, record string) error {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: r.config.Namespace, Name: recordName(of)}}
	uid := types.UID(record)
	err := r.config.Client.Delete(ctx, secret, client.Preconditions{UID: &uid})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("dropping Secret %s/%s: %w", secret.Namespace, secret.Name, err)
	}
	return nil
}
