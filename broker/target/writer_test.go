package target_test

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/installkey"
	"github.com/privyseal/privyseal/broker/target"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
)

// bench is a Writer on a real API server, without a cache: what the writer
// asks of its cache, it asks of the server.
type bench struct {
	*testing.T
	client client.WithWatch

	system    string // the daemon's namespace
	namespace string // the target's

	keys   *installkey.Keeper
	clock  *clocktesting.FakePassiveClock
	writer *target.Writer
	owner  target.Owner
	last   *target.Applied

	merge    bool
	metadata target.Metadata
}

func newBench(t *testing.T) *bench {
	access := apiServer.Access(t)
	api, err := client.NewWithWatch(access, client.Options{Scheme: brokertest.Client(t, access).Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	own := strings.ToLower(rand.Text()[:8])
	system, namespace := "system-"+own, "pay-"+own
	for _, name := range []string{system, namespace} {
		if err := api.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
			t.Fatal(err)
		}
	}
	b := &bench{
		T: t, client: api, system: system, namespace: namespace,
		clock: clocktesting.NewFakePassiveClock(time.Unix(1000, 0)),
		owner: target.Owner{Name: "db", UID: "uid-1", Retain: true},
	}
	b.startAgain()
	return b
}

// startAgain is what a daemon that starts does: it reads the install key.
func (b *bench) startAgain() {
	b.keys = installkey.NewKeeper(installkey.Config{Reader: b.client, Writer: b.client, Namespace: b.system})
	b.writer = target.NewWriter(target.Config{
		Metadata: b.client, Live: b.client, Writer: b.client, Keys: b.keys, Clock: b.clock, DaemonNamespace: b.system,
	})
}

func values(pairs ...string) map[string]providers.Value {
	made := map[string]providers.Value{}
	for i := 0; i < len(pairs); i += 2 {
		made[pairs[i]] = providers.NewValue([]byte(pairs[i+1]))
	}
	return made
}

func (b *bench) desired(data map[string]providers.Value) target.Desired {
	desired := target.Desired{Namespace: b.namespace, Name: "db", Owner: b.owner, Merge: b.merge, Data: data, Metadata: b.metadata}
	if b.last != nil {
		desired.Last, desired.LastSequence = &b.last.Status, b.last.Sequence
	}
	return desired
}

// apply expects an outcome and a sequence.
func (b *bench) apply(data map[string]providers.Value, outcome target.Outcome, sequence int64) target.Applied {
	b.Helper()
	applied, err := b.writer.Apply(b.Context(), b.desired(data))
	if err != nil {
		b.Fatal(err)
	}
	if applied.Outcome != outcome || applied.Sequence != sequence {
		b.Fatalf("%s with sequence %d, want %s with %d", applied.Outcome, applied.Sequence, outcome, sequence)
	}
	b.last = &applied
	return applied
}

func (b *bench) refused(desired target.Desired, fact error) {
	b.Helper()
	if _, err := b.writer.Apply(b.Context(), desired); !errors.Is(err, fact) {
		b.Errorf("got %v, want %v", err, fact)
	}
}

func (b *bench) secret() *corev1.Secret {
	b.Helper()
	secret := &corev1.Secret{}
	if err := b.client.Get(b.Context(), client.ObjectKey{Namespace: b.namespace, Name: "db"}, secret); err != nil {
		b.Fatal(err)
	}
	return secret
}

func (b *bench) edit(change func(*corev1.Secret)) {
	b.Helper()
	secret := b.secret()
	change(secret)
	if err := b.client.Update(b.Context(), secret); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) second(now int64) { b.clock.SetTime(time.Unix(now, 0)) }

func TestTheLifeOfATarget(t *testing.T) {
	b := newBench(t)
	// Its first content has sequence 0, and is written once.
	b.apply(values("password", "one", "user", "pay"), target.Created, 0)
	b.apply(values("password", "one", "user", "pay"), target.Unchanged, 0)

	// A change moves the sequence to the second it came in.
	b.second(2000)
	if changed := b.apply(values("password", "two", "user", "pay"), target.Updated, 2000).Changed; len(changed) != 1 || changed[0] != "password" {
		t.Errorf("changed %v, want password alone", changed)
	}
	if got := string(b.secret().Data["password"]); got != "two" {
		t.Errorf("password is %q", got)
	}

	// An edit by hand is healed, and counts as no change.
	b.second(3000)
	b.edit(func(s *corev1.Secret) { s.Data["password"] = []byte("edited"); s.Data["extra"] = []byte("x") })
	b.apply(values("password", "two", "user", "pay"), target.Healed, 2000)
	if data := b.secret().Data; string(data["password"]) != "two" || len(data) != 2 {
		t.Errorf("healed to %d keys", len(data))
	}

	// Labels and annotations of others stay.
	b.edit(func(s *corev1.Secret) { metav1.SetMetaDataAnnotation(&s.ObjectMeta, "team", "pay") })
	b.apply(values("password", "two", "user", "pay"), target.Unchanged, 2000)
	b.apply(values("password", "three"), target.Updated, 3000)
	if b.secret().Annotations["team"] != "pay" {
		t.Error("an annotation of somebody else is gone")
	}

	// Deleted by hand, it comes back; the same content restarts nobody, and
	// another one is later than all that pods know.
	if err := b.client.Delete(t.Context(), b.secret()); err != nil {
		t.Fatal(err)
	}
	b.apply(values("password", "three"), target.Created, 0)
	b.last.Sequence = 3000 // as the status would have it, had the content changed since
	if err := b.client.Delete(t.Context(), b.secret()); err != nil {
		t.Fatal(err)
	}
	b.apply(values("password", "four"), target.Created, 3001)
}

func TestAnInstallKeyComesAndGoesUnseen(t *testing.T) {
	b := newBench(t)
	b.apply(values("password", "one"), target.Created, 0)
	b.second(2000)
	b.apply(values("password", "two"), target.Updated, 2000)

	key := &corev1.Secret{}
	name := client.ObjectKey{Namespace: b.system, Name: installkey.SecretName}
	if err := b.client.Get(t.Context(), name, key); err != nil {
		t.Fatal(err)
	}
	// A second key: nothing is written for it, and the next change uses it.
	key.Data["k2"] = []byte(strings.Repeat("x", 32))
	if err := b.client.Update(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	b.startAgain()
	b.apply(values("password", "two"), target.Unchanged, 2000)
	b.second(3000)
	b.apply(values("password", "three"), target.Updated, 3000)
	if text := b.secret().Annotations[v1alpha1.AnnotationRevisions]; !strings.Contains(text, `"kid":"k2-`) {
		t.Errorf("the next change is not under the new key: %s", text)
	}

	// The keys are lost: the target is digested anew, and nothing changed.
	if err := b.client.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	b.startAgain()
	b.second(4000)
	b.apply(values("password", "three"), target.Rekeyed, 3000)
	b.apply(values("password", "three"), target.Unchanged, 3000)
	// And a change is still a change.
	b.apply(values("password", "four"), target.Updated, 4000)

	// Lost again: the key that is made now has the name of the one before.
	if err := b.client.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	b.startAgain()
	b.second(5000)
	b.apply(values("password", "four"), target.Rekeyed, 4000)
	b.apply(values("password", "five"), target.Updated, 5000)
}

// Who deletes a claim deletes its Secret, and the second may be heard of first.
func TestASecretThatIsGoneIsMadeAgainOnlyForAClaimThatLives(t *testing.T) {
	b := newBench(t)
	asked, lives := 0, false
	desired := func() target.Desired {
		wanted := b.desired(values("password", "a"))
		wanted.Lives = func(context.Context) (bool, error) { asked++; return lives, nil }
		return wanted
	}
	applied := b.apply(values("password", "a"), target.Created, 0)
	if err := b.client.Delete(t.Context(), b.secret()); err != nil {
		t.Fatal(err)
	}
	b.refused(desired(), target.ErrGone)
	if err := b.client.Get(t.Context(), client.ObjectKey{Namespace: b.namespace, Name: "db"}, &corev1.Secret{}); !apierrors.IsNotFound(err) {
		t.Fatal("it was made again for nobody:", err)
	}
	lives = true
	var err error
	if applied, err = b.writer.Apply(t.Context(), desired()); err != nil || applied.Outcome != target.Created || asked != 2 {
		t.Errorf("the second is %s, %v, after %d questions", applied.Outcome, err, asked)
	}
}

func TestWhatIsRefused(t *testing.T) {
	b := newBench(t)
	foreign := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: "db"},
		Data:       map[string][]byte{"password": []byte("theirs")},
	}
	if err := b.client.Create(t.Context(), foreign); err != nil {
		t.Fatal(err)
	}
	b.refused(b.desired(values("password", "ours")), target.ErrNotOurs)
	if got := b.secret(); got.ResourceVersion != foreign.ResourceVersion {
		t.Error("a stranger's Secret was written")
	}

	for _, namespace := range []string{b.system, "kube-system", "kube-node-lease"} {
		desired := b.desired(values("a", "b"))
		desired.Namespace = namespace
		b.refused(desired, target.ErrRefused)
	}
	for _, kind := range []corev1.SecretType{"kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token", "helm.sh/release.v1"} {
		desired := b.desired(values("a", "b"))
		desired.Type = kind
		b.refused(desired, target.ErrRefused)
	}
	b.refused(b.desired(values("not/a/key", "b")), target.ErrKeyInvalid)
	b.refused(b.desired(values("a", strings.Repeat("x", 1<<20+1))), target.ErrTooLarge)
}

func TestAnImmutableTargetIsLeftAloneUntilItIsDeleted(t *testing.T) {
	b := newBench(t)
	b.apply(values("password", "one"), target.Created, 0)
	b.edit(func(s *corev1.Secret) { immutable := true; s.Immutable = &immutable })
	b.apply(values("password", "one"), target.Unchanged, 0)
	b.refused(b.desired(values("password", "two")), target.ErrRefused)
	if got := string(b.secret().Data["password"]); got != "one" {
		t.Errorf("password is %q", got)
	}
	if err := b.client.Delete(t.Context(), b.secret()); err != nil {
		t.Fatal(err)
	}
	b.second(2000)
	b.apply(values("password", "two"), target.Created, 2000)
}

func TestAClaimMadeAgainTakesUpItsOwnSecret(t *testing.T) {
	b := newBench(t)
	b.apply(values("password", "one"), target.Created, 0)
	// Deleted with Retain and made again: another UID, and no status.
	b.owner, b.last = target.Owner{Name: "db", UID: "uid-2"}, nil
	applied := b.apply(values("password", "one"), target.Healed, 0)
	secret := b.secret()
	if string(secret.UID) != applied.Status.UID || secret.Labels[v1alpha1.LabelClaimUID] != "uid-2" || len(secret.OwnerReferences) != 1 {
		t.Errorf("not taken up: %v %v", secret.Labels, secret.OwnerReferences)
	}
	// A claim of another name does not.
	b.owner, b.last = target.Owner{Name: "other", UID: "uid-3"}, nil
	b.refused(b.desired(values("password", "one")), target.ErrNotOurs)
}
