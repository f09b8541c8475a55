package claim_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/privyseal/privyseal/broker/claim"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/providers/vault"
)

const interval = 5 * time.Minute

// silence is the fault of a store that hangs up without an answer.
const silence = -1

// ailing is a Vault with one document, at every path of kv/, and a fault.
type ailing struct {
	mu       sync.Mutex
	password string
	fault    int // HTTP code of every answer, or silence; 0 for none
	reads    int
}

func (a *ailing) set(password string, fault int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.password, a.fault = password, fault
}

func (a *ailing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.fault == silence:
		panic(http.ErrAbortHandler)
	case a.fault != 0:
		w.WriteHeader(a.fault)
		_, _ = fmt.Fprint(w, `{"errors":["the server says what it likes"]}`)
	case strings.HasPrefix(r.URL.Path, "/v1/sys/internal/ui/mounts/"):
		_, _ = fmt.Fprint(w, `{"data":{"path":"kv/","type":"kv","options":{"version":"2"}}}`)
	default:
		a.reads++
		_, _ = fmt.Fprintf(w, `{"data":{"data":{"password":%q},"metadata":{"version":1}}}`, a.password)
	}
}

// outage is a claims' daemon whose store ails and whose clock stands still
// until it is moved. It does nothing by itself: the test calls.
type outage struct {
	*bench
	store  *ailing
	reader providers.Reader
	clock  *clocktesting.FakePassiveClock
	daemon *claim.Reconciler
}

func newOutage(t *testing.T) *outage {
	b := newBench(t)
	b.namespace("pay")
	return b.outage(t)
}

// outage is a daemon of its own on the bench's API server.
func (b *bench) outage(t *testing.T) *outage {
	o := &outage{bench: &bench{T: t, access: b.access, client: b.client}, store: &ailing{password: "good"}, clock: clocktesting.NewFakePassiveClock(time.Unix(1763800000, 0))}
	server := httptest.NewServer(o.store)
	t.Cleanup(server.Close)
	opened, err := vault.New(vault.Config{Address: server.URL, AllowHTTP: true, Now: o.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	o.reader = opened.As(vault.Token{Value: func(context.Context) (providers.Value, error) {
		return providers.NewValue([]byte("token")), nil
	}})
	o.restart()
	return o
}

// restart gives a daemon that knows nothing but when the last one lived.
func (o *outage) restart() {
	o.daemon = claim.New(claim.Config{
		Line:   line(o.client, o.client, o.client, o.reader, o.clock),
		Client: o.client, Metadata: o.client, Events: &events.FakeRecorder{},
		Clock: o.clock, Interval: interval, LastAlive: o.clock.Now(),
	})
}

func (o *outage) ask(name string) {
	o.Helper()
	o.create(&v1alpha1.SecretClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: name},
		Spec:       v1alpha1.SecretClaimSpec{Sources: []v1alpha1.Source{{Path: "db"}}},
	})
}

// later moves the clock and has the daemon look at a claim.
func (o *outage) later(wait time.Duration, name string) reconcile.Result {
	o.Helper()
	o.clock.SetTime(o.clock.Now().Add(wait))
	result, err := o.daemon.Reconcile(o.Context(), reconcile.Request{NamespacedName: o.key(name)})
	if err != nil {
		o.Fatal(err)
	}
	return result
}

func (o *outage) key(name string) client.ObjectKey {
	return client.ObjectKey{Namespace: "pay", Name: name}
}

func (o *outage) claim(name string) *v1alpha1.SecretClaim {
	o.Helper()
	found := &v1alpha1.SecretClaim{}
	if err := o.client.Get(o.Context(), o.key(name), found); err != nil {
		o.Fatal(err)
	}
	return found
}

// tells says what a claim's conditions say: "Ready=True Synced, Stale=…".
func (o *outage) tells(name, want string) {
	o.Helper()
	var told []string
	for _, condition := range o.claim(name).Status.Conditions {
		told = append(told, fmt.Sprintf("%s=%s %s", condition.Type, condition.Status, condition.Reason))
	}
	if got := strings.Join(told, ", "); got != want {
		o.Fatalf("claim %s tells %q, want %q", name, got, want)
	}
}

func TestAnOutageOfTheStoreChangesNothingForAnHour(t *testing.T) {
	b := newBench(t)
	b.namespace("pay")
	for i, row := range []struct {
		says  string
		fault int
	}{
		{"it does not answer", silence},
		{"it is sealed", http.StatusServiceUnavailable},
		{"it limits our rate", http.StatusTooManyRequests},
		{"it fails", http.StatusInternalServerError},
		{"what lies before it fails", http.StatusBadGateway},
		{"it is a standby", 473},
	} {
		t.Run(row.says, func(t *testing.T) {
			o, db := b.outage(t), fmt.Sprintf("db-%d", i)
			o.ask(db)
			o.later(0, db)
			o.tells(db, "Ready=True Synced")
			claim, secret := o.claim(db), o.secret(o.key(db))
			same := func(when string) {
				t.Helper()
				if diff := cmp.Diff(claim, o.claim(db)); diff != "" {
					t.Errorf("%s, the claim changed:\n%s", when, diff)
				}
				if diff := cmp.Diff(secret, o.secret(o.key(db))); diff != "" {
					t.Errorf("%s, the Secret changed:\n%s", when, diff)
				}
			}

			o.store.set("good", row.fault)
			if result := o.later(interval, db); result.RequeueAfter > 30*time.Second {
				t.Errorf("the next try is in %s", result.RequeueAfter)
			}
			same("at the first failure")
			o.later(50*time.Minute, db)
			same("after 55 minutes")

			o.later(6*time.Minute, db)
			o.tells(db, "Ready=True Synced, Stale=True StoreUnavailable")
			stale := o.claim(db)
			ready := func(c *v1alpha1.SecretClaim) *metav1.Condition {
				return meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionReady)
			}
			if diff := cmp.Diff(ready(claim), ready(stale)); diff != "" {
				t.Errorf("Ready changed:\n%s", diff)
			}
			if got := o.daemon.StaleClaims(); got != 1 {
				t.Errorf("%d claims are stale, want 1", got)
			}
			claim = stale
			same("after an hour")
			o.later(9*time.Hour, db)
			same("after ten hours")
			o.restart()
			o.later(time.Second, db)
			same("with a daemon that knows of no read")

			o.store.set("changed", 0)
			o.later(30*time.Second, db)
			o.tells(db, "Ready=True Synced, Stale=False Fresh")
			if got := string(o.secret(o.key(db)).Data["password"]); got != "changed" {
				t.Errorf("the Secret holds %q after the outage", got)
			}
			if got := o.daemon.StaleClaims(); got != 0 {
				t.Errorf("%d claims are stale after the outage", got)
			}
		})
	}
}

func TestAClaimThatIsRefusedForLongIsStaleToo(t *testing.T) {
	o := newOutage(t)
	o.ask("db")
	o.later(0, "db")
	o.store.set("good", http.StatusForbidden)
	o.later(interval, "db")
	o.tells("db", "Ready=False SourceDenied")
	o.later(time.Hour, "db")
	o.tells("db", "Ready=False SourceDenied, Stale=True SourceDenied")
	o.store.set("good", http.StatusServiceUnavailable)
	o.later(time.Minute, "db")
	o.tells("db", "Ready=False SourceDenied, Stale=True StoreUnavailable")
	o.store.set("good", 0)
	o.later(time.Minute, "db")
	o.tells("db", "Ready=True Synced, Stale=False Fresh")
}

// TestStaleClaimsTakeTurns: 30 claims, of which 20 may tell in a second.
func TestStaleClaimsTakeTurns(t *testing.T) {
	o := newOutage(t)
	var names []string
	for i := range 30 {
		names = append(names, fmt.Sprintf("db-%d", i))
		o.ask(names[i])
	}
	look := func(wait time.Duration, stale metav1.ConditionStatus, want int) {
		t.Helper()
		o.clock.SetTime(o.clock.Now().Add(wait))
		told := 0
		for _, name := range names {
			result := o.later(0, name)
			condition := meta.FindStatusCondition(o.claim(name).Status.Conditions, v1alpha1.ConditionStale)
			if condition != nil && condition.Status == stale {
				told++
			} else if result.RequeueAfter > 30*time.Second {
				t.Errorf("claim %s has not told, and tries again in %s", name, result.RequeueAfter)
			}
		}
		if told != want {
			t.Errorf("%d claims are Stale=%s, want %d", told, stale, want)
		}
	}
	for _, name := range names {
		o.later(0, name)
	}
	o.store.set("good", http.StatusServiceUnavailable)
	look(2*time.Hour, metav1.ConditionTrue, 20)
	look(time.Second, metav1.ConditionTrue, 30)

	o.store.set("good", 0)
	look(time.Minute, metav1.ConditionFalse, 20)
	reads := o.store.reads
	look(time.Second, metav1.ConditionFalse, 30)
	if o.store.reads > reads {
		t.Errorf("%d claims were read again only to tell that they had been read", o.store.reads-reads)
	}
}
