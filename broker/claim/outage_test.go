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

// How often claims are read. One that is read seldom is due in no second that a
// test looks at it.
const (
	often  = 5 * time.Minute
	seldom = 1000 * time.Hour
)

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

func (a *ailing) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.reads
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
		Clock: o.clock, LastAlive: o.clock.Now(),
	})
}

func (o *outage) ask(name string, interval time.Duration) {
	o.Helper()
	o.create(&v1alpha1.SecretClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: name},
		Spec: v1alpha1.SecretClaimSpec{
			Sources: []v1alpha1.Source{{Path: "db"}},
			Refresh: &v1alpha1.Refresh{Interval: &metav1.Duration{Duration: interval}},
		},
	})
}

// later moves the clock and has the daemon look at a claim, and again for as
// long as it wants that at once: after a Secret comes the status.
func (o *outage) later(wait time.Duration, name string) reconcile.Result {
	o.Helper()
	o.clock.SetTime(o.clock.Now().Add(wait))
	for {
		result, err := o.daemon.Reconcile(o.Context(), reconcile.Request{NamespacedName: o.key(name)})
		if err != nil {
			o.Fatal(err)
		}
		if result.RequeueAfter == 0 || result.RequeueAfter > time.Millisecond {
			return result
		}
	}
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

func TestOutagesOfTheStore(t *testing.T) {
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
		t.Run(row.says, func(t *testing.T) { b.outage(t).changesNothingForAnHour(fmt.Sprintf("db-%d", i), row.fault) })
	}
	t.Run("a claim that is refused for long is stale too", func(t *testing.T) { b.outage(t).refusedForLong("refused") })
	t.Run("stale claims take turns to tell", func(t *testing.T) { b.outage(t).takesTurns() })
}

func (o *outage) changesNothingForAnHour(db string, fault int) {
	o.ask(db, often)
	o.later(0, db)
	o.tells(db, "Ready=True Synced")
	claim, secret := o.claim(db), o.secret(o.key(db))
	same := func(when string) {
		o.Helper()
		if diff := cmp.Diff(claim, o.claim(db)); diff != "" {
			o.Errorf("%s, the claim changed:\n%s", when, diff)
		}
		if diff := cmp.Diff(secret, o.secret(o.key(db))); diff != "" {
			o.Errorf("%s, the Secret changed:\n%s", when, diff)
		}
	}

	o.store.set("good", fault)
	if result := o.later(often, db); result.RequeueAfter > 30*time.Second {
		o.Errorf("the next try is in %s", result.RequeueAfter)
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
		o.Errorf("Ready changed:\n%s", diff)
	}
	if got := o.daemon.StaleClaims(); got != 1 {
		o.Errorf("%d claims are stale, want 1", got)
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
		o.Errorf("the Secret holds %q after the outage", got)
	}
	if got := o.daemon.StaleClaims(); got != 0 {
		o.Errorf("%d claims are stale after the outage", got)
	}
}

func (o *outage) refusedForLong(db string) {
	o.ask(db, often)
	o.later(0, db)
	o.store.set("good", http.StatusForbidden)
	o.later(often, db)
	o.tells(db, "Ready=False SourceDenied")
	o.later(time.Hour, db)
	o.tells(db, "Ready=False SourceDenied, Stale=True SourceDenied")
	o.store.set("good", http.StatusServiceUnavailable)
	o.later(time.Minute, db)
	o.tells(db, "Ready=False SourceDenied, Stale=True StoreUnavailable")
	o.store.set("good", 0)
	o.later(time.Minute, db)
	o.tells(db, "Ready=True Synced, Stale=False Fresh")
}

// takesTurns has 22 claims, of which 20 may tell at once.
func (o *outage) takesTurns() {
	var names []string
	for i := range 22 {
		names = append(names, fmt.Sprintf("turn-%d", i))
		o.ask(names[i], seldom)
	}
	look := func(wait time.Duration, stale metav1.ConditionStatus, want int) {
		o.Helper()
		o.clock.SetTime(o.clock.Now().Add(wait))
		told := 0
		for _, name := range names {
			result := o.later(0, name)
			condition := meta.FindStatusCondition(o.claim(name).Status.Conditions, v1alpha1.ConditionStale)
			if condition != nil && condition.Status == stale {
				told++
			} else if result.RequeueAfter > 30*time.Second {
				o.Errorf("claim %s has not told, and tries again in %s", name, result.RequeueAfter)
			}
		}
		if told != want {
			o.Errorf("%d claims are Stale=%s, want %d", told, stale, want)
		}
	}
	for _, name := range names {
		o.later(0, name)
	}
	o.store.set("good", http.StatusServiceUnavailable)
	look(4*seldom, metav1.ConditionTrue, 20)
	look(time.Second, metav1.ConditionTrue, 22)

	o.store.set("good", 0)
	look(time.Minute, metav1.ConditionFalse, 20)
	reads := o.store.count()
	look(time.Second, metav1.ConditionFalse, 22)
	if more := o.store.count() - reads; more > 0 {
		o.Errorf("%d claims were read again only to tell that they had been read", more)
	}
}
