package lease

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
)

// What a record is known by. Nobody else makes Secrets in the daemon's namespace
// whose names begin so.
const (
	recordPrefix                   = "privyseal-lease-"
	recordType   corev1.SecretType = v1alpha1.Group + "/lease"
	recordItem                     = "record"
)

// place is what is lent where.
type place struct {
	Kind      v1alpha1.StoreKind   `json:"kind"`
	Store     types.NamespacedName `json:"store"`
	Namespace string               `json:"namespace"`
	// Environment of the namespace, which the login may have been made with.
	Environment string `json:"environment"`
	Path        string `json:"path"`
}

func placeOf(store v1alpha1.Store, as providers.Identity, ref providers.Ref) place {
	return place{store.Kind, store.NamespacedName, as.Namespace, as.Environment, ref.String()}
}

func (p place) identity() providers.Identity {
	return providers.Identity{Namespace: p.Namespace, Environment: p.Environment}
}

// loan is one thing lent, and what it hangs on. JSON has values in base64; they are
// []byte for that, and cleared once they were used.
type loan struct {
	Place place  `json:"place"`
	Token []byte `json:"token"`
	// ID by which the store knows it; empty: it is not known that it was made.
	ID string `json:"id,omitempty"`
	// Values are dropped when another is in its place.
	Values map[string][]byte `json:"values,omitempty"`
	// Target is the Secret that they were made for.
	Target string `json:"target"`
	// Issued in full seconds, and no two of a record alike.
	Issued    time.Time     `json:"issued"`
	Max       time.Time     `json:"max,omitzero"`
	Life      time.Duration `json:"life,omitempty"`
	Renewable bool          `json:"renewable,omitempty"`
}

func (l *loan) pending() bool { return l.ID == "" }

func (l *loan) token() providers.Value { return providers.NewValue(l.Token) }

// forgetValues clears them.
func (l *loan) forgetValues() {
	for _, value := range l.Values {
		clear(value)
	}
	l.Values = nil
}

// document is a copy of the values.
func (l *loan) document() providers.Document {
	document := providers.Document{Values: make(map[string]providers.Value, len(l.Values))}
	for key, value := range l.Values {
		document.Values[key] = providers.NewValue(slices.Clone(value))
	}
	return document
}

// record is what is lent to one claim, oldest first.
type record struct {
	of    types.UID
	claim types.NamespacedName
	loans []*loan
	// secret that it is in; nil: there is none yet.
	secret *corev1.Secret
}

// clear the values.
func (r *record) clear() {
	if r == nil {
		return
	}
	for _, one := range r.loans {
		one.forgetValues()
		clear(one.Token)
	}
}

// newest of a place, pending ones aside; nil: there is none.
func (r *record) newest(at place) *loan {
	for _, one := range slices.Backward(r.loans) {
		if one.Place == at && !one.pending() {
			return one
		}
	}
	return nil
}

// issuedNow is a time for the next loan.
func (r *record) issuedNow(now time.Time) time.Time {
	now = now.UTC().Truncate(time.Second)
	for _, one := range r.loans {
		if !now.After(one.Issued) {
			now = one.Issued.Add(time.Second)
		}
	}
	return now
}

// drop a loan.
func (r *record) drop(gone *loan) {
	r.loans = slices.DeleteFunc(r.loans, func(one *loan) bool { return one == gone })
	gone.forgetValues()
}

func recordName(of types.UID) string { return recordPrefix + string(of) }

// label is what a record is sealed under: it opens under no other name.
func (k *Keeper) label(of types.UID) seal.Label {
	return seal.Label{Namespace: k.config.Namespace, Name: recordName(of), Item: recordItem}
}

// errRecord: the record is there, and cannot be read.
var errRecord = errors.New("its record cannot be opened")

// load reads a record from the API server itself. Where there is none it is empty;
// with errRecord it is empty and lies where the unreadable one does.
func (k *Keeper) load(ctx context.Context, of types.UID, claim types.NamespacedName) (*record, error) {
	found := &record{of: of, claim: claim}
	secret := &corev1.Secret{}
	err := k.config.Live.Get(ctx, client.ObjectKey{Namespace: k.config.Namespace, Name: recordName(of)}, secret)
	if apierrors.IsNotFound(err) {
		return found, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading Secret %s/%s: %w", k.config.Namespace, recordName(of), err)
	}
	found.secret = secret
	_, keys, err := k.config.Keys.SealingKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("opening Secret %s/%s: %w", k.config.Namespace, recordName(of), err)
	}
	opened, err := keys.Open(secret.Data[recordItem], k.label(of))
	if err != nil {
		return found, fmt.Errorf("opening Secret %s/%s: %w: %w", k.config.Namespace, recordName(of), errRecord, err)
	}
	defer opened.Value.Clear()
	if err := json.Unmarshal(opened.Value.Bytes(), &found.loans); err != nil {
		found.clear()
		found.loans = nil
		return found, fmt.Errorf("opening Secret %s/%s: %w: what was sealed is no record", k.config.Namespace, recordName(of), errRecord)
	}
	return found, nil
}

// save writes a record over the very one that was read, and drops one with nothing
// in it.
func (k *Keeper) save(ctx context.Context, r *record) error {
	if len(r.loans) == 0 {
		return k.remove(ctx, r)
	}
	item, err := k.sealed(ctx, r)
	if err != nil {
		return err
	}
	next := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: k.config.Namespace, Name: recordName(r.of)}, Type: recordType}
	if r.secret != nil {
		next = r.secret.DeepCopy()
	}
	next.Labels = map[string]string{v1alpha1.LabelLeaseRecord: "true"}
	next.Annotations = map[string]string{v1alpha1.AnnotationClaim: r.claim.String()}
	next.Data = map[string][]byte{recordItem: item}
	write := func() error { return k.config.Client.Create(ctx, next) }
	if r.secret != nil {
		write = func() error { return k.config.Client.Update(ctx, next) }
	}
	if err := write(); err != nil {
		return fmt.Errorf("writing Secret %s/%s: %w", next.Namespace, next.Name, err)
	}
	r.secret = next
	return nil
}

func (k *Keeper) sealed(ctx context.Context, r *record) ([]byte, error) {
	to, _, err := k.config.Keys.SealingKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("sealing what is lent to claim %s: %w", r.claim, err)
	}
	plain, err := json.Marshal(r.loans)
	if err != nil {
		return nil, fmt.Errorf("writing what is lent to claim %s: %w", r.claim, err) // unreachable: all of it is JSON
	}
	defer clear(plain)
	item, err := seal.Seal(providers.NewValue(plain), k.label(r.of), to)
	if err != nil {
		return nil, fmt.Errorf("sealing what is lent to claim %s: %w", r.claim, err)
	}
	return item, nil
}

// remove a record, and none that somebody wrote meanwhile.
func (k *Keeper) remove(ctx context.Context, r *record) error {
	if r.secret == nil {
		return nil
	}
	are := client.Preconditions{UID: &r.secret.UID, ResourceVersion: &r.secret.ResourceVersion}
	if err := k.config.Client.Delete(ctx, r.secret, are); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("dropping Secret %s/%s: %w", r.secret.Namespace, r.secret.Name, err)
	}
	r.secret = nil
	return nil
}
