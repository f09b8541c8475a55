package target_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/privyseal/privyseal/broker/target"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// stands makes the Secret as a sealed copy does while no claim can.
func (b *bench) stands(password, of string) {
	b.Helper()
	err := b.client.Create(b.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: "db", Labels: map[string]string{v1alpha1.LabelStandbyOf: of, "team": "pay"}},
		Data:       map[string][]byte{"password": []byte(password)},
	})
	if err != nil {
		b.Fatal(err)
	}
}

func TestAClaimAdoptsWhatItsSealedCopyMadeAndNoValueMoves(t *testing.T) {
	b := newBench(t)
	b.stands("one", "db")
	uid := b.secret().UID
	b.second(2000)
	applied := b.apply(values("password", "one"), target.Adopted, 0)
	secret := b.secret()
	if len(applied.Changed) != 0 || secret.UID != uid || secret.Labels[v1alpha1.LabelClaimUID] != "uid-1" || secret.Labels["team"] != "pay" {
		t.Errorf("changed %v; the Secret has %v", applied.Changed, secret.Labels)
	}
	if _, still := secret.Labels[v1alpha1.LabelStandbyOf]; still {
		t.Error("the Secret says still that it stands in")
	}
	revisions, err := target.ParseRevisions(secret.Annotations[v1alpha1.AnnotationRevisions])
	if err != nil || len(revisions.StaleKeys(0, func(string) bool { return true })) != 0 {
		t.Errorf("pods that were started with it are stale: %v %v", revisions, err)
	}
	b.apply(values("password", "one"), target.Unchanged, 0)
}

func TestAClaimWhoseStoreHoldsAnotherValueThanTheCopySaysWhichChanged(t *testing.T) {
	b := newBench(t)
	b.stands("one", "db")
	b.second(2000)
	if changed := b.apply(values("password", "two"), target.Updated, 2000).Changed; len(changed) != 1 {
		t.Errorf("changed %v", changed)
	}
}

// The Secret was deleted under running pods; its copy was older than what they
// hold, and the store holds what the copy does.
func TestAdoptingAnotherContentThanPodsKnowIsAChange(t *testing.T) {
	b := newBench(t)
	b.second(2000)
	b.apply(values("password", "two"), target.Created, 0)
	if err := b.client.Delete(t.Context(), b.secret()); err != nil {
		t.Fatal(err)
	}
	b.stands("one", "db")
	b.second(3000)
	b.apply(values("password", "one"), target.Updated, 3000)
}

func TestOnlyASecretThatStandsInForThisNameIsAdopted(t *testing.T) {
	for name, edit := range map[string]func(*corev1.Secret){
		"of another name":   func(s *corev1.Secret) { s.Labels[v1alpha1.LabelStandbyOf] = "other" },
		"without the label": func(s *corev1.Secret) { delete(s.Labels, v1alpha1.LabelStandbyOf) },
		"of another claim already": func(s *corev1.Secret) {
			s.Labels[v1alpha1.LabelClaimUID] = "uid-9"
		},
		"with an owner": func(s *corev1.Secret) {
			s.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "x", UID: "x", Controller: new(true)}}
		},
	} {
		b := newBench(t)
		b.stands("one", "db")
		b.edit(edit)
		t.Log(name)
		b.refused(b.desired(values("password", "one")), target.ErrNotOurs)
	}
}
