package target_test

import (
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/privyseal/privyseal/broker/target"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// unsealed is what SealedSecret db says of its Secret.
func (b *bench) unsealed(data map[string]string, changes ...func(*target.Unsealed)) target.Unsealed {
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: "db"},
		Type:       corev1.SecretTypeOpaque, Data: map[string][]byte{},
	}
	for key, value := range data {
		secret.Data[key] = []byte(value)
	}
	made := target.Unsealed{Secret: secret, Owner: target.SealedOwner{Name: "db", UID: "uid-1"}}
	for _, change := range changes {
		change(&made)
	}
	return made
}

func (b *bench) unseal(wanted target.Unsealed, outcome target.Outcome) target.Applied {
	b.Helper()
	applied, err := b.writer.ApplyUnsealed(b.Context(), wanted)
	if err != nil {
		b.Fatal(err)
	}
	if applied.Outcome != outcome {
		b.Fatalf("%s, want %s", applied.Outcome, outcome)
	}
	return applied
}

func (b *bench) unsealRefused(wanted target.Unsealed, fact error) {
	b.Helper()
	if _, err := b.writer.ApplyUnsealed(b.Context(), wanted); !errors.Is(err, fact) {
		b.Errorf("got %v, want %v", err, fact)
	}
}

// left creates a Secret as upstream's controller, or somebody, left it.
func (b *bench) left(data map[string]string, change func(*corev1.Secret)) *corev1.Secret {
	b.Helper()
	secret := b.unsealed(data).Secret
	if change != nil {
		change(secret)
	}
	if err := b.client.Create(b.Context(), secret); err != nil {
		b.Fatal(err)
	}
	return secret
}

func bySealedSecret(secret *corev1.Secret) {
	controller := true
	secret.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: "bitnami.com/v1alpha1", Kind: "SealedSecret", Name: "db", UID: "uid-1", Controller: &controller,
	}}
}

func annotated(key string) func(*corev1.Secret) {
	return func(secret *corev1.Secret) { metav1.SetMetaDataAnnotation(&secret.ObjectMeta, key, "true") }
}

const domain = "sealedsecrets.bitnami.com/"

func TestTheLifeOfAnUnsealedSecret(t *testing.T) {
	b := newBench(t)
	b.unseal(b.unsealed(map[string]string{"password": "one"}), target.Created)
	secret := b.secret()
	owner := metav1.GetControllerOf(secret)
	if owner == nil || owner.Kind != "SealedSecret" || owner.UID != "uid-1" || owner.BlockOwnerDeletion != nil {
		t.Errorf("owned by %+v", owner)
	}
	if len(secret.Annotations) != 0 {
		t.Errorf("it has annotations %v, which the other controller would take off", secret.Annotations)
	}
	b.unseal(b.unsealed(map[string]string{"password": "one"}), target.Unchanged)

	b.second(2000)
	if applied := b.unseal(b.unsealed(map[string]string{"password": "two"}), target.Updated); applied.Sequence != 2000 || len(applied.Changed) != 1 {
		t.Errorf("changed: %+v", applied)
	}
	// What somebody edits is put right, which is no change of the content.
	b.second(3000)
	b.edit(func(secret *corev1.Secret) {
		secret.Data["password"] = []byte("edited")
		secret.Data["more"] = []byte("x")
	})
	if applied := b.unseal(b.unsealed(map[string]string{"password": "two"}), target.Healed); applied.Sequence != 2000 || len(applied.Changed) != 0 {
		t.Errorf("healed: %+v", applied)
	}
	if got := b.secret().Data; len(got) != 1 || string(got["password"]) != "two" {
		t.Errorf("holds %q", got)
	}
}

func TestWhatUpstreamLeftIsNotWritten(t *testing.T) {
	b := newBench(t)
	left := b.left(map[string]string{"password": "one"}, func(secret *corev1.Secret) {
		bySealedSecret(secret)
		secret.Labels = map[string]string{"app": "pay"}
	})
	withLabel := func(u *target.Unsealed) { u.Secret.Labels = map[string]string{"app": "pay"} }
	b.unseal(b.unsealed(map[string]string{"password": "one"}, withLabel), target.Unchanged)
	if got := b.secret(); got.ResourceVersion != left.ResourceVersion {
		t.Error("it was written")
	}
	// Its first change is counted from what it held.
	b.second(2000)
	b.unseal(b.unsealed(map[string]string{"password": "two"}, withLabel), target.Updated)
	revisions, err := target.ParseRevisions(b.secret().Annotations[v1alpha1.AnnotationRevisions])
	if err != nil || len(revisions.Keys["password"]) != 2 || revisions.Sequence() != 2000 {
		t.Errorf("the history is %+v, %v", revisions, err)
	}
}

func TestWhoseASecretIs(t *testing.T) {
	for name, row := range map[string]struct {
		left   func(*corev1.Secret)
		refuse bool
	}{
		"nobody's":               {nil, true},
		"another controller's":   {func(s *corev1.Secret) { bySealedSecret(s); s.OwnerReferences[0].Kind = "Certificate" }, true},
		"another SealedSecret's": {func(s *corev1.Secret) { bySealedSecret(s); s.OwnerReferences[0].Name = "other" }, true},
		"a claim's, even if marked": {func(s *corev1.Secret) {
			annotated(domain + "managed")(s)
			s.Labels = map[string]string{v1alpha1.LabelClaimUID: "x"}
		}, true},
		"marked as managed":   {annotated(domain + "managed"), false},
		"of one of that name": {func(s *corev1.Secret) { bySealedSecret(s); s.OwnerReferences[0].UID = "gone" }, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			left := b.left(map[string]string{"password": "theirs", "more": "x"}, row.left)
			wanted := b.unsealed(map[string]string{"password": "ours"})
			if row.refuse {
				b.unsealRefused(wanted, target.ErrNotOurs)
				if b.secret().ResourceVersion != left.ResourceVersion {
					t.Error("it was written")
				}
				return
			}
			b.unseal(wanted, target.Updated)
			secret := b.secret()
			if owner := metav1.GetControllerOf(secret); owner == nil || owner.UID != "uid-1" || len(secret.Data) != 1 {
				t.Errorf("it is %+v", secret)
			}
		})
	}
}

func TestASecretToBePatchedKeepsWhatItHas(t *testing.T) {
	b := newBench(t)
	b.left(map[string]string{"password": "theirs", "more": "x"}, annotated(domain+"patch"))
	wanted := b.unsealed(map[string]string{"password": "ours"})
	b.unseal(wanted, target.Updated)
	secret := b.secret()
	if string(secret.Data["password"]) != "ours" || string(secret.Data["more"]) != "x" || len(secret.OwnerReferences) != 0 {
		t.Errorf("it is %+v", secret)
	}
	b.unseal(wanted, target.Unchanged)
	b.edit(annotated(domain + "managed"))
	b.unseal(wanted, target.Relabelled)
	if owner := metav1.GetControllerOf(b.secret()); owner == nil || owner.UID != "uid-1" {
		t.Errorf("managed as well, it is owned by %+v", owner)
	}
}

func TestASecretWithoutAnOwnerIsStillOurs(t *testing.T) {
	b := newBench(t)
	noOwner := func(u *target.Unsealed) {
		u.Secret.Annotations = map[string]string{domain + "skip-set-owner-references": "true"}
	}
	b.unseal(b.unsealed(map[string]string{"password": "one"}, noOwner), target.Created)
	b.unseal(b.unsealed(map[string]string{"password": "one"}, noOwner), target.Unchanged)
	b.unseal(b.unsealed(map[string]string{"password": "two"}, noOwner), target.Updated)
	if owners := b.secret().OwnerReferences; len(owners) != 0 {
		t.Errorf("owned by %v", owners)
	}
}

func TestWhatCannotBeChangedIsMadeAnew(t *testing.T) {
	b := newBench(t)
	b.unseal(b.unsealed(map[string]string{"password": "one"}), target.Created)
	first := b.secret().UID
	// The type of its own Secret: with its history.
	b.second(2000)
	basic := func(u *target.Unsealed) { u.Secret.Type = corev1.SecretTypeBasicAuth }
	b.unseal(b.unsealed(map[string]string{"password": "two"}, basic), target.Recreated)
	secret := b.secret()
	revisions, err := target.ParseRevisions(secret.Annotations[v1alpha1.AnnotationRevisions])
	if secret.UID == first || secret.Type != corev1.SecretTypeBasicAuth || err != nil || revisions.Sequence() != 2000 {
		t.Errorf("it is %+v, %v", secret, err)
	}
	// An immutable one: only if that is asked for.
	immutable := func(u *target.Unsealed) { basic(u); u.Secret.Immutable = new(true) }
	b.unseal(b.unsealed(map[string]string{"password": "two"}, immutable), target.Relabelled)
	b.unsealRefused(b.unsealed(map[string]string{"password": "three"}, immutable), target.ErrRefused)
	if got := string(b.secret().Data["password"]); got != "two" {
		t.Errorf("holds %q", got)
	}
	b.unseal(b.unsealed(map[string]string{"password": "three"}, immutable, func(u *target.Unsealed) { u.Recreate = true }), target.Recreated)
	if got := b.secret(); string(got.Data["password"]) != "three" || !*got.Immutable {
		t.Errorf("it is %+v", got)
	}
}

func TestWhatOthersPutOnAnUnsealedSecretStays(t *testing.T) {
	b := newBench(t)
	b.unseal(b.unsealed(map[string]string{"a": "1"}, func(u *target.Unsealed) {
		u.Secret.Labels = map[string]string{"app": "pay", "tier": "db"}
	}), target.Created)
	b.edit(func(secret *corev1.Secret) { secret.Labels["theirs"] = "x" })
	without := b.unsealed(map[string]string{"a": "1"}, func(u *target.Unsealed) { u.Secret.Labels = map[string]string{"app": "pay"} })
	b.unseal(without, target.Relabelled)
	if got := b.secret().Labels; got["theirs"] != "x" || got["app"] != "pay" || len(got) != 2 {
		t.Errorf("labels %v", got)
	}
	b.unseal(without, target.Unchanged)
}

func TestTextsThatRenderDifferentlyEachTimeStayAsTheyAre(t *testing.T) {
	b := newBench(t)
	volatile := func(u *target.Unsealed) { u.Volatile = []string{"random"} }
	b.unseal(b.unsealed(map[string]string{"a": "1", "random": "x"}, volatile), target.Created)
	b.unseal(b.unsealed(map[string]string{"a": "1", "random": "y"}, volatile), target.Unchanged)
	b.edit(func(secret *corev1.Secret) { secret.Data["a"] = []byte("edited") })
	known := func(u *target.Unsealed) { u.Known = true }
	b.unseal(b.unsealed(map[string]string{"a": "1", "random": "z"}, volatile, known), target.Healed)
	if got := b.secret().Data; string(got["random"]) != "x" || string(got["a"]) != "1" {
		t.Errorf("holds %q", got)
	}
	b.unseal(b.unsealed(map[string]string{"a": "2", "random": "new"}, volatile), target.Updated)
	if got := string(b.secret().Data["random"]); got != "new" {
		t.Errorf("with another content, random is %q", got)
	}
}

func TestPlacesAndTypesThatNoSealedSecretMayWrite(t *testing.T) {
	b := newBench(t)
	for _, namespace := range []string{b.system, "kube-system", "kube-node-lease"} {
		b.unsealRefused(b.unsealed(nil, func(u *target.Unsealed) { u.Secret.Namespace = namespace }), target.ErrRefused)
	}
	for _, kind := range []corev1.SecretType{corev1.SecretTypeServiceAccountToken, "bootstrap.kubernetes.io/token", "helm.sh/release.v1"} {
		b.unsealRefused(b.unsealed(nil, func(u *target.Unsealed) { u.Secret.Type = kind }), target.ErrRefused)
	}
	b.unsealRefused(b.unsealed(map[string]string{"not a key": "x"}), target.ErrKeyInvalid)
}

func TestCreateOnlyLeavesWhatIsThere(t *testing.T) {
	b := newBench(t)
	only := func(u *target.Unsealed) { u.CreateOnly = true }
	b.unseal(b.unsealed(map[string]string{"a": "1"}, only), target.Created)
	b.unseal(b.unsealed(map[string]string{"a": "2"}, only), target.Unchanged)
	if got := string(b.secret().Data["a"]); got != "1" {
		t.Errorf("holds %q", got)
	}
}
