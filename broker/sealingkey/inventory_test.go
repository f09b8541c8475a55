package sealingkey_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/privyseal/privyseal/broker/manifest"
	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/broker/sealingkey"
)

func TestAKeyIsRetiredOnlyWhenNothingOpensWithIt(t *testing.T) {
	old, unused, current := newRSA(t), newRSA(t), newRSA(t)
	snapshot := sealingkey.Snapshot{Open: seal.NewKeys([]*seal.RSAKey{current, unused, old}, nil)}
	sealed := func(name string, to *seal.RSAKey) ssv1alpha1.SealedSecret {
		made, err := manifest.Sealer{RSA: to.Public()}.Seal(&corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: name}, Data: map[string][]byte{"key": []byte("x")},
		}, seal.Strict)
		if err != nil {
			t.Fatal(err)
		}
		return *made
	}
	inventory, err := sealingkey.TakeInventory(snapshot, []ssv1alpha1.SealedSecret{
		sealed("a", current), sealed("b", old), sealed("lost", newRSA(t)),
	}, func(string) (string, error) { return "", nil })
	if err != nil {
		t.Fatal(err)
	}
	if len(inventory.Closed) != 1 || len(inventory.Needs[old.Fingerprint()]) != 1 || len(inventory.Needs[unused.Fingerprint()]) != 0 {
		t.Errorf("the inventory is %+v", inventory)
	}
	for name, c := range map[string]struct {
		key     *seal.RSAKey
		state   sealingkey.State
		refusal string
	}{
		"old": {old, sealingkey.Opening, "pay/b"}, "unused": {unused, sealingkey.Opening, ""},
		"current": {unused, sealingkey.Sealing, "new items are sealed to"},
	} {
		err := inventory.MayRetire(sealingkey.Key{ID: c.key.Fingerprint(), State: c.state, Secret: name})
		if (err != nil) != (c.refusal != "") || err != nil && (!errors.Is(err, sealingkey.ErrNeeded) || !strings.Contains(err.Error(), c.refusal)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func newRSA(t *testing.T) *seal.RSAKey {
	t.Helper()
	key, err := seal.GenerateRSAKey(seal.RSAConfig{Now: time.Unix(1_700_000_000, 0), Bits: 2048})
	if err != nil {
		t.Fatal(err)
	}
	return key
}
