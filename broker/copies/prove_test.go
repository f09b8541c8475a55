package copies_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/manifest"
	"github.com/privyseal/privyseal/broker/recovery"
	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// measures a metric with this label's value; -1 if it is not there.
func (s *story) measures(name, label string) float64 {
	s.Helper()
	families, err := s.metrics.Gather()
	if err != nil {
		s.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if family.GetName() == name && metric.GetLabel()[0].GetValue() == label {
				return metric.GetGauge().GetValue() + metric.GetCounter().GetValue()
			}
		}
	}
	return -1
}

func (s *story) eventually(what string, is func() bool) {
	s.Helper()
	brokertest.Eventually(s, within, func(context.Context) error {
		if !is() {
			return fmt.Errorf("not %s; commits %q, events %q", what, s.git.Commits(), s.told())
		}
		return nil
	})
}

// edit pushes a copy that somebody changed.
func (s *story) edit(name string, change func(*ssv1alpha1.SealedSecret)) {
	s.Helper()
	var sealed ssv1alpha1.SealedSecret
	if err := yaml.Unmarshal([]byte(s.git.Files()[s.path(name)]), &sealed); err != nil {
		s.Fatal(err)
	}
	change(&sealed)
	text, err := yaml.Marshal(sealed)
	if err != nil {
		s.Fatal(err)
	}
	s.git.Push(s.path(name), string(text))
}

// item seals a value as a copy's item is sealed.
func (s *story) item(name, key, value string, recipients ...*seal.PublicKey) string {
	s.Helper()
	sealed, err := manifest.Sealer{Recipients: recipients, Environment: s.name}.Seal(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.name, Name: name}, Data: map[string][]byte{key: []byte(value)}}, seal.Strict)
	if err != nil {
		s.Fatal(err)
	}
	return sealed.Spec.EncryptedData[key]
}

// Nobody sees by looking at a copy that it holds something else, or that it does
// not open: only opening it tells.
func TestACopyThatWouldBeOfNoUseIsMadeAnewAndTold(t *testing.T) {
	for name, row := range map[string]struct {
		change func(s *story) func(*ssv1alpha1.SealedSecret)
		flaw   string
		says   string
	}{
		"another-value": {flaw: "value", says: "it held something else than the Secret",
			change: func(s *story) func(*ssv1alpha1.SealedSecret) {
				return func(sealed *ssv1alpha1.SealedSecret) {
					sealed.Spec.EncryptedData["password"] = s.item("db", "password", "planted", s.keys.all[0].Public(), s.recovery.Public())
				}
			}},
		"one-more-key": {flaw: "value", says: "it held something else than the Secret",
			change: func(s *story) func(*ssv1alpha1.SealedSecret) {
				return func(sealed *ssv1alpha1.SealedSecret) {
					sealed.Spec.EncryptedData["more"] = s.item("db", "more", "planted", s.keys.all[0].Public(), s.recovery.Public())
				}
			}},
		"of-another-secret": {flaw: "closed", says: "it did not open",
			change: func(s *story) func(*ssv1alpha1.SealedSecret) {
				return func(sealed *ssv1alpha1.SealedSecret) {
					sealed.Spec.EncryptedData["password"] = s.item("other", "password", "one", s.keys.all[0].Public(), s.recovery.Public())
				}
			}},
	} {
		t.Run(name, func(t *testing.T) {
			s := tell(t, "https")
			s.check = time.Second
			s.claim("db", map[string]string{"password": "one"})
			s.start()
			s.holds(s.path("db"))
			s.edit("db", row.change(s))
			s.eventually("made anew", func() bool { return len(s.git.Commits()) == 3 })
			if value := s.opens("db", "password", s.recovery); value != "one" {
				t.Errorf("the copy holds %q", value)
			}
			s.eventually("told", func() bool { return s.tells("db", "Warning CopyMended", row.says) == 1 })
			s.eventually("counted", func() bool { return s.measures("privyseal_copies_mended_total", row.flaw) == 1 })
			if flawed := s.measures("privyseal_copies_flawed", s.name); flawed != 0 {
				t.Errorf("%v copies are flawed", flawed)
			}
			s.stays(3)
		})
	}
}

// Whoever can push can take the recovery key off an item. That shows at once,
// and since the list is bound to the body, it shows that somebody did it.
func TestACopyWithoutTheRecoveryKeyIsMadeAnewAtTheNextLook(t *testing.T) {
	s := tell(t, "https")
	s.claim("db", map[string]string{"password": "one"})
	s.start()
	s.holds(s.path("db"))
	s.edit("db", func(sealed *ssv1alpha1.SealedSecret) {
		item := []byte(sealed.Spec.EncryptedData["password"])
		bare, err := manifest.Decode(string(item))
		if err != nil {
			t.Fatal(err)
		}
		sealed.Spec.EncryptedData["password"] = encode(without(bare, s.recovery.Public().ID()))
	})
	s.eventually("told", func() bool { return s.tells("db", "Warning CopyMended", "it did not open") == 1 })
	if value := s.opens("db", "password", s.recovery); value != "one" {
		t.Errorf("the copy holds %q", value)
	}

	// One that was honestly sealed to other keys is told without alarm.
	s.edit("db", func(sealed *ssv1alpha1.SealedSecret) {
		sealed.Spec.EncryptedData["password"] = s.item("db", "password", "one", s.keys.all[0].Public())
	})
	s.eventually("told", func() bool { return s.tells("db", "Normal CopyKept", "was not sealed to the recovery keys") == 1 })
	s.eventually("counted", func() bool { return s.measures("privyseal_copies_mended_total", "recipients") == 1 })
	if value := s.opens("db", "password", s.recovery); value != "one" {
		t.Errorf("the copy holds %q", value)
	}
}

// A copy of a claim that is gone has nobody who could make it anew: that is for
// whoever watches the metric.
func TestAFlawThatNothingMendsIsCounted(t *testing.T) {
	s := tell(t, "https")
	s.check = time.Second
	claim := s.claim("db", map[string]string{"password": "one"})
	s.start()
	s.holds(s.path("db"))
	if err := s.api.Delete(t.Context(), claim); err != nil {
		t.Fatal(err)
	}
	s.eventually("sound", func() bool { return s.measures("privyseal_copies_flawed", s.name) == 0 })
	s.edit("db", func(sealed *ssv1alpha1.SealedSecret) {
		sealed.Spec.EncryptedData["password"] = s.item("db", "password", "one", s.keys.all[0].Public())
	})
	s.eventually("counted", func() bool { return s.measures("privyseal_copies_flawed", s.name) == 1 })
	if checked := s.measures("privyseal_copies_checked_timestamp_seconds", s.name); checked <= 0 {
		t.Errorf("checked at %v", checked)
	}
	s.stays(2)
}

func TestTheDaemonTellsWhenARecoveryKeyWasLastProven(t *testing.T) {
	s := tell(t, "https")
	s.claim("db", map[string]string{"password": "one"})
	s.start()
	key := s.recovery.Public().ID().String()
	proven := func() float64 { return s.measures("privyseal_recovery_checked_timestamp_seconds", key) }
	s.eventually("never proven", func() bool { return proven() == 0 })
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	record := func(at time.Time) {
		t.Helper()
		if err := recovery.Record(t.Context(), s.api, system, key, recovery.Proof{At: at, Copies: 1}); err != nil {
			t.Fatal(err)
		}
	}
	record(at)
	s.eventually("proven", func() bool { return proven() == float64(at.Unix()) })

	// A date that is to come would silence the alarm for years.
	record(at.AddDate(1000, 0, 0))
	s.eventually("never proven", func() bool { return proven() == 0 })
	record(at)
	s.eventually("proven", func() bool { return proven() == float64(at.Unix()) })
	var recorded corev1.ConfigMap
	if err := s.api.Get(t.Context(), client.ObjectKey{Namespace: system, Name: recovery.ProofsName}, &recorded); err != nil {
		t.Fatal(err)
	}
	recorded.Data[key] = "{"
	if err := s.api.Update(t.Context(), &recorded); err != nil {
		t.Fatal(err)
	}
	s.eventually("never proven", func() bool { return proven() == 0 })
}

func TestAnEventTellsOnceThatACopyIsKeptAndOnceWhatKeepsItBack(t *testing.T) {
	s := tell(t, "https")
	db := s.claim("db", map[string]string{"password": "one"})
	s.claim("tls", map[string]string{"key": "two"})
	s.start()
	for _, name := range []string{"db", "tls"} {
		s.eventually("told", func() bool { return s.tells(name, "Normal CopyKept", "holds sequence 0 of Secret "+name) == 1 })
	}
	s.changes(db, 1800000000, map[string]string{"password": "three"})
	s.eventually("told", func() bool { return s.tells("db", "Normal CopyKept", "sequence 1800000000") == 1 })

	// Each of its many tries fails, and that is one piece of news.
	s.git.Down(true)
	s.changes(db, 1800000001, map[string]string{"password": "four"})
	s.sealed("db", metav1.ConditionFalse, v1alpha1.ReasonRepositoryUnavailable, "tried again")
	s.setCredentials("password", "wrong")
	s.git.Down(false)
	s.sealed("db", metav1.ConditionFalse, v1alpha1.ReasonRepositoryDenied, "refuses")
	brokertest.Throughout(t, 2*time.Second, func(context.Context) error {
		for what, most := range map[string]int{"Warning " + v1alpha1.ReasonRepositoryUnavailable: 1, "Warning " + v1alpha1.ReasonRepositoryDenied: 1, "Normal CopyKept": 2} {
			if times := s.tells("db", what, ""); times > most {
				return fmt.Errorf("%s was told %d times: %q", what, times, s.told())
			}
		}
		return nil
	})
	for _, reason := range []string{v1alpha1.ReasonRepositoryUnavailable, v1alpha1.ReasonRepositoryDenied} {
		s.eventually("told", func() bool { return s.tells("db", "Warning "+reason, "") == 1 })
	}

	// A claim that says so already is not told again by the next daemon.
	is, _ := s.keeper.Sealed(client.ObjectKeyFromObject(db))
	is.Type, is.LastTransitionTime = v1alpha1.ConditionSealed, metav1.Now()
	if err := s.api.Get(t.Context(), client.ObjectKeyFromObject(db), db); err != nil {
		t.Fatal(err)
	}
	db.Status.Conditions = []metav1.Condition{is}
	if err := s.api.Status().Update(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.sealed("db", metav1.ConditionFalse, v1alpha1.ReasonRepositoryDenied, "refuses")
	s.setCredentials("password", s.git.Token)
	s.eventually("told", func() bool { return s.tells("db", "Normal CopyKept", "sequence 1800000001") == 1 })
	if times := s.tells("db", "Warning "+v1alpha1.ReasonRepositoryDenied, ""); times != 1 {
		t.Errorf("it was told %d times: %q", times, s.told())
	}
	for _, event := range s.told() {
		if strings.Contains(event, "three") || strings.Contains(event, "four") {
			t.Errorf("an event holds a value: %s", event)
		}
	}
}
