package sealingkey

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/providers"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// rsaHeld is a small key: what it seals does not matter here.
func rsaHeld(t *testing.T, name string, since, created time.Time) held {
	t.Helper()
	key, err := seal.GenerateRSAKey(seal.RSAConfig{Now: since, Bits: 1024})
	if err != nil {
		t.Fatal(err)
	}
	private, certificate := key.PEM()
	return read(V1, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{LabelV1: Active}, CreationTimestamp: metav1.NewTime(created)},
		Data:       map[string][]byte{corev1.TLSPrivateKeyKey: private, corev1.TLSCertKey: certificate},
	})
}

func stateOf(t *testing.T, snapshot Snapshot, name string) Key {
	t.Helper()
	for _, key := range snapshot.Keys {
		if key.Secret == name {
			return key
		}
	}
	t.Fatalf("no key %s in %v", name, snapshot.Keys)
	return Key{}
}

func TestTheNewestKeySealsAndEveryKeyOpens(t *testing.T) {
	old := rsaHeld(t, "old", noon.Add(-48*time.Hour), noon.Add(-48*time.Hour))
	// Its Secret is older, as that of a key that somebody made offline may be.
	newest := rsaHeld(t, "newest", noon.Add(-time.Hour), noon.Add(-72*time.Hour))
	snapshot := judge([]held{old, newest}, noon)
	if got := snapshot.RSA.Fingerprint(); got != newest.key.ID {
		t.Errorf("seals to %s, want the newest by its certificate", got)
	}
	if state := stateOf(t, snapshot, "old").State; state != Opening {
		t.Errorf("the old key is %s", state)
	}
}

func TestKeysOfOneTimeHaveOneOrder(t *testing.T) {
	a := rsaHeld(t, "a", noon.Add(-time.Hour), noon)
	b := rsaHeld(t, "b", noon.Add(-time.Hour), noon)
	older := rsaHeld(t, "z", noon.Add(-time.Hour), noon.Add(-time.Minute))
	for _, row := range []struct {
		keys []held
		want string
	}{
		{[]held{a, b}, "a"}, {[]held{b, a}, "a"},
		{[]held{a, b, older}, "z"}, {[]held{older, b, a}, "z"},
	} {
		key, _ := judge(row.keys, noon).sealing(V1)
		if key.Secret != row.want {
			t.Errorf("seals to %s, want %s", key.Secret, row.want)
		}
	}
}

func TestAKeyOfTheFutureOpensAndDoesNotSeal(t *testing.T) {
	now := rsaHeld(t, "now", noon.Add(-time.Hour), noon)
	future := rsaHeld(t, "future", noon.Add(24*time.Hour), noon)
	snapshot := judge([]held{now, future}, noon)
	if key, _ := snapshot.sealing(V1); key.Secret != "now" {
		t.Errorf("seals to %s", key.Secret)
	}
	told := stateOf(t, snapshot, "future")
	if told.State != Future || told.Problem == "" {
		t.Errorf("it is told of as %+v", told)
	}
	label := seal.Label{Namespace: "pay", Name: "db", Item: "password"}
	item, err := seal.SealV1(providers.NewValue([]byte("x")), label, future.rsa.Public())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := snapshot.Open.Open(item, label); err != nil {
		t.Errorf("it does not open: %v", err)
	}
	// Another replica's clock is a minute behind, and it does not make a key anew.
	if key, found := judge([]held{future}, noon.Add(24*time.Hour-time.Minute)).sealing(V1); !found {
		t.Errorf("a minute before its time it does not seal: %+v", key)
	}
}

func TestAKeyThatIsMalformedOrTakenOutOfUseIsNoKey(t *testing.T) {
	good := rsaHeld(t, "good", noon, noon)
	compromised := read(V1, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "compromised", Labels: map[string]string{LabelV1: "compromised"}}})
	broken := read(V1, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "broken", Labels: map[string]string{LabelV1: Active}},
		Data:       map[string][]byte{corev1.TLSPrivateKeyKey: []byte("-----BEGIN"), corev1.TLSCertKey: nil},
	})
	v2 := read(V2, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "v2", Labels: map[string]string{LabelV2: Active}},
		Data:       map[string][]byte{PrivateV2: []byte("nothing")},
	})
	snapshot := judge([]held{compromised, broken, good, v2}, noon)
	for name, want := range map[string]State{"good": Sealing, "compromised": Ignored, "broken": Malformed, "v2": Malformed} {
		if key := stateOf(t, snapshot, name); key.State != want || (want == Malformed) != (key.Problem != "") {
			t.Errorf("%s is %+v, want %s", name, key, want)
		}
	}
	if snapshot.Hybrid != nil {
		t.Error("seals to a malformed key")
	}
}

func TestWhenAKeyIsDue(t *testing.T) {
	day := 24 * time.Hour
	key := rsaHeld(t, "key", noon.Add(-10*day), noon)
	byItself := judge([]held{key}, noon)
	for _, row := range []struct {
		name     string
		policy   policy
		snapshot Snapshot
		due      bool
		next     time.Time
	}{
		{"there is none", policy{}, judge(nil, noon), true, time.Time{}},
		{"never", policy{}, byItself, false, time.Time{}},
		{"not yet", policy{period: 30 * day}, byItself, false, noon.Add(20 * day)},
		{"it is old", policy{period: 10 * day}, byItself, true, noon},
		{"it is older than the cut-off", policy{cutOff: noon.Add(-day)}, byItself, true, noon.Add(-day)},
		{"the cut-off is to come", policy{cutOff: noon.Add(day)}, byItself, false, noon.Add(day)},
		{"it is newer than the cut-off", policy{cutOff: noon.Add(-11 * day)}, byItself, false, time.Time{}},
	} {
		due, next := row.policy.due(row.snapshot, V1, noon)
		if due != row.due || !next.Equal(row.next) {
			t.Errorf("%s: due %t, next %s; want %t, %s", row.name, due, next, row.due, row.next)
		}
	}
}
