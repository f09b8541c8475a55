package sealedsecret_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/broker/sealedsecret"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

const domain = "sealedsecrets.bitnami.com/"

func TestASealedSecretBecomesASecretAndFollowsIt(t *testing.T) {
	b := newBench(t)
	b.start()
	b.create(b.seal(v1(), b.plain("db", "user", "ada", "password", "one"), seal.Strict))
	secret := b.holds("db", "user", "ada", "password", "one")
	if owner := metav1.GetControllerOf(secret); owner == nil || owner.UID != b.sealed("db").UID || owner.Kind != "SealedSecret" {
		t.Errorf("owned by %+v", owner)
	}
	if got := b.status("db", corev1.ConditionTrue, ""); got.LastTransitionTime.IsZero() || got.LastUpdateTime.IsZero() {
		t.Errorf("the condition is %+v", got)
	}
	b.change("db", func(sealed *ssv1alpha1.SealedSecret) {
		sealed.Spec.EncryptedData["password"] = b.item("db", "password", "two")
	})
	b.holds("db", "user", "ada", "password", "two")
	b.status("db", corev1.ConditionTrue, "")

	// Edited and deleted by hand, it is put back.
	edited := b.secret("db")
	edited.Data["password"] = []byte("edited")
	if err := b.client.Update(t.Context(), edited); err != nil {
		t.Fatal(err)
	}
	b.holds("db", "user", "ada", "password", "two")
	if err := b.client.Delete(t.Context(), edited); err != nil {
		t.Fatal(err)
	}
	b.holds("db", "user", "ada", "password", "two")
}

func TestBothVersionsAndAllScopesOpen(t *testing.T) {
	b := newBench(t)
	b.start()
	for name, sealer := range map[string]func(string) *ssv1alpha1.SealedSecret{
		"one-strict": func(name string) *ssv1alpha1.SealedSecret {
			return b.seal(v1(), b.plain(name, "key", name), seal.Strict)
		},
		"one-wide": func(name string) *ssv1alpha1.SealedSecret {
			return b.seal(v1(), b.plain(name, "key", name), seal.NamespaceWide)
		},
		"one-cluster": func(name string) *ssv1alpha1.SealedSecret {
			return b.seal(v1(), b.plain(name, "key", name), seal.ClusterWide)
		},
		"two-strict": func(name string) *ssv1alpha1.SealedSecret {
			return b.seal(v2(""), b.plain(name, "key", name), seal.Strict)
		},
		"two-cluster": func(name string) *ssv1alpha1.SealedSecret {
			return b.seal(v2(""), b.plain(name, "key", name), seal.ClusterWide)
		},
	} {
		b.create(sealer(name))
		b.holds(name, "key", name)
	}
}

func TestAScopeThatIsGivenLaterCounts(t *testing.T) {
	b := newBench(t)
	b.start()
	sealed := b.seal(v1(), b.plain("db", "password", "one"), seal.ClusterWide)
	sealed.Annotations = nil
	b.create(sealed)
	b.status("db", corev1.ConditionFalse, "password")
	b.change("db", func(sealed *ssv1alpha1.SealedSecret) {
		sealed.Annotations = map[string]string{domain + "cluster-wide": "true"}
	})
	b.holds("db", "password", "one")
	b.status("db", corev1.ConditionTrue, "")
}

func TestOneItemThatDoesNotOpenKeepsTheWholeSecretAsItIs(t *testing.T) {
	b := newBench(t)
	b.start()
	b.create(b.seal(v1(), b.plain("db", "user", "ada", "password", "one"), seal.Strict))
	b.holds("db", "user", "ada", "password", "one")
	good := b.sealed("db").Spec.EncryptedData["password"]
	b.change("db", func(sealed *ssv1alpha1.SealedSecret) {
		sealed.Spec.EncryptedData["user"] = b.item("db", "user", "eve")
		sealed.Spec.EncryptedData["password"] = b.item("other", "password", "two")
	})
	first := b.status("db", corev1.ConditionFalse, "password")
	if first.Reason != "ErrUnsealFailed" || strings.Contains(first.Message, "user") {
		t.Errorf("the condition is %+v", first)
	}
	b.holds("db", "user", "ada", "password", "one")

	// Another mistake is told, too.
	b.change("db", func(sealed *ssv1alpha1.SealedSecret) { sealed.Spec.EncryptedData["password"] = "@" })
	brokertest.Eventually(t, within, func(context.Context) error {
		if got := b.status("db", corev1.ConditionFalse, "password"); got.Message == first.Message {
			return errors.New("the message is still " + got.Message)
		}
		return nil
	})
	b.change("db", func(sealed *ssv1alpha1.SealedSecret) { sealed.Spec.EncryptedData["password"] = good })
	b.holds("db", "user", "eve", "password", "one")
	b.status("db", corev1.ConditionTrue, "")
	b.told("db", "ErrUnsealFailed", "Unsealed")
}

// told waits for events of these reasons.
func (b *bench) told(name string, reasons ...string) {
	b.Helper()
	brokertest.Eventually(b, within, func(ctx context.Context) error {
		var list eventsv1.EventList
		if err := b.client.List(ctx, &list, client.InNamespace(b.namespace)); err != nil {
			return err
		}
		found := map[string]bool{}
		for _, one := range list.Items {
			if one.Regarding.Name == name {
				found[one.Reason] = true
			}
		}
		for _, reason := range reasons {
			if !found[reason] {
				return fmt.Errorf("events %v, want %s", found, reason)
			}
		}
		return nil
	})
}

func TestItemsMayBeRenamedInVersion1AndNotInVersion2(t *testing.T) {
	b := newBench(t)
	b.start()
	rename := func(sealed *ssv1alpha1.SealedSecret) *ssv1alpha1.SealedSecret {
		sealed.Spec.EncryptedData["renamed"] = sealed.Spec.EncryptedData["key"]
		delete(sealed.Spec.EncryptedData, "key")
		return sealed
	}
	b.create(rename(b.seal(v1(), b.plain("one", "key", "x"), seal.Strict)))
	b.create(rename(b.seal(v2(""), b.plain("two", "key", "x"), seal.Strict)))
	b.holds("one", "renamed", "x")
	b.status("two", corev1.ConditionFalse, "renamed")
}

func TestTheDeprecatedBlobOpens(t *testing.T) {
	b := newBench(t)
	b.start()
	whole := fmt.Sprintf(`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"db","namespace":%q,"labels":{"app":"pay"}},"data":{"password":"b25l"}}`, b.namespace)
	blob := b.blob("db", whole)
	sealed := &ssv1alpha1.SealedSecret{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: "db"},
		Spec:       ssv1alpha1.SealedSecretSpec{Data: blob, EncryptedData: ssv1alpha1.SealedSecretEncryptedData{}},
	}
	b.create(sealed)
	if secret := b.holds("db", "password", "one"); secret.Labels["app"] != "pay" {
		t.Errorf("labels %v", secret.Labels)
	}
	b.change("db", func(sealed *ssv1alpha1.SealedSecret) {
		sealed.Spec.EncryptedData = map[string]string{"password": b.item("db", "password", "x")}
	})
	b.status("db", corev1.ConditionFalse, "spec.data")
	b.holds("db", "password", "one")
}

func TestASecretOfSomebodyElseIsLeftAlone(t *testing.T) {
	b := newBench(t)
	b.start()
	b.create(b.plain("db", "password", "theirs"))
	b.create(b.seal(v1(), b.plain("db", "password", "ours"), seal.Strict))
	if got := b.status("db", corev1.ConditionFalse, "not managed"); got.Reason != "ErrUpdateFailed" {
		t.Errorf("the reason is %s", got.Reason)
	}
	b.told("db", "ErrUpdateFailed")
	b.holds("db", "password", "theirs")
	theirs := b.secret("db")
	metav1.SetMetaDataAnnotation(&theirs.ObjectMeta, domain+"managed", "true")
	if err := b.client.Update(t.Context(), theirs); err != nil {
		t.Fatal(err)
	}
	b.holds("db", "password", "ours")
	b.status("db", corev1.ConditionTrue, "")
}

func TestWhatOtherControllersTrustIsNotSet(t *testing.T) {
	b := newBench(t)
	b.allowed = []string{"argocd.argoproj.io/tracking-id"}
	b.start()
	labelled := func(name, key string) *ssv1alpha1.SealedSecret {
		sealed := b.seal(v1(), b.plain(name, "key", "x"), seal.Strict)
		sealed.Spec.Template.Labels = map[string]string{key: "x"}
		return sealed
	}
	b.create(labelled("argo", "argocd.argoproj.io/secret-type"))
	b.create(labelled("key", domain+"sealed-secrets-key"))
	b.create(labelled("described", "app.kubernetes.io/name"))
	b.create(labelled("listed", "argocd.argoproj.io/tracking-id"))
	b.holds("described", "key", "x")
	b.status("argo", corev1.ConditionFalse, "spec.template.metadata.labels[argocd.argoproj.io/secret-type]")
	b.status("key", corev1.ConditionFalse, domain+"sealed-secrets-key")
	b.holds("listed", "key", "x")
	skip := b.seal(v1(), b.plain("skip", "key", "x"), seal.Strict)
	skip.Spec.Template.Annotations = map[string]string{domain + "skip-set-owner-references": "true"}
	b.create(skip)
	if secret := b.holds("skip", "key", "x"); len(secret.OwnerReferences) != 0 {
		t.Errorf("owned by %v", secret.OwnerReferences)
	}
	b.status("skip", corev1.ConditionTrue, "")
}

func TestNothingIsDecryptedOrWrittenAgainAfterARestart(t *testing.T) {
	b := newBench(t)
	stop := b.start()
	const count = 8
	for i := range count {
		name := fmt.Sprintf("db-%d", i)
		sealed := b.seal(v1(), b.plain(name, "password", name), seal.Strict)
		sealed.Spec.Template.Data = map[string]string{"token": `{{ randAlphaNum 8 }}`}
		b.create(sealed)
	}
	for i := range count {
		b.status(fmt.Sprintf("db-%d", i), corev1.ConditionTrue, "")
	}
	b.remembers(count)
	stop()
	before := b.versions()
	var reads atomic.Int64 // of one Secret
	b.asked = func(request *http.Request) {
		if strings.Contains(request.URL.Path, "/namespaces/"+b.namespace+"/secrets/") {
			reads.Add(1)
		}
	}
	b.start()
	b.seen(count)
	if got := reads.Load(); got != 0 {
		t.Errorf("the API server was asked for a Secret %d times", got)
	}
	if decrypted, _ := b.counted("sealed_secrets_controller_unseal_requests_total"); decrypted != 0 {
		t.Errorf("%v were decrypted again", decrypted)
	}
	if after := b.versions(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func TestALostOrSpoiltMemoryCostsDecryptingAndNothingElse(t *testing.T) {
	b := newBench(t)
	stop := b.start()
	b.create(b.seal(v1(), b.plain("db", "password", "one"), seal.Strict))
	b.create(b.seal(v1(), b.plain("mq", "password", "one"), seal.Strict))
	b.status("db", corev1.ConditionTrue, "")
	b.status("mq", corev1.ConditionTrue, "")
	ledger := b.remembers(2)
	stop()
	// One record is spoilt, and one is made up for a Secret that was edited.
	edited := b.secret("mq")
	edited.Data["password"] = []byte("forged")
	if err := b.client.Update(t.Context(), edited); err != nil {
		t.Fatal(err)
	}
	ledger.Data[string(b.sealed("db").UID)] = "{"
	mq := string(b.sealed("mq").UID)
	ledger.Data[mq] = strings.Replace(ledger.Data[mq], fmt.Sprintf("%q", b.version(mq, ledger)), fmt.Sprintf("%q", edited.ResourceVersion), 1)
	if err := b.client.Update(t.Context(), ledger); err != nil {
		t.Fatal(err)
	}
	version := b.secret("db").ResourceVersion
	b.start()
	b.holds("mq", "password", "one")
	b.seen(2)
	if got := b.secret("db").ResourceVersion; got != version {
		t.Error("db was written")
	}
}

// version is that of the Secret in a record.
func (b *bench) version(uid string, ledger *corev1.ConfigMap) string {
	b.Helper()
	parts := strings.Split(strings.Trim(ledger.Data[uid], `[]`), ",")
	if len(parts) != 4 {
		b.Fatalf("the record is %s", ledger.Data[uid])
	}
	return strings.Trim(parts[2], `"`)
}

// remembers waits until so many records are written, for Secrets as they are.
func (b *bench) remembers(count int) *corev1.ConfigMap {
	b.Helper()
	ledger := &corev1.ConfigMap{}
	brokertest.Eventually(b, within, func(ctx context.Context) error {
		if err := b.client.Get(ctx, client.ObjectKey{Namespace: b.namespace, Name: sealedsecret.LedgerName}, ledger); err != nil {
			return err
		}
		if len(ledger.Data) != count {
			return fmt.Errorf("%d records, want %d", len(ledger.Data), count)
		}
		return nil
	})
	return ledger
}

// versions are those of all that the controller could write.
func (b *bench) versions() string {
	b.Helper()
	var all strings.Builder
	for _, list := range []client.ObjectList{&corev1.SecretList{}, &ssv1alpha1.SealedSecretList{}, &corev1.ConfigMapList{}} {
		if err := b.client.List(b.Context(), list, client.InNamespace(b.namespace)); err != nil {
			b.Fatal(err)
		}
		switch list := list.(type) {
		case *corev1.SecretList:
			for _, one := range list.Items {
				fmt.Fprintln(&all, "Secret", one.Name, one.ResourceVersion)
			}
		case *ssv1alpha1.SealedSecretList:
			for _, one := range list.Items {
				fmt.Fprintln(&all, "SealedSecret", one.Name, one.ResourceVersion)
			}
		case *corev1.ConfigMapList:
			for _, one := range list.Items {
				fmt.Fprintln(&all, "ConfigMap", one.Name, one.ResourceVersion)
			}
		}
	}
	return all.String()
}

func TestWhatIsGoneIsForgotten(t *testing.T) {
	b := newBench(t)
	b.start()
	for _, name := range []string{"db", "mq"} {
		b.create(b.seal(v1(), b.plain(name, "password", "one"), seal.Strict))
	}
	b.remembers(2)
	if err := b.client.Delete(t.Context(), b.sealed("db")); err != nil {
		t.Fatal(err)
	}
	ledger := b.remembers(1)
	if _, found := ledger.Data[string(b.sealed("mq").UID)]; !found {
		t.Errorf("remembered is %v", ledger.Data)
	}
	brokertest.Eventually(t, within, func(context.Context) error {
		if _, series := b.counted("sealed_secrets_controller_condition_info"); series != 1 {
			return fmt.Errorf("the conditions of %d are told of", series)
		}
		return nil
	})
}

func TestAKeyThatComesLaterOpensWhatWaitsForIt(t *testing.T) {
	b := newBench(t)
	own, err := seal.GenerateRSAKey(seal.RSAConfig{Now: time.Now(), Bits: 2048})
	if err != nil {
		t.Fatal(err)
	}
	b.keys.rsa = []*seal.RSAKey{own}
	b.start()
	b.create(b.seal(v1(), b.plain("db", "password", "one"), seal.Strict))
	b.status("db", corev1.ConditionFalse, "password")
	b.keys.mu.Lock()
	b.keys.rsa = append(b.keys.rsa, newRSA())
	b.keys.mu.Unlock()
	b.turned <- event.GenericEvent{Object: &ssv1alpha1.SealedSecret{}}
	b.holds("db", "password", "one")
	b.status("db", corev1.ConditionTrue, "")
}

func TestWithoutKeysSealedSecretsWait(t *testing.T) {
	b := newBench(t)
	b.keys.rsa, b.keys.hybrid = nil, nil
	b.start()
	b.create(b.seal(v1(), b.plain("db", "password", "one"), seal.Strict))
	b.keys.mu.Lock()
	b.keys.rsa = []*seal.RSAKey{newRSA()}
	b.keys.mu.Unlock()
	b.holds("db", "password", "one")
}

func TestAnItemOfAnotherEnvironmentDoesNotOpen(t *testing.T) {
	b := newBench(t)
	b.start()
	name := "env-" + strings.TrimPrefix(b.namespace, "pay-")
	b.create(&v1alpha1.Environment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.EnvironmentSpec{
			NamespaceSelector: metav1.LabelSelector{MatchLabels: map[string]string{"env": strings.TrimPrefix(b.namespace, "pay-")}},
			Stores:            []string{"vault"}, Root: "kv/x", Paths: []string{"kv/x/**"},
		},
	})
	b.create(b.seal(v2(name), b.plain("here", "key", "x"), seal.Strict))
	b.create(b.seal(v2("elsewhere"), b.plain("there", "key", "x"), seal.Strict))
	b.holds("here", "key", "x")
	b.status("there", corev1.ConditionFalse, "key")
}

func TestAStandbyMakesASecretAndChangesNone(t *testing.T) {
	b := newBench(t)
	b.start()
	b.create(b.plain("there", "key", "theirs"))
	for _, name := range []string{"there", "missing"} {
		sealed := b.seal(v1(), b.plain(name, "key", "copy"), seal.Strict)
		metav1.SetMetaDataAnnotation(&sealed.ObjectMeta, v1alpha1.AnnotationStandby, "true")
		b.create(sealed)
	}
	b.holds("missing", "key", "copy")
	b.status("there", corev1.ConditionTrue, "")
	b.holds("there", "key", "theirs")
}

func TestASecretThatIsImmutableIsMadeAnewWhenThatIsAskedFor(t *testing.T) {
	b := newBench(t)
	b.start()
	sealed := b.seal(v1(), b.plain("db", "password", "one"), seal.Strict)
	sealed.Spec.Template.Immutable = new(true)
	b.create(sealed)
	b.holds("db", "password", "one")
	b.change("db", func(sealed *ssv1alpha1.SealedSecret) {
		sealed.Spec.EncryptedData["password"] = b.item("db", "password", "two")
	})
	b.status("db", corev1.ConditionFalse, v1alpha1.AnnotationRecreate)
	b.change("db", func(sealed *ssv1alpha1.SealedSecret) {
		metav1.SetMetaDataAnnotation(&sealed.ObjectMeta, v1alpha1.AnnotationRecreate, "true")
	})
	b.holds("db", "password", "two")
	b.status("db", corev1.ConditionTrue, "")
}

func TestASealedSecretThatIsDeletedWithItsSecretIsNotServed(t *testing.T) {
	b := newBench(t)
	b.start()
	b.create(b.seal(v1(), b.plain("db", "password", "one"), seal.Strict))
	b.remembers(1)
	if err := b.client.Delete(t.Context(), b.sealed("db")); err != nil {
		t.Fatal(err)
	}
	if err := b.client.Delete(t.Context(), b.plain("db")); err != nil {
		t.Fatal(err)
	}
	b.remembers(0)
	err := b.client.Get(t.Context(), client.ObjectKey{Namespace: b.namespace, Name: "db"}, &corev1.Secret{})
	if !apierrors.IsNotFound(err) {
		t.Errorf("its Secret was made again: %v", err)
	}
}
