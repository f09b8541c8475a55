package sealingkey

import (
	"encoding/pem"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/privyseal/privyseal/broker/seal"
)

var day = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// rsaText is an RSA key as text, which is dear to make.
var rsaText = sync.OnceValue(func() []byte {
	key, err := seal.GenerateRSAKey(seal.RSAConfig{Now: day, Bits: 2048})
	if err != nil {
		panic(err)
	}
	text, _ := key.PEM()
	return text
})

func rsaSecret(t testing.TB, name string, since time.Time, label string) corev1.Secret {
	t.Helper()
	key, err := seal.GenerateRSAKey(seal.RSAConfig{Now: since, Bits: 2048})
	if err != nil {
		t.Fatal(err)
	}
	text, certificate := key.PEM()
	secret := corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(day)},
		Type:       corev1.SecretTypeTLS,
		Data:       map[string][]byte{corev1.TLSPrivateKeyKey: text, corev1.TLSCertKey: certificate},
	}
	if label != "" {
		secret.Labels = map[string]string{LabelV1: label}
	}
	return secret
}

func hybridSecret(t testing.TB, name string, since time.Time, label string) corev1.Secret {
	t.Helper()
	key, err := seal.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	text, err := key.PEM()
	if err != nil {
		t.Fatal(err)
	}
	return corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{LabelV2: label}, CreationTimestamp: metav1.NewTime(day),
			Annotations: map[string]string{annotationSince: since.Format(time.RFC3339)}},
		Type: TypeV2, Data: map[string][]byte{privateEntry: text, publicEntry: key.Public().PEM()},
	}
}

func states(s Snapshot) map[string]State {
	states := map[string]State{}
	for _, key := range s.Keys {
		states[key.Secret] = key.State
	}
	return states
}

func TestTheNewestKeyInUseIsSealedToAndTheOthersStillOpen(t *testing.T) {
	noCertificate := rsaSecret(t, "no-certificate", day, active)
	delete(noCertificate.Data, corev1.TLSCertKey)
	broken := hybridSecret(t, "broken", day, active)
	broken.Data[privateEntry] = broken.Data[privateEntry][:40]
	foreign := rsaSecret(t, "foreign", day, "")
	pkcs8 := rsaSecret(t, NameV1, day.Add(-48*time.Hour), "")
	snapshot := Read([]corev1.Secret{
		rsaSecret(t, "old", day.Add(-time.Hour), active), rsaSecret(t, "new", day, active),
		rsaSecret(t, "tomorrow", day.Add(24*time.Hour), active), rsaSecret(t, "leaked", day, "compromised"),
		pkcs8, noCertificate, foreign, broken,
		hybridSecret(t, "v2-old", day.Add(-time.Hour), active), hybridSecret(t, "v2-new", day.Add(-time.Minute), active),
		{ObjectMeta: metav1.ObjectMeta{Name: "no-key", Labels: map[string]string{LabelV2: active}}, Type: corev1.SecretTypeOpaque},
	}, day)
	want := map[string]State{
		"old": Active, "new": Active, "tomorrow": Future, "leaked": Unused, NameV1: Active, "no-certificate": Malformed,
		"broken": Malformed, "v2-old": Active, "v2-new": Active,
	}
	got := states(snapshot)
	for name, state := range want {
		if got[name] != state {
			t.Errorf("%s is %q, want %q", name, got[name], state)
		}
	}
	if len(got) != len(want) {
		t.Errorf("keys are %v", got)
	}
	newest := map[int]string{}
	for _, key := range snapshot.Keys {
		if key.ID == snapshot.RSA.Fingerprint() || key.ID == snapshot.Hybrid.Public().ID().String() {
			newest[key.Version] = key.Secret
		}
		if key.State == Malformed && (!errors.Is(key.Problem, seal.ErrKey) || !strings.Contains(key.Problem.Error(), key.Secret)) {
			t.Errorf("the problem of %s is %v", key.Secret, key.Problem)
		}
	}
	if newest[1] != "new" || newest[2] != "v2-new" {
		t.Errorf("sealed to %v", newest)
	}
	block, rest := pem.Decode(snapshot.PublicPEM())
	if second, _ := pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" || second == nil || second.Type != seal.PublicKeyType {
		t.Errorf("given out is:\n%s", snapshot.PublicPEM())
	}
}

func TestReplicasAgreeOnKeysThatBeginTogether(t *testing.T) {
	a, b := rsaSecret(t, "a", day, active), rsaSecret(t, "b", day, active)
	one, other := Read([]corev1.Secret{a, b}, day), Read([]corev1.Secret{b, a}, day)
	if one.RSA.Fingerprint() != other.RSA.Fingerprint() {
		t.Error("the order of the list decides")
	}
}

func TestWhenAKeyIsFollowedByANewOne(t *testing.T) {
	month := Renewal{Every: DefaultRenewal}
	for _, c := range []struct {
		name    string
		age     time.Duration
		renewal Renewal
		due     bool
		next    time.Duration // from now; 0: never
	}{
		{"a young key", 24 * time.Hour, month, false, 29 * 24 * time.Hour},
		{"a key of a month", DefaultRenewal, month, true, 0},
		{"no renewal", 10 * DefaultRenewal, Renewal{}, false, 0},
		{"older than the cut-off", time.Hour, Renewal{CutOff: day.Add(-time.Minute)}, true, 0},
		{"younger than the cut-off", time.Hour, Renewal{Every: DefaultRenewal, CutOff: day.Add(-2 * time.Hour)}, false, DefaultRenewal - time.Hour},
		{"a cut-off to come", time.Hour, Renewal{Every: DefaultRenewal, CutOff: day.Add(time.Hour)}, false, time.Hour},
	} {
		due, next := c.renewal.due(day.Add(-c.age), day)
		if due != c.due || !due && (next.IsZero() != (c.next == 0) || !next.IsZero() && next.Sub(day) != c.next) {
			t.Errorf("%s: due %t, next %s", c.name, due, next)
		}
	}
	snapshot := Read([]corev1.Secret{hybridSecret(t, "v2", day.Add(-time.Hour), active), rsaSecret(t, "later", day.Add(time.Hour), active)}, day)
	if versions, _ := snapshot.missing(month, day); len(versions) != 1 || versions[0] != seal.V1 {
		t.Errorf("with a key of the future alone, missing are %v, want version 1", versions)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(rsaText(), []byte("-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"), "2026-01-01T00:00:00Z")
	f.Fuzz(func(t *testing.T, key, certificate []byte, since string) {
		meta := func(name, label string) metav1.ObjectMeta {
			return metav1.ObjectMeta{Name: name, Labels: map[string]string{label: active}, Annotations: map[string]string{annotationSince: since}}
		}
		snapshot := Read([]corev1.Secret{
			{ObjectMeta: meta("one", LabelV1), Type: corev1.SecretTypeTLS, Data: map[string][]byte{corev1.TLSPrivateKeyKey: key, corev1.TLSCertKey: certificate}},
			{ObjectMeta: meta("two", LabelV2), Type: TypeV2, Data: map[string][]byte{privateEntry: key}},
		}, day)
		for _, key := range snapshot.Keys {
			if (key.State == Malformed) != (key.Problem != nil) || (key.State == Malformed) != (key.ID == "") {
				t.Errorf("%+v", key)
			}
		}
	})
}
