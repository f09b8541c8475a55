package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/manifest"
	"github.com/privyseal/privyseal/broker/recovery"
	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/broker/sealingkey"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// copyOf writes a sealed copy of a value into the desk's tree.
func (d *desk) copyOf(name string, recipient *seal.PublicKey) {
	d.t.Helper()
	sealed, err := manifest.Sealer{Recipients: []*seal.PublicKey{recipient}, Environment: "production"}.Seal(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: name}, Data: map[string][]byte{"password": []byte("hunter2")}}, seal.Strict)
	d.check(err)
	sealed.Annotations = map[string]string{v1alpha1.AnnotationStandby: "true", v1alpha1.Group + "/environment": "production"}
	text, err := manifest.Encode(sealed, false)
	d.check(err)
	d.check(os.MkdirAll(filepath.Join(d.folder, "tree"), 0o700))
	d.file(filepath.Join("tree", name+".yaml"), string(text))
}

func TestWhatARecoveryKeyWasShownToOpenIsRecordedAndToldOfByStatus(t *testing.T) {
	d := newDesk(t)
	d.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "privyseal-system"}})
	_, err := sealingkey.New(sealingkey.Config{Reader: d.cluster, Writer: d.cluster, Namespace: "privyseal-system", Clock: clock.RealClock{}}).Renew(t.Context())
	d.check(err)
	public, _ := d.must("keys", "generate", "--out", d.file("recovery.key", ""))
	never, _ := d.must("keys", "generate", "--out", d.file("other.key", ""))
	keys, err := seal.ParsePublicKeys([]byte(public))
	d.check(err)
	id := keys[0].ID().String()
	home := &v1alpha1.Environment{}
	d.check(d.cluster.Get(t.Context(), client.ObjectKey{Name: "production"}, home))
	home.Spec.Sealing = &v1alpha1.Sealing{Recipients: []string{public, never},
		Git: v1alpha1.SealingGit{URL: "https://git.example.com/copies.git", CredentialsRef: v1alpha1.SecretRef{Name: "git"}}}
	d.check(d.cluster.Update(t.Context(), home))
	if stdout, _ := d.must("status", "keys"); strings.Count(stdout, "production     never") != 2 {
		t.Errorf("before any check:\n%s", stdout)
	}

	d.copyOf("db", keys[0])
	d.copyOf("tls", keys[0])
	tree, key := filepath.Join(d.folder, "tree"), d.file("recovery.key", "")
	d.must("keys", "backup", "--recipient", d.file("recovery.pub", public), "--out", filepath.Join(tree, "keys.pem"))
	stdout, _ := d.must("keys", "check", tree, "--key", key, "--record")
	for _, line := range []string{"2 sealed copies with 2 items open with recovery key " + id, "keys.pem opens", "recorded in ConfigMap privyseal-system/privyseal-recovery"} {
		if !strings.Contains(stdout, line) || strings.Contains(stdout, "hunter2") {
			t.Errorf("no %q in\n%s", line, stdout)
		}
	}
	today := time.Now().UTC().Format(time.DateOnly)
	stdout, _ = d.must("status", "keys")
	if !strings.Contains(stdout, id+"   production     "+today+", 2 copies, bundle of "+today) || strings.Count(stdout, "never") != 1 {
		t.Errorf("after the check:\n%s", stdout)
	}
	if stdout, _ := d.must("status", "keys", "-o", "json"); !strings.Contains(stdout, `"lastProven": {`) {
		t.Errorf("after the check:\n%s", stdout)
	}

	// What does not open all of it is no proof, and the one before stays.
	before, err := recovery.Proofs(t.Context(), d.cluster, "privyseal-system")
	d.check(err)
	foreign, err := seal.GenerateKey()
	d.check(err)
	d.copyOf("lost", foreign.Public())
	_, stderr, err := d.run("keys", "check", tree, "--key", key, "--record")
	if err == nil || !strings.Contains(stderr, "tree/lost.yaml: document 1, SealedSecret pay/lost does not open with recovery key "+id) {
		t.Errorf("got %v and %s", err, stderr)
	}
	after, err := recovery.Proofs(t.Context(), d.cluster, "privyseal-system")
	d.check(err)
	if len(after) != 1 || !after[id].At.Equal(before[id].At) {
		t.Errorf("recorded %v, before %v", after, before)
	}
}
