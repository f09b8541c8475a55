package lease

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
)

// shortest is the least time that a loan has to be good for, however often it is
// renewed: its values go into a Secret, and pods are replaced for it, before they
// end.
const shortest = 15 * time.Second

// Store is all stores. Errors are those of a providers.Leaser.
type Store interface {
	Issue(ctx context.Context, store v1alpha1.Store, as providers.Identity, ref providers.Ref, keep func(context.Context, providers.Value) error) (providers.Lease, error)
	Renew(ctx context.Context, store v1alpha1.Store, as providers.Identity, token providers.Value, id string) (time.Duration, error)
	Revoke(ctx context.Context, store v1alpha1.Store, as providers.Identity, token providers.Value) error
}

// Pods are those that live, of any kind.
type Pods interface {
	// StillHeld says whether one was started under an earlier content of a target
	// than that of a sequence, in what it reads. known is false while that content
	// was not seen yet.
	StillHeld(ctx context.Context, target types.NamespacedName, sequence int64) (held, known bool, err error)
	// ReadBefore says whether one reads a Secret that was made before a time; zero:
	// whenever it was made.
	ReadBefore(ctx context.Context, secret types.NamespacedName, before time.Time) (bool, error)
}

// Keys are the daemon's own, of version 2.
type Keys interface {
	// SealingKeys are the one to seal to, and those that open.
	SealingKeys(ctx context.Context) (*seal.PublicKey, *seal.Keys, error)
}

// Config of a Keeper. Every field is required but Settled and Registerer.
type Config struct {
	// Client reads claims and stores from the cache, and writes records.
	Client client.Client

	// Live reads records from the API server itself.
	Live client.Reader

	Store Store
	Pods  Pods
	Keys  Keys

	// Reread has a claim read at once, and does not wait for it.
	Reread func(ctx context.Context, claim types.NamespacedName)

	// Settled has a target's claim looked at again, to tell of its leases. It does
	// not block. Nil: it is told when it is next looked at.
	Settled func(target types.NamespacedName)

	// Namespace of the daemon, in which the records lie.
	Namespace string

	// Events tells people what happened to their claim.
	Events events.EventRecorder

	// Registerer takes the metrics, once. Nil: no metrics.
	Registerer prometheus.Registerer

	// Clock is the time.
	Clock clock.PassiveClock
}

// Keeper keeps what is lent. Of each record one look, or one issue, is under way at
// a time.
type Keeper struct {
	config  Config
	metrics *metrics
	wakes   chan event.TypedGenericEvent[types.NamespacedName]

	mu     sync.Mutex
	locks  map[types.UID]*sync.Mutex
	known  map[types.NamespacedName]map[types.UID]bool // :: claim's name → records
	memory map[key]*memory
}

// key of a loan, in memory.
type key struct {
	of     types.UID
	place  place
	issued int64
}

// memory of a loan: what a renewal told, which is written nowhere.
type memory struct {
	claim                    types.NamespacedName
	issued, max              time.Time
	life                     time.Duration
	renewed, expires, failed time.Time
	gone                     bool
	// failure is what the last try ended with; nil: it went well.
	failure error
	// told is when its claim was last told to read.
	told time.Time
	// inUse: it is the one that the claim's Secret holds, or is to hold.
	inUse bool
	// condition that it gives its claim; empty: none.
	condition metav1.Condition
}

// New makes a Keeper; SetupWithManager has it look after what is lent.
func New(config Config) *Keeper {
	k := &Keeper{
		config: config, wakes: make(chan event.TypedGenericEvent[types.NamespacedName], 1024),
		locks: map[types.UID]*sync.Mutex{}, known: map[types.NamespacedName]map[types.UID]bool{}, memory: map[key]*memory{},
	}
	k.metrics = newMetrics(k)
	return k
}

// Held is what is lent to a claim at a path, from its record: the store is not
// asked. Without a time of issue there is nothing that is good for long.
func (k *Keeper) Held(ctx context.Context, claim *v1alpha1.SecretClaim, store v1alpha1.Store, as providers.Identity, ref providers.Ref) (providers.Document, v1alpha1.Lease, error) {
	defer k.lock(claim.UID)()
	kept, err := k.load(ctx, claim.UID, client.ObjectKeyFromObject(claim))
	defer kept.clear()
	if errors.Is(err, errRecord) {
		return providers.Document{}, v1alpha1.Lease{}, nil // another is issued
	}
	if err != nil {
		return providers.Document{}, v1alpha1.Lease{}, err
	}
	one := kept.newest(placeOf(store, as, ref))
	if one == nil || k.due(kept, one) {
		return providers.Document{}, v1alpha1.Lease{}, nil
	}
	return one.document(), k.status(kept, one), nil
}

// due says that another is to be issued in a loan's place.
func (k *Keeper) due(r *record, one *loan) bool {
	return Next(k.facts(r, one, Fresh, false)).Do == Reissue
}

// Take is what is lent to a claim at a path: what it has, or else another, issued
// now. Errors are those of a providers.Leaser.
func (k *Keeper) Take(ctx context.Context, claim *v1alpha1.SecretClaim, store v1alpha1.Store, as providers.Identity, ref providers.Ref) (providers.Document, v1alpha1.Lease, error) {
	defer k.lock(claim.UID)()
	kept, err := k.load(ctx, claim.UID, client.ObjectKeyFromObject(claim))
	defer kept.clear()
	if errors.Is(err, errRecord) {
		k.config.Events.Eventf(claim, nil, corev1.EventTypeWarning, "LeaseRecordLost", "Lease",
			"Secret %s/%s cannot be opened, so what it holds can neither be used nor be given back: it ends by itself, and another is issued",
			k.config.Namespace, recordName(claim.UID))
		err = nil
	}
	if err != nil {
		return providers.Document{}, v1alpha1.Lease{}, err
	}
	at := placeOf(store, as, ref)
	one := kept.newest(at)
	if one == nil || k.due(kept, one) {
		if one, err = k.issue(ctx, claim, kept, at, store, ref); err != nil {
			return providers.Document{}, v1alpha1.Lease{}, err
		}
	}
	return one.document(), k.status(kept, one), nil
}

// issue has another lent. Its token is in the record before anything is made, so
// whoever finds it there knows of all that there may be.
func (k *Keeper) issue(ctx context.Context, claim *v1alpha1.SecretClaim, kept *record, at place, store v1alpha1.Store, ref providers.Ref) (*loan, error) {
	if err := k.revokePending(ctx, kept, at, store); err != nil {
		return nil, err
	}
	next := &loan{Place: at, Target: claim.TargetName().Name, Issued: kept.issuedNow(k.config.Clock.Now())}
	k.remember(kept)
	lease, err := k.config.Store.Issue(ctx, store, at.identity(), ref, func(ctx context.Context, token providers.Value) error {
		next.Token = append([]byte(nil), token.Bytes()...)
		kept.loans = append(kept.loans, next)
		return k.save(ctx, kept)
	})
	if err != nil {
		return nil, err
	}
	defer lease.Clear()
	began := k.config.Clock.Now()
	if lease.Max > 0 && lease.Max < shortest {
		return nil, errors.Join(fmt.Errorf("%w: what is lent there ends after %s, however often it is renewed, and less than %s is too short to bring it to pods: raise max_ttl of the role, and of the login",
			providers.ErrInvalid, lease.Max, shortest), k.config.Store.Revoke(ctx, store, at.identity(), lease.Token))
	}
	next.fill(lease)
	if former := kept.newest(at); former != nil && former != next {
		former.forgetValues()
	}
	if err := k.save(ctx, kept); err != nil {
		// Nobody else knows of it but by its token, which is revoked in any case.
		return nil, errors.Join(err, k.config.Store.Revoke(ctx, store, at.identity(), lease.Token))
	}
	k.note(kept, next, func(m *memory) { m.renewed, m.expires, m.inUse = began, began.Add(lease.Life), true })
	k.metrics.issued.Inc()
	log.FromContext(ctx).Info("A lease was issued", "claim", kept.claim, "source", at.Path)
	k.wake(kept.claim)
	return next, nil
}

// revokePending revokes the tokens of which it is not known what they own. They
// stay in the record until it is written with the next one in their place.
func (k *Keeper) revokePending(ctx context.Context, kept *record, at place, store v1alpha1.Store) error {
	for _, one := range kept.loans {
		if one.Place != at || !one.pending() {
			continue
		}
		if err := k.config.Store.Revoke(ctx, store, at.identity(), one.token()); err != nil {
			return fmt.Errorf("ending what was begun before: %w", err)
		}
	}
	kept.dropPending(at)
	return nil
}

func (r *record) dropPending(at place) {
	for i := 0; i < len(r.loans); i++ {
		if one := r.loans[i]; one.Place == at && one.pending() {
			r.drop(one)
			i--
		}
	}
}

// fill a pending loan with what was made.
func (l *loan) fill(lease providers.Lease) {
	l.ID, l.Life, l.Renewable = lease.ID, lease.Life, lease.Renewable
	if lease.Max > 0 {
		l.Max = l.Issued.Add(lease.Max).Truncate(time.Second)
	}
	l.Values = make(map[string][]byte, len(lease.Document.Values))
	for key, value := range lease.Document.Values {
		l.Values[key] = append([]byte(nil), value.Bytes()...)
	}
}

// status is what a claim tells of a loan. One before it that is gone has ended when
// that was known, which is when this one was issued at the latest.
func (k *Keeper) status(r *record, of *loan) v1alpha1.Lease {
	status := v1alpha1.Lease{Source: of.Place.Path, IssuedAt: metav1.NewTime(of.Issued)}
	if !of.Max.IsZero() {
		status.MaxExpiry = &metav1.Time{Time: of.Max}
	}
	for _, one := range r.loans {
		if one == of || one.pending() || one.Place.Path != of.Place.Path || !one.Issued.Before(of.Issued) {
			continue
		}
		ends := one.Max
		if k.facts(r, one, Old, true).Gone {
			ends = of.Issued
		}
		if !ends.IsZero() && (status.PreviousExpiry == nil || ends.Before(status.PreviousExpiry.Time)) {
			status.PreviousExpiry = &metav1.Time{Time: ends}
		}
	}
	return status
}

// facts about a loan.
func (k *Keeper) facts(r *record, of *loan, standing Standing, held bool) Facts {
	k.mu.Lock()
	defer k.mu.Unlock()
	facts := Facts{
		Now: k.config.Clock.Now(), Standing: standing, Held: held,
		Issued: of.Issued, Max: of.Max, Life: of.Life, Renewable: of.Renewable, Phase: phaseOf(r.of, of.Place.Path),
	}
	if known := k.memory[r.key(of)]; known != nil {
		facts.Renewed, facts.Expires, facts.Failed, facts.Gone = known.renewed, known.expires, known.failed, known.gone
	}
	return facts
}

func (r *record) key(of *loan) key { return key{r.of, of.Place, of.Issued.Unix()} }

// note changes what is remembered of a loan.
func (k *Keeper) note(r *record, of *loan, change func(*memory)) memory {
	k.mu.Lock()
	defer k.mu.Unlock()
	id := r.key(of)
	if k.memory[id] == nil {
		k.memory[id] = &memory{claim: r.claim}
	}
	k.memory[id].issued, k.memory[id].max, k.memory[id].life = of.Issued, of.Max, of.Life
	change(k.memory[id])
	return *k.memory[id]
}

// remember that there is, or may be, a record.
func (k *Keeper) remember(r *record) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.known[r.claim] == nil {
		k.known[r.claim] = map[types.UID]bool{}
	}
	k.known[r.claim][r.of] = true
}

// settle forgets loans that are in a record no more, and the record if it is empty.
func (k *Keeper) settle(r *record) {
	k.mu.Lock()
	defer k.mu.Unlock()
	left := map[key]bool{}
	for _, one := range r.loans {
		left[r.key(one)] = true
	}
	for id := range k.memory {
		if id.of == r.of && !left[id] {
			delete(k.memory, id)
		}
	}
	if len(r.loans) > 0 {
		return
	}
	delete(k.known[r.claim], r.of)
	if len(k.known[r.claim]) == 0 {
		delete(k.known, r.claim)
	}
}

// lock a record; the function that it returns unlocks it.
func (k *Keeper) lock(of types.UID) func() {
	k.mu.Lock()
	one := k.locks[of]
	if one == nil {
		one = &sync.Mutex{}
		k.locks[of] = one
	}
	k.mu.Unlock()
	one.Lock()
	return one.Unlock
}

// wake has a claim's records looked at. One that is not taken now is looked at
// before long: each look says when the next is.
func (k *Keeper) wake(claim types.NamespacedName) {
	select {
	case k.wakes <- event.TypedGenericEvent[types.NamespacedName]{Object: claim}:
	default:
	}
}

// Told is what a claim's leases give it to tell: the condition that one nears its
// end, empty where none does, and what the last renewals ended with. It is not known
// before each was looked at.
func (k *Keeper) Told(claim types.NamespacedName) (expiring metav1.Condition, known bool, failure error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	unknown := false
	for _, one := range k.memory {
		if one.claim != claim || !one.inUse {
			continue
		}
		looked := one.gone || !one.renewed.IsZero() || !one.failed.IsZero()
		known, unknown = true, unknown || !looked
		failure = errors.Join(failure, one.failure)
		if one.condition.Message != "" && (expiring.Message == "" || one.condition.Message < expiring.Message) {
			expiring = one.condition
		}
	}
	return expiring, known && !unknown, failure
}
