package rotate_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/privyseal/privyseal/broker/rotate"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/rotation"
)

// overlapping keeps the value before, for so long; 0: until the next rotation.
func overlapping(drop time.Duration) func(*v1alpha1.SecretRotationSpec) {
	return func(spec *v1alpha1.SecretRotationSpec) {
		spec.Strategy = v1alpha1.RotationOverlap
		if drop > 0 {
			spec.DropPreviousAfter = &metav1.Duration{Duration: drop}
		}
	}
}

func (b *bench) value(key string) (value string, there bool) {
	b.Helper()
	found, there := b.document().Values[key]
	return string(found.Bytes()), there
}

// onDay has a daemon rotate at three in the morning of a day, until it is done.
func (b *bench) onDay(daemon *rotate.Reconciler, day int) {
	b.Helper()
	b.clock.SetTime(three().Add(time.Duration(day) * 24 * time.Hour))
	b.run(daemon)
	b.until(daemon, rotation.Done)
}

func TestOverlapKeepsTheValueBeforeUntilTheNextRotation(t *testing.T) {
	t.Parallel()
	b := newBench(t, overlapping(0))
	daemon := b.daemon()
	b.run(daemon)
	b.onDay(daemon, 0)
	first := b.password()
	if before, _ := b.value("password_previous"); before != "first" || len(first) != 64 || b.document().Version != 2 {
		t.Errorf("in version %d the value before is %q", b.document().Version, before)
	}
	b.onDay(daemon, 1)
	if before, _ := b.value("password_previous"); before != first || b.password() == first || b.document().Version != 3 {
		t.Errorf("in version %d the value before is another", b.document().Version)
	}
	b.must(b.status().Previous.Version == 3 && fmt.Sprint(b.status().Previous.Keys) == "[password_previous]", "it does not say where they are")

	// Nobody drops them, whoever leads and however late it is.
	b.later(20 * time.Hour)
	b.run(b.daemon())
	if before, _ := b.value("password_previous"); before != first {
		t.Error("the value before is gone")
	}
}

func TestAnOverlapThatIsTakenBackLeavesTheValuesOfBefore(t *testing.T) {
	t.Parallel()
	b := newBench(t, overlapping(0))
	daemon := b.daemon()
	b.run(daemon)
	b.onDay(daemon, 0)
	first := b.password()
	b.world.follower.Workload, b.world.follower.Behind, b.world.follower.Fails = "Deployment/pay/web", "it fails", "CrashLoopBackOff"
	b.clock.SetTime(three().Add(24 * time.Hour))
	b.run(daemon)
	b.until(daemon, rotation.RolledBack)
	if before, _ := b.value("password_previous"); before != "first" || b.password() != first {
		t.Errorf("the value before is %q", before)
	}
}

// The system forgets the new value when the claims and the pods have left it: not
// before, and without waiting for their time to be over.
func TestAnOverlapThatIsTakenBackHasTheSystemForgetWhenNobodyHasTheNewValue(t *testing.T) {
	t.Parallel()
	b := newHooked(t, overlapping(0))
	b.jobs.ends["verify"] = ending{says: func(map[string]string) string { return "no" }}
	daemon := b.daemon()
	b.atThree(daemon)
	for b.status().Phase != string(rotation.Returning) {
		result, err := b.step(daemon)
		if err != nil {
			t.Fatal(err)
		}
		b.later(result.RequeueAfter)
	}
	began, told := b.clock.Now(), b.world.told
	b.world.deaf, b.world.follower.Behind = true, "pods with an old value"
	for _, still := range []string{"the claim", "a workload"} {
		b.later(20 * time.Second)
		b.run(daemon)
		b.must(b.world.told > told, "the claim was not told")
		b.must(b.status().Phase == string(rotation.Returning) && b.jobs.kinds() == "1-set-0 1-verify-0",
			"while %s has the new value it is in phase %s, and there ran %s", still, b.status().Phase, b.jobs.kinds())
		b.world.deaf = false
	}
	b.world.follower.Behind = ""
	b.until(daemon, rotation.RolledBack)
	b.must(b.jobs.kinds() == "1-set-0 1-verify-0 1-set-back-0" && b.jobs.knows == "first", "there ran %s", b.jobs.kinds())
	if took := b.clock.Since(began); took > 2*time.Minute {
		t.Errorf("it took %s", took)
	}
}

func TestAValueBeforeIsDroppedAfterItsTimeAndNothingElse(t *testing.T) {
	t.Parallel()
	b := newBench(t, overlapping(time.Hour))
	daemon := b.daemon()
	b.run(daemon)
	b.onDay(daemon, 0)
	password, ended := b.password(), b.clock.Now()
	b.later(30 * time.Minute)
	b.run(daemon)
	if _, there := b.value("password_previous"); !there || b.store.Reads() == 0 {
		t.Fatal("it is dropped before its time")
	}
	b.store.Fail(fmt.Errorf("%w: it is sealed", providers.ErrUnavailable))
	b.clock.SetTime(ended.Add(time.Hour))
	b.run(daemon)
	b.must(b.status().Previous.Dropping && strings.Contains(b.condition(v1alpha1.ConditionRotated).Message, "it is sealed"), "it does not say what it waits for")
	b.store.Fail(nil)
	told := b.world.told
	b.run(b.daemon())
	if _, there := b.value("password_previous"); there || b.password() != password || b.document().Version != 3 {
		t.Errorf("in version %d it is there: %t", b.document().Version, there)
	}
	b.must(b.status().Previous == nil && b.world.told > told && len(b.status().History) == 1, "it is not over, or nobody was told")
	b.must(b.condition(v1alpha1.ConditionRotated).Message == "run 2026-06-01T03:00 went well", "it does not say how it ended")
	if said := b.told(); strings.Count(said, "PreviousDropped") != 1 || strings.Contains(said, "PreviousLeft") {
		t.Errorf("the events are\n%s", said)
	}
	b.later(2 * time.Hour)
	b.run(daemon)
	b.must(b.document().Version == 3, "something is written again")
	b.onDay(daemon, 1)
}

func TestWhatSomebodyWroteInAValueBeforesPlaceIsNotDropped(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*bench){
		"another value": func(b *bench) {
			b.store.Set(b.ref, map[string]any{"password": b.password(), "password_previous": "mine"})
		},
		"a path that is gone": func(b *bench) {
			b.store.Delete(b.ref)
			b.store.Set(b.ref, map[string]any{"password_previous": "mine"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, overlapping(time.Hour))
			daemon := b.daemon()
			b.run(daemon)
			b.onDay(daemon, 0)
			change(b)
			version := b.document().Version
			b.later(2 * time.Hour)
			b.run(daemon)
			if is, _ := b.value("password_previous"); is != "mine" || b.document().Version != version {
				t.Errorf("in version %d it is %q", b.document().Version, is)
			}
			b.must(b.status().Previous == nil, "it goes on trying")
			if said := b.told(); !strings.Contains(said, "Warning PreviousLeft password_previous stay in the store") {
				t.Errorf("the events are\n%s", said)
			}
		})
	}
}

// A daemon that dies at any request of a drop leaves the next one to do it, and no
// run begins between.
func TestADaemonThatDiesWhileItDropsIsFollowedByOneThatDoes(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 4; n++ {
		for _, done := range []bool{false, true} {
			b := newBench(t, overlapping(time.Hour))
			b.run(b.daemon())
			b.onDay(b.daemon(), 0)
			b.clock.SetTime(three().Add(24 * time.Hour).Add(-time.Minute))
			m := &mortal{at: n, done: done}
			dying := b.daemonWith(m.client(b.api), m.store(stores{b.store}))
			for range 20 {
				if _, err := b.step(dying); err != nil && m.died == "" {
					t.Fatal(err)
				}
			}
			b.onDay(b.daemon(), 1)
			status := b.status()
			t.Logf("killed at %d, %-22s done: %-5t attempts: %d, version: %d", n, m.died, done, status.Attempt, b.document().Version)
			want := int64(4)
			if n == 1 && !done {
				want = 3 // nothing was begun, and the run came first
			}
			b.must(status.Attempt == 2 && len(status.History) == 2 && b.document().Version == want, "the next run went another way")
		}
	}
}

func TestANumberIsPutBackAsANumber(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(spec *v1alpha1.SecretRotationSpec) {
		overlapping(0)(spec)
		spec.Generate = map[string]v1alpha1.Generator{"port": {Hex: &v1alpha1.BytesGenerator{}}}
	})
	daemon := b.daemon()
	b.atThree(daemon)
	b.world.follower.Workload, b.world.follower.Behind = "Deployment/pay/web", "its rollout is under way"
	b.until(daemon, rotation.Rolling)
	if during := b.document(); during.JSON["port"] || !during.JSON["port_previous"] {
		t.Errorf("with the new value %v are no strings", during.JSON)
	}
	b.world.follower.Fails = "CrashLoopBackOff"
	b.until(b.daemon(), rotation.RolledBack)
	after := b.document()
	if string(after.Values["port"].Bytes()) != "5432" || !after.JSON["port"] {
		t.Errorf("it is %q, and a number: %t", after.Values["port"].Bytes(), after.JSON["port"])
	}
}

func TestTheStoreThatASpecNamesIsAskedFor(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(spec *v1alpha1.SecretRotationSpec) { spec.StoreRef = &v1alpha1.StoreRef{Name: "spare"} })
	b.run(b.daemon())
	if b.world.named == nil || b.world.named.Name != "spare" {
		t.Errorf("the place is looked for in %+v", b.world.named)
	}
}

// watched counts how often a store is written.
type watched struct {
	rotate.Store
	writes int
}

func (w *watched) Write(ctx context.Context, store v1alpha1.Store, as providers.Identity, change providers.Change) (int64, error) {
	w.writes++
	return w.Store.Write(ctx, store, as, change)
}

func TestAKeyAndItsCertificateAreOneChange(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(spec *v1alpha1.SecretRotationSpec) {
		spec.Generate = map[string]v1alpha1.Generator{
			"tls.key": {X509: &v1alpha1.X509Generator{Certificate: "tls.crt", DNSNames: []string{"db.pay.svc"}, Validity: &metav1.Duration{Duration: 72 * time.Hour}}},
			"id":      {SSH: &v1alpha1.SSHGenerator{PublicKey: "id.pub", Comment: "backup"}},
			"rsa":     {RSA: &v1alpha1.RSAGenerator{Bits: 2048, PublicKey: "rsa.pub"}},
			"ecdsa":   {ECDSA: &v1alpha1.ECDSAGenerator{Curve: "P-384"}},
			"ed25519": {Ed25519: &v1alpha1.Ed25519Generator{PublicKey: "ed25519.pub"}},
		}
	})
	store := &watched{Store: stores{b.store}}
	daemon := b.daemonWith(b.api, store)
	b.atThree(daemon)
	b.until(daemon, rotation.Done)
	made := func(key string) []byte { return b.document().Values[key].Bytes() }
	pair, err := tls.X509KeyPair(made("tls.crt"), made("tls.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := pair.Leaf.VerifyHostname("db.pay.svc"); err != nil || pair.Leaf.NotAfter.Sub(b.clock.Now()) < 71*time.Hour {
		t.Errorf("it is good until %s, %v", pair.Leaf.NotAfter, err)
	}
	key, err := ssh.ParsePrivateKey(made("id"))
	if err != nil {
		t.Fatal(err)
	}
	line, comment, _, _, err := ssh.ParseAuthorizedKey(made("id.pub"))
	if err != nil || comment != "backup" || string(line.Marshal()) != string(key.PublicKey().Marshal()) {
		t.Errorf("the line is %s, %v", made("id.pub"), err)
	}
	for _, name := range []string{"rsa.pub", "ed25519.pub"} {
		block, _ := pem.Decode(made(name))
		if block == nil {
			t.Fatalf("%s is no PEM", name)
		}
		if _, err := x509.ParsePKIXPublicKey(block.Bytes); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if store.writes != 1 || b.document().Version != 2 || len(b.document().Values) != 12 {
		t.Errorf("%d writes, and %d keys in version %d", store.writes, len(b.document().Values), b.document().Version)
	}
}

// Who tells the system is a hook; what becomes of the document is judged here.
func TestUsersTakeTurns(t *testing.T) {
	t.Parallel()
	spec := v1alpha1.SecretRotationSpec{Generate: map[string]v1alpha1.Generator{"password": {UUID: &v1alpha1.UUIDGenerator{}}}}
	alternating("user", "app-a", "app-b")(&spec)
	document := providers.Document{Values: map[string]providers.Value{"host": providers.NewValue([]byte("db"))}}
	if _, err := rotate.ChangeOf(spec, document, three()); err == nil || !strings.Contains(err.Error(), `users.key "user"`) {
		t.Errorf("of a document without a user it says %v", err)
	}
	document.Values["user"] = providers.NewValue([]byte("app-a"))
	for _, next := range []string{"app-b", "app-a", "app-b"} {
		change, err := rotate.ChangeOf(spec, document, three())
		if err != nil {
			t.Fatal(err)
		}
		after := change.Forward(document.Values)
		if is := string(after["user"].Bytes()); is != next || len(after["password"].Bytes()) != 36 || string(after["host"].Bytes()) != "db" {
			t.Errorf("it becomes the turn of %q", is)
		}
		document.Values = after
	}
}

// newAlternating has two users, whom a hook sets.
func newAlternating(t *testing.T) *bench {
	t.Helper()
	b := newHooked(t, alternating("user", "app-a", "app-b"))
	b.store.Set(b.ref, map[string]any{"user": "app-a", "password": "first", "host": "db"})
	b.world.version = 2
	return b
}

func TestTwoUsersTakeTurnsAndAHookSetsThem(t *testing.T) {
	t.Parallel()
	b := newAlternating(t)
	daemon := b.daemon()
	b.run(daemon)
	for day, user := range []string{"app-b", "app-a"} {
		b.onDay(daemon, day)
		is, _ := b.value("user")
		b.must(is == user && b.jobs.users[user] == b.password() && len(b.password()) == 64, "the document has %q", is)
	}
	if ran := b.jobs.kinds(); ran != "1-set-0 1-verify-0 2-set-0 2-verify-0" {
		t.Errorf("there ran %s", ran)
	}
	b.must(b.jobs.users["app-a"] != b.jobs.users["app-b"] && len(b.jobs.left()) == 0, "left are %v", b.jobs.left())
}

// Nothing has to be set back: the user before has the password of before.
func TestAUserWhoDoesNotWorkGivesTheTurnBack(t *testing.T) {
	t.Parallel()
	b := newAlternating(t)
	b.jobs.ends["verify"] = failing("no such user")
	daemon := b.daemon()
	b.atThree(daemon)
	b.until(daemon, rotation.RolledBack)
	is, _ := b.value("user")
	b.must(is == "app-a" && b.password() == "first" && strings.Contains(b.status().Why, "no such user"), "the document has %q", is)
	b.must(b.jobs.kinds() == "1-set-0 1-verify-0" && b.world.version == b.document().Version, "there ran %s", b.jobs.kinds())
	b.must(b.record() == nil && len(b.jobs.list()) == 0, "something is left")
}

// As long as a claim, or a pod, has the new value the system has to know it.
func TestASystemForgetsTheNewValueOnlyWhenNobodyHasIt(t *testing.T) {
	t.Parallel()
	b := newHooked(t, overlapping(0))
	b.jobs.ends["verify"] = failing("no")
	daemon := b.daemon()
	b.atThree(daemon)
	for b.status().Phase != string(rotation.Verifying) {
		if _, err := b.step(daemon); err != nil {
			t.Fatal(err)
		}
	}
	told := b.world.told
	b.world.deaf = true
	b.until(daemon, rotation.Returning)
	since := b.clock.Now()
	stays := func(why string) {
		t.Helper()
		for range 7 {
			b.later(b.run(daemon).RequeueAfter)
		}
		b.must(b.status().Phase == string(rotation.Returning) && b.jobs.kinds() == "1-set-0 1-verify-0", "it does not wait for %s", why)
	}
	stays("a claim")
	b.must(b.world.told > told, "no claim is told")
	b.world.follower = rotate.Follower{Workload: "Deployment/pay/web", Behind: "its rollout is under way"}
	b.world.version = b.document().Version
	stays("a workload")
	b.world.follower = rotate.Follower{}
	b.until(daemon, rotation.RolledBack)
	b.must(b.clock.Now().Sub(since) < 5*time.Minute, "its time had to be over first")
	b.must(b.jobs.kinds() == "1-set-0 1-verify-0 1-set-back-0" && b.password() == "first", "there ran %s", b.jobs.kinds())
}
