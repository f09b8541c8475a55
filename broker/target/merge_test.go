package target_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/privyseal/privyseal/broker/target"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// newMergeBench is a bench whose claim merges, without the Secret that it
// merges into.
func newMergeBench(t *testing.T) *bench {
	b := newBench(t)
	b.merge = true
	return b
}

// theirs makes the Secret that somebody else owns.
func (b *bench) theirs(kind corev1.SecretType, pairs ...string) {
	b.Helper()
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: b.namespace, Name: "db",
			Labels: map[string]string{"team": "pay"}, Annotations: map[string]string{"note": "theirs"},
		},
		Type: kind, StringData: map[string]string{},
	}
	for i := 0; i < len(pairs); i += 2 {
		secret.StringData[pairs[i]] = pairs[i+1]
	}
	if err := b.client.Create(b.Context(), secret, client.FieldOwner("helm")); err != nil {
		b.Fatal(err)
	}
}

// holds expects the Secret's data.
func (b *bench) holds(pairs ...string) {
	b.Helper()
	want := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		want[pairs[i]] = pairs[i+1]
	}
	got := map[string]string{}
	for key, value := range b.secret().Data {
		got[key] = string(value)
	}
	if !maps.Equal(got, want) {
		b.Errorf("the Secret holds %v, want %v", got, want)
	}
}

// as writes over a key as another manager.
func (b *bench) as(manager, key, value string) {
	b.Helper()
	secret := b.secret()
	secret.Data[key] = []byte(value)
	if err := b.client.Update(b.Context(), secret, client.FieldOwner(manager)); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) conflict(desired target.Desired, mentions ...string) {
	b.Helper()
	version := b.secret().ResourceVersion
	_, err := b.writer.Apply(b.Context(), desired)
	if !errors.Is(err, target.ErrConflict) {
		b.Fatalf("got %v, want ErrConflict", err)
	}
	for _, mention := range mentions {
		if !strings.Contains(err.Error(), mention) {
			b.Errorf("%q does not mention %q", err, mention)
		}
	}
	if b.secret().ResourceVersion != version {
		b.Error("the Secret was written all the same")
	}
}

func TestTheLifeOfAMergedTarget(t *testing.T) {
	b := newMergeBench(t)
	// Without the Secret nothing is made.
	b.refused(b.desired(values("password", "one")), target.ErrMissing)
	if err := b.client.Get(t.Context(), client.ObjectKey{Namespace: b.namespace, Name: "db"}, &corev1.Secret{}); err == nil {
		t.Fatal("a Secret was made")
	}

	// With it, the claim's keys are put beside those that are there.
	b.theirs("", "host", "db.pay")
	if changed := b.apply(values("password", "one", "user", "pay"), target.Updated, 0).Changed; !slices.Equal(changed, []string{"password", "user"}) {
		t.Errorf("changed %v", changed)
	}
	b.holds("host", "db.pay", "password", "one", "user", "pay")
	secret := b.secret()
	if secret.Labels["team"] != "pay" || secret.Annotations["note"] != "theirs" || len(secret.OwnerReferences) != 0 {
		t.Errorf("what is theirs was touched: %v %v %v", secret.Labels, secret.Annotations, secret.OwnerReferences)
	}
	if target.ClaimUID(secret) != "uid-1" || secret.Labels[v1alpha1.LabelClaimUID] != "" {
		t.Errorf("marked with %v", secret.Labels)
	}
	if history := secret.Annotations[v1alpha1.AnnotationRevisions]; strings.Contains(history, "host") {
		t.Errorf("the history speaks of a key of theirs: %s", history)
	}
	b.apply(values("password", "one", "user", "pay"), target.Unchanged, 0)

	// A change moves the sequence; a key that the claim gives no longer goes.
	b.second(2000)
	b.apply(values("password", "two"), target.Updated, 2000)
	b.holds("host", "db.pay", "password", "two")

	// What its owner changes is no change of the claim's.
	b.second(3000)
	b.as("helm", "host", "db2.pay")
	b.apply(values("password", "two"), target.Unchanged, 2000)

	// A key that somebody removed is put back, and counts as no change.
	b.edit(func(s *corev1.Secret) { delete(s.Data, "password") })
	b.apply(values("password", "two"), target.Healed, 2000)
	b.holds("host", "db2.pay", "password", "two")

	// Made anew by its owner: the same keys come back and restart nobody, and
	// others are later than all that pods know.
	again := func() {
		t.Helper()
		if err := b.client.Delete(t.Context(), b.secret()); err != nil {
			t.Fatal(err)
		}
		b.theirs("", "host", "db3.pay")
	}
	again()
	b.apply(values("password", "two"), target.Healed, 0)
	b.last.Sequence = 3000
	again()
	b.apply(values("password", "three"), target.Updated, 3001)
	b.holds("host", "db3.pay", "password", "three")
}

func TestAMergedTargetThatIsUnchangedCostsNoRequest(t *testing.T) {
	b := newMergeBench(t)
	b.theirs("", "host", "db.pay")
	b.apply(values("password", "one"), target.Updated, 0)

	requests := 0
	counted := interceptor.NewClient(b.client, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
			requests++
			return c.Get(ctx, key, object, options...)
		},
		Apply: func(ctx context.Context, c client.WithWatch, config runtime.ApplyConfiguration, options ...client.ApplyOption) error {
			requests++
			return c.Apply(ctx, config, options...)
		},
	})
	b.writer = target.NewWriter(target.Config{
		Metadata: b.client, Live: counted, Writer: counted, Keys: b.keys, Clock: b.clock, DaemonNamespace: b.system,
	})
	b.apply(values("password", "one"), target.Unchanged, 0)
	if requests != 0 {
		t.Errorf("%d requests for nothing", requests)
	}
	b.second(2000)
	b.apply(values("password", "two"), target.Updated, 2000)
	if requests != 2 {
		t.Errorf("%d requests for a change, want a look and an apply", requests)
	}
}

func TestAKeyOfSomebodyElseIsAConflict(t *testing.T) {
	b := newMergeBench(t)
	b.theirs("", "host", "db.pay", "password", "theirs")
	// It is theirs from the start,
	b.conflict(b.desired(values("password", "ours")), "key password", `"helm"`)
	b.holds("host", "db.pay", "password", "theirs")
	// and another key is not.
	b.apply(values("token", "one"), target.Updated, 0)
	// A key that somebody wrote over is theirs from then on.
	b.as("kubectl-edit", "token", "edited")
	b.conflict(b.desired(values("token", "one")), "key token", `"kubectl-edit"`)
	b.conflict(b.desired(values("token", "two")), "key token", `"kubectl-edit"`)
	b.holds("host", "db.pay", "password", "theirs", "token", "edited")
	// Removed, it is the claim's again.
	b.edit(func(s *corev1.Secret) { delete(s.Data, "token") })
	b.second(2000)
	b.apply(values("token", "two"), target.Updated, 2000)
	b.holds("host", "db.pay", "password", "theirs", "token", "two")
}

func TestOneClaimMergesIntoASecret(t *testing.T) {
	b := newMergeBench(t)
	b.theirs("", "host", "db.pay")
	b.apply(values("password", "one"), target.Updated, 0)

	first, last := b.owner, b.last
	b.owner, b.last = target.Owner{Name: "other", UID: "uid-2"}, nil
	b.conflict(b.desired(values("token", "x")), "claim db", v1alpha1.LabelMergedBy)
	// Nor does a claim that would have the Secret for itself get it.
	b.merge = false
	b.refused(b.desired(values("token", "x")), target.ErrNotOurs)
	b.owner = first
	b.refused(b.desired(values("token", "x")), target.ErrNotOurs)

	// And nobody merges into a claim's own Secret.
	if err := b.client.Delete(t.Context(), b.secret()); err != nil {
		t.Fatal(err)
	}
	b.apply(values("password", "one"), target.Created, 0)
	b.merge = true
	b.conflict(b.desired(values("token", "x")), "own Secret of claim db")
	b.last = last
	b.owner = target.Owner{Name: "other", UID: "uid-2"}
	b.conflict(b.desired(values("token", "x")), "own Secret of claim db")
}

func TestAClaimMadeAgainTakesUpTheKeysThatItMerged(t *testing.T) {
	b := newMergeBench(t)
	b.theirs("", "host", "db.pay")
	b.apply(values("password", "one", "user", "pay"), target.Updated, 0)
	b.owner, b.last = target.Owner{Name: "db", UID: "uid-2"}, nil
	b.apply(values("password", "one", "user", "pay"), target.Healed, 0)
	b.apply(values("password", "one", "user", "pay"), target.Unchanged, 0)
	// Made again, and asking for something else at once.
	b.owner, b.last = target.Owner{Name: "db", UID: "uid-3"}, nil
	b.second(2000)
	b.apply(values("password", "two"), target.Updated, 2000)
	b.holds("host", "db.pay", "password", "two")
	for _, entry := range b.secret().ManagedFields {
		if strings.HasPrefix(entry.Manager, "privyseal-") && entry.Manager != "privyseal-uid-3" {
			t.Errorf("%s still manages something", entry.Manager)
		}
	}
}

func TestWhatIsNotMergedInto(t *testing.T) {
	b := newMergeBench(t)
	immutable := true
	for _, row := range []struct {
		name   string
		secret corev1.Secret
		kind   corev1.SecretType
		fact   error
	}{
		{"a bootstrap token", corev1.Secret{Type: "bootstrap.kubernetes.io/token"}, "", target.ErrRefused},
		{"a release of Helm", corev1.Secret{Type: "helm.sh/release.v1"}, "", target.ErrRefused},
		{"a Secret of another type than the claim says", corev1.Secret{Type: "theirs"}, "Opaque", target.ErrRefused},
		{"an immutable Secret", corev1.Secret{Immutable: &immutable}, "", target.ErrRefused},
		{"a Secret that is nearly full", corev1.Secret{Data: map[string][]byte{"x": make([]byte, 1<<20-1)}}, "", target.ErrTooLarge},
	} {
		row.secret.Namespace, row.secret.GenerateName = b.namespace, "theirs-"
		if err := b.client.Create(t.Context(), &row.secret); err != nil {
			t.Fatal(err)
		}
		desired := b.desired(values("password", "one"))
		desired.Name, desired.Type = row.secret.Name, row.kind
		if _, err := b.writer.Apply(t.Context(), desired); !errors.Is(err, row.fact) {
			t.Errorf("%s: got %v, want %v", row.name, err, row.fact)
		}
	}
	// Any other type is as good as the claim's silence about it.
	b.theirs("theirs.example/kind", "host", "db.pay")
	b.apply(values("password", "one"), target.Updated, 0)
	if kind := b.secret().Type; kind != "theirs.example/kind" {
		t.Errorf("it has type %s now", kind)
	}
	// In the cluster's and the daemon's own namespaces nothing is.
	for _, namespace := range []string{b.system, "kube-system"} {
		desired := b.desired(values("a", "b"))
		desired.Namespace = namespace
		b.refused(desired, target.ErrRefused)
	}
}

func TestASecretThatGoesWhileItIsMergedIntoIsNotMade(t *testing.T) {
	b := newMergeBench(t)
	b.theirs("", "host", "db.pay")
	gone := interceptor.NewClient(b.client, interceptor.Funcs{
		Apply: func(ctx context.Context, c client.WithWatch, config runtime.ApplyConfiguration, options ...client.ApplyOption) error {
			if err := c.Delete(ctx, b.secret()); err != nil {
				return err
			}
			return c.Apply(ctx, config, options...)
		},
	})
	b.writer = target.NewWriter(target.Config{
		Metadata: b.client, Live: b.client, Writer: gone, Keys: b.keys, Clock: b.clock, DaemonNamespace: b.system,
	})
	if _, err := b.writer.Apply(t.Context(), b.desired(values("password", "one"))); err == nil || errors.Is(err, target.ErrConflict) {
		t.Errorf("got %v, want the API server's refusal", err)
	}
	left := &corev1.SecretList{}
	if err := b.client.List(t.Context(), left, client.InNamespace(b.namespace)); err != nil || len(left.Items) != 0 {
		t.Errorf("%d Secrets are there (%v)", len(left.Items), err)
	}
}

func TestMetadataComesAndGoesWithTheClaim(t *testing.T) {
	b := newBench(t)
	b.metadata = target.Metadata{Labels: map[string]string{"team": "pay", "tier": "1"}, Annotations: map[string]string{"note": "ours"}}
	b.apply(values("password", "one"), target.Created, 0)
	expect := func(labels, annotations map[string]string) {
		t.Helper()
		secret := b.secret()
		for _, ours := range []map[string]string{secret.Labels, secret.Annotations} {
			maps.DeleteFunc(ours, func(key, _ string) bool { return strings.HasPrefix(key, v1alpha1.Group+"/") })
		}
		if !maps.Equal(secret.Labels, labels) || !maps.Equal(secret.Annotations, annotations) {
			t.Errorf("labels %v, annotations %v; want %v and %v", secret.Labels, secret.Annotations, labels, annotations)
		}
	}
	type pairs = map[string]string
	expect(pairs{"team": "pay", "tier": "1"}, pairs{"note": "ours"})
	b.apply(values("password", "one"), target.Unchanged, 0)

	// Others' stay beside the claim's, and what the claim changes or gives no
	// longer moves no sequence.
	b.second(2000)
	b.edit(func(s *corev1.Secret) {
		metav1.SetMetaDataLabel(&s.ObjectMeta, "theirs", "x")
		metav1.SetMetaDataAnnotation(&s.ObjectMeta, "theirs", "x")
	})
	history := b.secret().Annotations[v1alpha1.AnnotationRevisions]
	b.metadata = target.Metadata{Labels: pairs{"team": "shop"}}
	b.apply(values("password", "one"), target.Relabelled, 0)
	expect(pairs{"team": "shop", "theirs": "x"}, pairs{"theirs": "x"})
	b.apply(values("password", "one"), target.Unchanged, 0)
	if now := b.secret().Annotations[v1alpha1.AnnotationRevisions]; now != history {
		t.Errorf("the history moved from %s to %s", history, now)
	}

	// Edited by somebody, they are put back.
	b.edit(func(s *corev1.Secret) { s.Labels["team"] = "other" })
	b.apply(values("password", "one"), target.Healed, 0)
	expect(pairs{"team": "shop", "theirs": "x"}, pairs{"theirs": "x"})

	// A claim may give none.
	b.metadata = target.Metadata{}
	b.apply(values("password", "one"), target.Relabelled, 0)
	expect(pairs{"theirs": "x"}, pairs{"theirs": "x"})
	if _, left := b.secret().Annotations[v1alpha1.AnnotationMetadata]; left {
		t.Error("the record of what was set is still there")
	}

	// With a change of content, both go in one write.
	b.metadata = target.Metadata{Labels: pairs{"team": "pay"}}
	b.apply(values("password", "two"), target.Updated, 2000)
	expect(pairs{"team": "pay", "theirs": "x"}, pairs{"theirs": "x"})
	// An immutable Secret can still be labelled.
	b.edit(func(s *corev1.Secret) { immutable := true; s.Immutable = &immutable })
	b.metadata = target.Metadata{Labels: pairs{"team": "shop"}}
	b.apply(values("password", "two"), target.Relabelled, 2000)
}
