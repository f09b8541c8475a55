package restart_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/annotation"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/broker/waits"
	"github.com/privyseal/privyseal/broker/window"
)

// elsewhen is a clock that goes as every clock does, and can be set.
type elsewhen struct {
	mu    sync.Mutex
	ahead time.Duration
}

func clockAt(text string) *elsewhen {
	e := &elsewhen{}
	e.set(text)
	return e
}

func (e *elsewhen) set(text string) {
	to, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ahead = time.Until(to)
}

func (e *elsewhen) Now() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return time.Now().Add(e.ahead)
}

func (e *elsewhen) Since(t time.Time) time.Duration { return e.Now().Sub(t) }

// weekend is a blackout from Friday, 6 June 2031, 18:00 to Monday 06:00.
func weekend() v1alpha1.Window {
	return v1alpha1.Window{Kind: v1alpha1.WindowBlackout, Schedule: "0 18 * * 5", Duration: metav1.Duration{Duration: 60 * time.Hour}}
}

// environment makes the one that the test's namespace is in.
func (c *cluster) environment(windows ...v1alpha1.Window) {
	c.Helper()
	made := &v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: c.namespace}, Spec: v1alpha1.EnvironmentSpec{
		NamespaceSelector: metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: c.namespace}},
		Stores:            []string{"vault"}, Root: "kv", Paths: []string{"kv/**"}, Windows: windows,
	}}
	c.must(c.client.Create(c.Context(), made))
	c.Cleanup(func() { _ = c.client.Delete(c.Context(), made) })
}

// opened gives the environment other windows.
func (c *cluster) opened(windows ...v1alpha1.Window) {
	c.Helper()
	found := &v1alpha1.Environment{}
	c.must(c.client.Get(c.Context(), types.NamespacedName{Name: c.namespace}, found))
	found.Spec.Windows = windows
	c.must(c.client.Update(c.Context(), found))
}

// figure is what a metric of the daemon says of the test's environment; "none"
// where it says nothing.
func (c *cluster) figure(name string) string {
	c.Helper()
	families, err := c.metrics.Gather()
	c.must(err)
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, metric := range family.GetMetric() {
			if strings.Contains(metric.String(), fmt.Sprintf("value:%q", c.namespace)) {
				return fmt.Sprint(metric.GetGauge().GetValue())
			}
		}
	}
	return "none"
}

// waits waits until the daemon knows that as many workloads wait, the latest of
// them with this change of a target.
func (c *cluster) waits(d daemon, workloads int, target string, sequence int64) waits.Deferral {
	c.Helper()
	var found waits.Deferral
	c.until(fmt.Sprint(workloads, " workloads wait"), func() bool {
		if c.figure("privyseal_restarts_deferred") != fmt.Sprint(workloads) {
			return false // it may not even have begun
		}
		var err error
		found, err = d.Deferred(c.Context(), c.key(target))
		c.must(err)
		return found.Sequence == sequence
	})
	return found
}

// Twenty Secrets change in a blackout, many times, while three daemons come and
// go. Nothing restarts. Then it ends, and each consumer is patched once.
func whatChangesInABlackoutIsOnePatchAtItsEnd(c *cluster) {
	const targets, workloads = 20, 24
	set := clockAt("2031-06-06T17:00:00Z")
	c.clock = set
	c.environment(weekend())
	name := func(i int) string { return fmt.Sprintf("db-%02d", i%targets) }
	for i := range targets {
		c.claim(name(i), "", "password=a")
	}
	var all []part
	for i := range targets {
		all = append(all, envFrom(name(i)))
	}
	c.deployment("everything", all...)
	for i := range workloads {
		c.deployment(fmt.Sprintf("web-%02d", i), envKey(name(i), "password"), volume(name(i+1)))
	}
	c.deployment("stranger", envFrom("other"))
	c.deployment("current", envKey("db-00", "user")) // a key that does not change
	changes := func() (sequence int64) {
		for i := range targets {
			c.change(name(i), fmt.Sprintf("password=%d", c.now))
		}
		return c.now
	}
	none := func(when string) {
		c.Helper()
		if requests := c.requests(); len(requests) > 0 {
			c.Fatal(when, "it sends", requests)
		}
	}

	// Before the blackout a change is what it always was.
	first := c.daemon()
	c.dealtWith()
	c.change("db-00", "password=before")
	before := c.now
	c.expect("everything", "1 %s", line(targets, 0, before))
	c.dealtWith()
	if diff := cmp.Diff([]string{"PATCH everything", "PATCH web-00", "PATCH web-19", "PATCH web-20"}, c.requests()); diff != "" {
		c.Fatal(diff)
	}
	for _, rolled := range []string{"everything", "web-00", "web-19", "web-20", "canary"} {
		if c.web(rolled) != "0" {
			c.rollout(rolled)
		}
	}
	c.dealtWith()
	c.requests()
	first.stop()

	set.set("2031-06-06T18:00:00Z")
	for killed := range 3 {
		d := c.daemon()
		found := c.waits(d, workloads+1, name(targets-1), changes())
		if found.Hold.Cause != waits.Closed || !found.Hold.Until.Equal(time.Date(2031, 6, 9, 6, 0, 0, 0, time.UTC)) {
			c.Fatalf("it waits %s", found.Hold.Says())
		}
		counts, err := d.Consumers(c.Context(), c.key(name(5)))
		if diff := cmp.Diff(v1alpha1.Consumers{Stale: 3}, counts); diff != "" || err != nil {
			c.Error(diff, err)
		}
		d.stop()
		none(fmt.Sprint("in the blackout, as daemon ", killed+1, ","))
		set.set(fmt.Sprintf("2031-06-%02dT%02d:00:00Z", 7+killed%2, rand.IntN(24)))
	}
	changes() // while nobody looks

	set.set("2031-06-09T05:59:45Z")
	c.daemon()
	c.until("all wait", func() bool { return c.figure("privyseal_restarts_deferred") == fmt.Sprint(workloads+1) })
	if age := c.figure("privyseal_restarts_deferred_oldest_seconds"); age == "none" || age == "0" {
		c.Errorf("the oldest waits for %s s", age)
	}
	none("before the end")
	c.until("nobody waits", func() bool { return c.figure("privyseal_restarts_deferred") == "none" })
	if !set.Now().After(time.Date(2031, 6, 9, 6, 0, 0, 0, time.UTC)) {
		c.Error("it went before the end")
	}
	c.until("everything is patched", func() bool { return strings.HasSuffix(c.web("everything"), fmt.Sprint("=", c.now)) })
	c.dealtWith()
	want := []string{"PATCH everything"}
	for i := range workloads {
		want = append(want, fmt.Sprintf("PATCH web-%02d", i))
	}
	if diff := cmp.Diff(want, c.requests()); diff != "" {
		c.Error(diff)
	}
}

// line is that of a workload that reads all of so many targets, of which one
// has changed.
func line(targets, changed int, sequence int64) string {
	var line []string
	for i := range targets {
		of := int64(0)
		if i == changed {
			of = sequence
		}
		line = append(line, fmt.Sprintf("db-%02d=%d", i, of))
	}
	return strings.Join(line, ",")
}

func otherWindowsLetGoWhatWaits(c *cluster) {
	c.clock = clockAt("2031-06-07T12:00:00Z")
	c.environment(weekend())
	c.claim("db", "", "password=a")
	c.deployment("web", envFrom("db"))
	d := c.daemon()
	c.change("db", "password=b")
	c.waits(d, 1, "db", c.now)

	// The first maintenance window of the coming days is no better.
	sunday := v1alpha1.Window{Kind: v1alpha1.WindowMaintenance, Schedule: "0 2 * * 0", Duration: metav1.Duration{Duration: 2 * time.Hour}}
	c.opened(sunday)
	c.until("it waits for Sunday", func() bool {
		found, err := d.Deferred(c.Context(), c.key("db"))
		c.must(err)
		return found.Hold.Until.Equal(time.Date(2031, 6, 8, 2, 0, 0, 0, time.UTC))
	})
	if got := c.web("web"); got != "0" {
		c.Errorf("it was patched: %s", got)
	}
	c.opened()
	c.expect("web", "1 db=%d", c.now)

	// A namespace that leaves the environment leaves its windows.
	c.rollout("web")
	c.opened(weekend())
	c.change("db", "password=c")
	c.waits(d, 1, "db", c.now)
	c.must(c.client.Delete(c.Context(), &v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: c.namespace}}))
	c.expect("web", "2 db=%d", c.now)
}

// What cannot be understood lets nothing restart, and is told where people look.
func windowsThatCannotBeUsedLetNothingRestart(c *cluster) {
	c.clock = clockAt("2031-06-04T12:00:00Z")
	atlantis, always := weekend(), weekend()
	atlantis.TimeZone = "Europe/Atlantis"
	always.Schedule = "0 0 * * *"
	c.environment(weekend(), atlantis)
	c.claim("db", "", "password=a")
	c.deployment("web", envFrom("db"))
	d := c.daemon()
	c.change("db", "password=b")
	if found := c.waits(d, 1, "db", c.now); found.Hold.Cause != waits.Unknown || !strings.Contains(found.Hold.Says(), `spec.windows[1].timeZone "Europe/Atlantis"`) {
		c.Errorf("it waits %s", found.Hold.Says())
	}
	c.unusable(v1alpha1.ReasonWindowsMalformed, `spec.windows[1].timeZone "Europe/Atlantis"`)
	if got := c.figure("privyseal_windows_unusable"); got != "1" {
		c.Errorf("the metric says %s", got)
	}

	c.opened(always)
	c.unusable(v1alpha1.ReasonWindowsNeverOpen, "leave no time for restarts")
	c.until("it waits for ever", func() bool {
		found, err := d.Deferred(c.Context(), c.key("db"))
		c.must(err)
		return found.Hold.Cause == waits.NeverOpen
	})
	if got := c.web("web"); got != "0" {
		c.Errorf("it was patched: %s", got)
	}

	c.opened(weekend()) // it is Wednesday
	c.expect("web", "1 db=%d", c.now)
	c.unusable("", "")
	if got := c.figure("privyseal_windows_unusable"); got != "none" {
		c.Errorf("the metric still says %s", got)
	}

	// Two environments that both have the namespace: nobody knows whose windows.
	c.rollout("web")
	second := &v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: c.namespace + "-too"}, Spec: v1alpha1.EnvironmentSpec{
		NamespaceSelector: metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: c.namespace}},
		Stores:            []string{"vault"}, Root: "kv", Paths: []string{"kv/**"},
	}}
	c.must(c.client.Create(c.Context(), second))
	c.until("they both have it", func() bool {
		c.change("db", fmt.Sprint("password=", c.now))
		found, err := d.Deferred(c.Context(), c.key("db"))
		c.must(err)
		return found.Hold.Cause == waits.Unknown
	})
	c.until("it waits with the last change", func() bool {
		found, err := d.Deferred(c.Context(), c.key("db"))
		c.must(err)
		return found.Sequence == c.now && strings.Contains(found.Hold.Says(), "in more than one environment")
	})
	c.must(c.client.Delete(c.Context(), second))
	c.until("it goes on", func() bool { return strings.HasSuffix(c.web("web"), fmt.Sprint(" db=", c.now)) })
}

// unusable waits until the environment's condition has a reason, and looks for
// a part of its message; without a reason, until there is none.
func (c *cluster) unusable(reason, part string) {
	c.Helper()
	var message string
	c.until("WindowsUnusable is "+reason, func() bool {
		found := &v1alpha1.Environment{}
		c.must(c.client.Get(c.Context(), types.NamespacedName{Name: c.namespace}, found))
		condition := meta.FindStatusCondition(found.Status.Conditions, v1alpha1.ConditionWindowsUnusable)
		if condition == nil {
			return reason == ""
		}
		message = condition.Message
		return condition.Reason == reason
	})
	if !strings.Contains(message, part) {
		c.Errorf("WindowsUnusable says %s", message)
	}
}

// A reason lets go what waits with the changes that it was noted for, and
// nothing that comes later.
func aReasonLetsGoWhatWaitsAndNothingElse(c *cluster) {
	c.clock = clockAt("2031-06-07T12:00:00Z")
	c.environment(weekend())
	c.claim("db", "", "password=a")
	c.claim("tls", "", "crt=a")
	c.deployment("web", envFrom("db"), volume("tls"))
	c.deployment("job", envFrom("db"))
	d := c.daemon()
	c.change("db", "password=b")
	first := c.now
	c.waits(d, 2, "db", first)

	// On a workload, it is asked to be noted, and lets nothing go before it is.
	deployment := &appsv1.Deployment{ObjectMeta: c.meta("web")}
	c.annotate(deployment, "customers are locked out")
	var asked map[string]string
	c.until("it is asked", func() bool {
		found, err := d.Deferred(c.Context(), c.key("db"))
		c.must(err)
		asked = found.Asked
		return len(asked) > 0
	})
	if diff := cmp.Diff(map[string]string{"Deployment/web": "customers are locked out"}, asked); diff != "" {
		c.Error(diff)
	}
	c.note("db", v1alpha1.RestartNow{Workload: "Deployment/web", Reason: "customers are locked out", Sequence: first})
	c.expect("web", "2 db=%d,tls=0", first) // the annotation counts as a change of a Deployment
	if got := c.web("job"); got != "0" {
		c.Errorf("the other workload was patched too: %s", got)
	}
	c.rollout("web")

	// The next change waits, though the annotation is there still.
	c.change("db", "password=c")
	second := c.now
	c.waits(d, 2, "db", second)
	c.change("tls", "crt=b")
	c.waits(d, 2, "tls", c.now)
	if web, job := c.web("web"), c.web("job"); web != fmt.Sprintf("2 db=%d,tls=0", first) || job != "0" {
		c.Errorf("web has %q and job %q", web, job)
	}

	// On a claim, it is for all who read its Secret.
	c.note("db",
		v1alpha1.RestartNow{Workload: "Deployment/web", Reason: "customers are locked out", Sequence: first},
		v1alpha1.RestartNow{Reason: "leaked", Sequence: second})
	c.annotate(&v1alpha1.SecretClaim{ObjectMeta: c.meta("db")}, " leaked ")
	c.expect("web", "3 db=%d,tls=%d", second, c.now) // the one patch covers the other change too
	c.expect("job", "1 db=%d", second)
	c.until("it is told", func() bool { return len(c.notes("job")) > 0 })
	if diff := cmp.Diff([]string{fmt.Sprintf("Deployment RestartedNow: restarting though the environment's windows forbid it, "+
		"since privyseal.io/restart-now says \"leaked\", for db (password changed, sequence %d)", second)}, c.notes("job")); diff != "" {
		c.Error(diff)
	}
	c.rollout("web")
	c.rollout("job")

	c.change("db", "password=d")
	c.waits(d, 2, "db", c.now)
	d.stop()
	if diff := cmp.Diff([]string{"PATCH job", "PATCH web", "PATCH web"}, c.requests()); diff != "" {
		c.Error(diff)
	}
}

func (c *cluster) annotate(object client.Object, reason string) {
	c.Helper()
	c.must(c.client.Patch(c.Context(), object, client.RawPatch(types.MergePatchType,
		fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, annotation.RestartNow, reason))))
}

// note does what the claim's controller does with a reason.
func (c *cluster) note(name string, noted ...v1alpha1.RestartNow) {
	c.Helper()
	claim := &v1alpha1.SecretClaim{}
	c.must(c.client.Get(c.Context(), c.key(name), claim))
	claim.Status.RestartNow = slices.Clone(noted)
	c.must(c.client.Status().Update(c.Context(), claim))
}

// What the API server refuses by the CRD's rules, the parser refuses too. What
// the parser alone refuses takes a database of zones, or a calendar.
func windowsAreRefusedByBoth(c *cluster) {
	spoilt := func(spoil func(*v1alpha1.Window)) v1alpha1.Window {
		w := weekend()
		spoil(&w)
		return w
	}
	for i, row := range []struct {
		name         string
		window       v1alpha1.Window
		api, parsing bool // refuses
	}{
		{"a good one", weekend(), false, false},
		{"no kind", spoilt(func(w *v1alpha1.Window) { w.Kind = "" }), true, true},
		{"no schedule", spoilt(func(w *v1alpha1.Window) { w.Schedule = "" }), true, true},
		{"a zone in the schedule", spoilt(func(w *v1alpha1.Window) { w.Schedule = "TZ=UTC 0 18 * * 5" }), true, true},
		{"six fields", spoilt(func(w *v1alpha1.Window) { w.Schedule = "0 0 18 * * 5" }), true, true},
		{"every day by name", spoilt(func(w *v1alpha1.Window) { w.Schedule = "@daily" }), true, true},
		{"a long schedule", spoilt(func(w *v1alpha1.Window) { w.Schedule = strings.Repeat("0,", 99) + "0 * * * *" }), true, true},
		{"no duration", spoilt(func(w *v1alpha1.Window) { w.Duration.Duration = 0 }), true, true},
		{"the shortest", spoilt(func(w *v1alpha1.Window) { w.Duration.Duration = time.Minute }), false, false},
		{"too short", spoilt(func(w *v1alpha1.Window) { w.Duration.Duration = time.Minute - 1 }), true, true},
		{"the longest", spoilt(func(w *v1alpha1.Window) { w.Duration.Duration = 744 * time.Hour }), false, false},
		{"too long", spoilt(func(w *v1alpha1.Window) { w.Duration.Duration = 744*time.Hour + 1 }), true, true},
		{"a zone", spoilt(func(w *v1alpha1.Window) { w.TimeZone = "America/Argentina/Buenos_Aires" }), false, false},
		{"the machine's zone", spoilt(func(w *v1alpha1.Window) { w.TimeZone = "Local" }), true, true},
		{"a long zone", spoilt(func(w *v1alpha1.Window) { w.TimeZone = strings.Repeat("Europe/", 99) }), true, true},
		{"an unknown zone", spoilt(func(w *v1alpha1.Window) { w.TimeZone = "Europe/Atlantis" }), false, true},
		{"a date that is not", spoilt(func(w *v1alpha1.Window) { w.Schedule = "0 18 30 2 *" }), false, true},
		{"minute 60", spoilt(func(w *v1alpha1.Window) { w.Schedule = "60 18 * * 5" }), false, true},
	} {
		made := &v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint(c.namespace, "-", i)}, Spec: v1alpha1.EnvironmentSpec{
			NamespaceSelector: metav1.LabelSelector{MatchLabels: map[string]string{"nobody": "has"}},
			Stores:            []string{"vault"}, Root: "kv", Paths: []string{"kv/**"}, Windows: []v1alpha1.Window{row.window},
		}}
		err := c.client.Create(c.Context(), made)
		if err != nil && !apierrors.IsInvalid(err) {
			c.Fatal(err)
		}
		if err == nil {
			c.must(c.client.Delete(c.Context(), made))
		}
		if (err != nil) != row.api {
			c.Errorf("%s: the API server says %v", row.name, err)
		}
		w := row.window
		_, err = window.Parse([]window.Window{{Kind: window.Kind(w.Kind), Schedule: w.Schedule, Duration: w.Duration.Duration, TimeZone: w.TimeZone}})
		if (err != nil) != row.parsing {
			c.Errorf("%s: the parser says %v", row.name, err)
		}
	}
}
