package rotate_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/privyseal/privyseal/broker/rotate"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/rotation"
)

const adminPassword = "admin-0123456789"

// newAdministered has a set that needs the login of an administrator.
func newAdministered(t *testing.T) *bench {
	t.Helper()
	b := newHooked(t, func(spec *v1alpha1.SecretRotationSpec) { spec.Set.CredentialsPath = "admin" })
	var err error
	if b.world.admin, err = providers.ParseRef("kv/prod/" + b.of.Namespace + "/admin"); err != nil {
		t.Fatal(err)
	}
	b.store.Set(b.world.admin, map[string]any{"user": "postgres", "password": adminPassword})
	return b
}

// untilJob has a daemon look until there is a Job, of which nothing else is yet.
func (b *bench) untilJob(daemon *rotate.Reconciler) {
	b.Helper()
	for range 100 {
		if _, err := b.step(daemon); err != nil {
			b.Fatal(err)
		}
		if len(b.jobs.list()) > 0 {
			return
		}
	}
	b.Fatal("there never is a Job")
}

func failing(says string) ending {
	return ending{says: func(map[string]string) string { return says }}
}

func TestAHookThatSetsGetsTheCredentialsOfTheAttempt(t *testing.T) {
	t.Parallel()
	b := newAdministered(t)
	b.jobs.ends["verify"] = failing("no")
	daemon := b.daemon()
	b.atThree(daemon)
	b.untilJob(daemon)
	of := b.rotation()
	of.Spec.Set.CredentialsPath = ""
	if err := b.api.Update(t.Context(), of); err != nil {
		t.Fatal(err)
	}
	b.until(daemon, rotation.RolledBack)
	for _, kind := range []string{"set", "set-back"} {
		files := b.jobs.saw[kind]
		if len(files) != 4 || files["admin/user"] != "postgres" || files["admin/password"] != adminPassword || files["new/password"] == "" {
			t.Errorf("%s has the files %v", kind, files)
		}
	}
	if files := b.jobs.saw["verify"]; len(files) != 1 {
		t.Errorf("verify has the files %v", files)
	}
	b.must(b.password() == "first" && b.jobs.knows == "first" && len(b.jobs.left()) == 0, "left are %v", b.jobs.left())
}

func TestCredentialsThatCannotBeHadAreSaidBeforeAnythingBegins(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		spoil  func(*bench)
		reason string
		says   string
	}{
		{"a path of others", func(b *bench) {
			b.world.adminRefusal = &rotate.Refusal{Reason: v1alpha1.ReasonPathNotAllowed, Message: "spec.set.credentialsPath: kv/other is outside"}
		}, v1alpha1.ReasonPathNotAllowed, "kv/other is outside"},
		{"what is rotated", func(b *bench) { b.world.admin = b.world.ref }, v1alpha1.ReasonRotationInvalid, "name another document"},
		{"nothing there", func(b *bench) { b.store.Delete(b.world.admin) }, v1alpha1.ReasonSourceNotFound, "/admin"},
		{"deleted", func(b *bench) { b.store.SoftDelete(b.world.admin) }, v1alpha1.ReasonSourceDeleted, "/admin"},
		{"not for the login", func(b *bench) { b.store.Deny(b.world.admin) }, v1alpha1.ReasonSourceDenied, "/admin"},
		{"a key that can be no file", func(b *bench) { b.store.Set(b.world.admin, map[string]any{"a/b": "c"}) }, v1alpha1.ReasonRotationInvalid, `key "a/b"`},
		{"no key", func(b *bench) { b.store.Set(b.world.admin, map[string]any{}) }, v1alpha1.ReasonRotationInvalid, "has no keys"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			b := newAdministered(t)
			row.spoil(b)
			daemon := b.daemon()
			b.atThree(daemon)
			b.run(daemon)
			ready := b.condition(v1alpha1.ConditionReady)
			b.must(ready.Status == metav1.ConditionFalse && ready.Reason == row.reason, "it is not refused")
			b.must(strings.HasPrefix(ready.Message, "spec.set.credentialsPath: ") && strings.Contains(ready.Message, row.says), "it does not say %q", row.says)
			b.must(b.status().Phase == "" && b.record() == nil, "it began")
		})
	}
	t.Run("and it begins when they are there", func(t *testing.T) {
		t.Parallel()
		b := newAdministered(t)
		b.store.Delete(b.world.admin)
		daemon := b.daemon()
		b.atThree(daemon)
		b.run(daemon)
		b.store.Set(b.world.admin, map[string]any{"password": adminPassword})
		b.until(daemon, rotation.Done)
	})
}

func TestAHookWaitsForItsCredentialsWithoutADeadline(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name         string
		spoil, mend  func(*bench)
		says         string
		atJob, twice bool
	}{
		{"the store is away", func(b *bench) { b.store.Fail(fmt.Errorf("%w: it is sealed", providers.ErrUnavailable)) },
			func(b *bench) { b.store.Fail(nil) }, "it is sealed", false, false},
		{"nothing there", func(b *bench) { b.store.Delete(b.world.admin) },
			func(b *bench) {
				b.store.Set(b.world.admin, map[string]any{"user": "postgres", "password": adminPassword})
			}, "/admin", true, false},
		{"other keys by then", func(b *bench) { b.store.Delete(b.world.admin) },
			func(b *bench) { b.store.Set(b.world.admin, map[string]any{"token": adminPassword}) }, "/admin", true, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			b := newAdministered(t)
			daemon := b.daemon()
			b.atThree(daemon)
			for b.status().Phase != string(rotation.Setting) {
				if _, err := b.step(daemon); err != nil {
					t.Fatal(err)
				}
			}
			if row.atJob {
				b.untilJob(daemon)
			}
			row.spoil(b)
			for range 5 {
				_, _ = b.step(b.daemon()) // which tells
				_, _ = b.step(daemon)
				b.later(50 * time.Minute)
			}
			said := b.condition(v1alpha1.ConditionRotated).Message
			b.must(b.status().Phase == string(rotation.Setting) && strings.Contains(said, "spec.set.credentialsPath: ") && strings.Contains(said, row.says), "it does not wait, or not say so")
			before := b.jobs.list()
			row.mend(b)
			b.until(daemon, rotation.Done)
			if again := len(before) > 0 && len(b.jobs.saw["set"]) == 3; again != row.twice {
				t.Errorf("set has the files %v", b.jobs.saw["set"])
			}
			b.must(b.jobs.kinds() == "1-set-0 1-verify-0" && len(b.jobs.twice()) == 0, "there ran %s", b.jobs.kinds())
		})
	}
}

// Each look is another daemon's, and the credentials are others by then.
func TestWhatAHookSaysOfItsCredentialsIsNotTold(t *testing.T) {
	t.Parallel()
	b := newAdministered(t)
	b.jobs.ends["set"] = ending{says: func(files map[string]string) string {
		b.store.Set(b.world.admin, map[string]any{"password": "another-0123456789"})
		return fmt.Sprintf("no %s, %s, %s", files["admin/password"], hex.EncodeToString([]byte(files["admin/password"])), files["new/password"])
	}}
	b.run(b.daemon())
	b.clock.SetTime(three())
	for range 100 {
		if _, err := b.step(b.daemon()); err != nil {
			t.Fatal(err)
		}
		if b.status().Phase == string(rotation.RolledBack) {
			break
		}
		b.later(time.Second)
	}
	b.must(strings.Contains(b.status().Why, "exit code 3: no [redacted], [redacted], [redacted]"), "it does not say why")
	all, err := json.Marshal(b.rotation())
	if err != nil {
		t.Fatal(err)
	}
	if said := string(all) + b.told(); strings.Contains(said, adminPassword) || strings.Contains(said, hex.EncodeToString([]byte(adminPassword))) {
		t.Errorf("a value is in %s", said)
	}
}
