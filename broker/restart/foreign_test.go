package restart_test

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/annotation"
	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/foreign"
	"github.com/privyseal/privyseal/broker/reloader"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

const (
	auto         = reloader.Auto
	secretReload = "secret.reloader.stakater.com/reload"
	mapReload    = "configmap.reloader.stakater.com/reload"
)

// secret makes or changes a Secret of somebody else's, with contents as in
// "password=a".
func (c *cluster) secret(name string, contents ...string) {
	c.Helper()
	data := map[string][]byte{}
	for _, content := range contents {
		key, value, _ := strings.Cut(content, "=")
		data[key] = []byte(value)
	}
	secret := &corev1.Secret{ObjectMeta: c.meta(name)}
	err := c.client.Get(c.Context(), c.key(name), secret)
	if errors.IsNotFound(err) {
		secret.Data = data
		c.must(c.client.Create(c.Context(), secret))
		return
	}
	c.must(err)
	secret.Data = data
	c.must(c.client.Update(c.Context(), secret))
}

func (c *cluster) settings(name string, contents ...string) {
	c.Helper()
	data := map[string]string{}
	for _, content := range contents {
		key, value, _ := strings.Cut(content, "=")
		data[key] = value
	}
	settings := &corev1.ConfigMap{ObjectMeta: c.meta(name)}
	err := c.client.Get(c.Context(), c.key(name), settings)
	if errors.IsNotFound(err) {
		settings.Data = data
		c.must(c.client.Create(c.Context(), settings))
		return
	}
	c.must(err)
	settings.Data = data
	c.must(c.client.Update(c.Context(), settings))
}

// reloaded makes a Deployment whose metadata carries these annotations.
func (c *cluster) reloaded(name string, annotations map[string]string, parts ...part) {
	c.Helper()
	c.deploy(name, annotations, nil, parts...)
}

func (c *cluster) says(object client.Object, annotations map[string]string) {
	c.Helper()
	text := []string{}
	for key, value := range annotations {
		text = append(text, fmt.Sprintf("%q:%q", key, value))
	}
	patch := `{"metadata":{"annotations":{` + strings.Join(text, ",") + `}}}`
	c.must(c.client.Patch(c.Context(), object, client.RawPatch(types.MergePatchType, []byte(patch))))
}

func settingsVolume(name string, keys ...string) part {
	return func(spec *corev1.PodSpec) {
		spec.Volumes = append(spec.Volumes, corev1.Volume{VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: name}, Items: items(keys)}}})
	}
}

// record is what is remembered of the namespace.
func (c *cluster) record() *corev1.ConfigMap {
	c.Helper()
	record := &corev1.ConfigMap{}
	err := c.client.Get(c.Context(), c.key(foreign.RecordName), record)
	if !errors.IsNotFound(err) {
		c.must(err)
	}
	return record
}

// remembers waits until these are remembered: "secret/db".
func (c *cluster) remembers(targets ...string) {
	c.Helper()
	for _, target := range targets {
		kind, name, _ := foreign.CutTarget(target)
		c.until(target+" is remembered", func() bool {
			return strings.Contains(c.record().Data[string(kind)], fmt.Sprintf("%q:", name))
		})
	}
}

func (c *cluster) forgot(target string) {
	c.Helper()
	kind, name, _ := foreign.CutTarget(target)
	c.until(target+" is forgotten", func() bool {
		return !strings.Contains(c.record().Data[string(kind)], fmt.Sprintf("%q:", name))
	})
}

var sequences = regexp.MustCompile(`=\d+`)

// looks waits until a Deployment's line is as given, with N for sequences.
func (c *cluster) looks(name, want string) {
	c.Helper()
	c.until(fmt.Sprintf("%s has %q (it has %q)", name, want, c.web(name)), func() bool {
		return sequences.ReplaceAllString(c.web(name), "=N") == want
	})
}

// allDealtWith waits until daemons have dealt with what was done before, also
// to what is not ours, for which another workload is there.
func (c *cluster) allDealtWith() {
	c.Helper()
	if c.tick == 0 {
		c.secret("canary-theirs", "tick=0")
		c.reloaded("canary-theirs", map[string]string{secretReload: "canary-theirs"})
	}
	c.remembers("secret/canary-theirs")
	c.tick++
	before := c.web("canary-theirs")
	c.secret("canary-theirs", fmt.Sprint("tick=", c.tick))
	c.until("the canary of others is patched", func() bool { return c.web("canary-theirs") != before })
	c.dealtWith()
}

// quietly says that nothing is sent for what was done before.
func (c *cluster) quietly(what string) {
	c.Helper()
	c.allDealtWith()
	if requests := c.requests(); len(requests) > 0 {
		c.Fatal(what, "sends", requests)
	}
}

func whatIsNotOursIsOnePatchForOneChange(c *cluster) {
	c.reloader = &reloader.Options{}
	c.secret("db", "password=a", "user=u")
	c.settings("settings", "level=info", "color=red")
	c.reloaded("web", map[string]string{auto: "true"}, envKey("db", "password"), settingsVolume("settings", "level"))
	c.reloaded("named", map[string]string{secretReload: "api, d.+", mapReload: "settings"})
	c.annotated("template", map[string]string{auto: "true"}, envFrom("db"))
	c.reloaded("excluded", map[string]string{auto: "true", "secrets.exclude.reloader.stakater.com/reload": "db"}, envFrom("db"))
	c.deployment("stranger", envFrom("db"), settingsVolume("settings"))

	// Installing restarts nobody.
	first := c.daemon()
	c.remembers("secret/db", "configmap/settings")
	c.quietly("installing")

	// Two that change together are one patch.
	c.secret("db", "password=b", "user=u")
	c.settings("settings", "level=debug", "color=red")
	c.looks("web", "1 configmap/settings=N,secret/db=N")
	c.looks("named", "1 configmap/settings=N,secret/db=N")
	c.looks("template", "1 secret/db=N")
	c.allDealtWith()
	if diff := cmp.Diff([]string{"PATCH named", "PATCH template", "PATCH web"}, c.requests()); diff != "" {
		c.Fatal(diff)
	}
	for _, name := range []string{"web", "named", "template"} {
		c.rollout(name)
	}
	c.quietly("the end of rollouts")

	// A key that a workload does not read is none of its business, unless it is
	// the name that it asks for.
	c.secret("db", "password=b", "user=v")
	c.looks("named", "2 configmap/settings=N,secret/db=N")
	c.looks("template", "2 secret/db=N")
	c.allDealtWith()
	if diff := cmp.Diff([]string{"PATCH named", "PATCH template"}, c.requests()); diff != "" {
		c.Fatal(diff)
	}
	c.rollout("named")
	c.rollout("template")

	// What changes no content changes nothing.
	c.says(&corev1.Secret{ObjectMeta: c.meta("db")}, map[string]string{"note": "seen"})
	c.quietly("a note on the Secret")
	db := &corev1.Secret{}
	c.must(c.client.Get(c.Context(), c.key("db"), db))
	c.must(c.client.Delete(c.Context(), db))
	c.quietly("deleting it")
	c.secret("db", "password=b", "user=v")
	c.quietly("making it again")

	// A daemon that starts again writes nothing, and finds what changed while
	// there was none, once.
	first.stop()
	before := c.record()
	second := c.daemon()
	c.dealtWith()
	if requests, after := c.requests(), c.record(); len(requests) > 0 || after.ResourceVersion != before.ResourceVersion {
		c.Fatal("starting again sends", requests, "and writes", after.ResourceVersion != before.ResourceVersion)
	}
	second.stop()
	c.secret("db", "password=c", "user=v")
	third := c.daemon()
	c.looks("web", "2 configmap/settings=N,secret/db=N")
	c.looks("named", "3 configmap/settings=N,secret/db=N")
	c.looks("template", "3 secret/db=N")
	c.allDealtWith()
	third.stop()
	c.daemon()
	c.allDealtWith()
	if diff := cmp.Diff([]string{"PATCH named", "PATCH template", "PATCH web"}, c.requests()); diff != "" {
		c.Fatal(diff)
	}
	if text := fmt.Sprint(c.record().Data); strings.Contains(text, `"c"`) || !strings.Contains(text, `"kid":"k1-`) {
		c.Error("the record holds", text)
	}
}

func whatIsSeenFirstIsNoChange(c *cluster) {
	c.reloader = &reloader.Options{}
	c.secret("db", "password=a")
	c.deployment("web", envFrom("db"))
	first := c.daemon()
	c.allDealtWith()
	c.requests()

	// What nobody asks for is not read, and so its change is not known.
	c.secret("db", "password=b")
	// A Deployment's generation counts its annotations too.
	deployment := &appsv1.Deployment{ObjectMeta: c.meta("web")}
	c.says(deployment, map[string]string{auto: "true"})
	c.remembers("secret/db")
	c.quietly("asking for it")
	c.secret("db", "password=c")
	c.looks("web", "2 secret/db=N")
	c.rollout("web")

	// A record that is lost is written again by the daemon that has it in mind.
	// For the next one it is a beginning.
	lose := func() {
		c.must(c.client.Delete(c.Context(), &corev1.ConfigMap{ObjectMeta: c.meta(foreign.RecordName)}))
	}
	lose()
	c.secret("db", "password=d")
	c.looks("web", "3 secret/db=N")
	c.rollout("web")
	c.allDealtWith()
	c.requests()
	first.stop()
	lose()
	c.secret("db", "password=e")
	second := c.daemon()
	c.remembers("secret/db")
	c.quietly("a record that is lost")

	// So is one that somebody spoilt, as far as it cannot be read.
	second.stop()
	record := c.record()
	record.Data["secret"] = "{"
	c.must(c.client.Update(c.Context(), record))
	c.secret("db", "password=f")
	c.daemon()
	c.remembers("secret/db")
	c.quietly("a record that is spoilt")

	// What nobody asks for any more is forgotten.
	c.must(c.client.Patch(c.Context(), deployment, client.RawPatch(types.MergePatchType,
		[]byte(`{"metadata":{"annotations":{"reloader.stakater.com/auto":null}}}`))))
	c.forgot("secret/db")
	c.secret("db", "password=g")
	c.says(deployment, map[string]string{auto: "true"})
	c.remembers("secret/db")
	c.quietly("asking for it again")
}

// Reloader's own marks are on the template: the digest that it leaves there, and
// what it restarted for. They stay as they are.
func whatReloaderLeftRestartsNobody(c *cluster) {
	c.reloader = &reloader.Options{}
	c.secret("db", "password=a")
	digest := func(spec *corev1.PodSpec) {
		spec.Containers[0].Env = append(spec.Containers[0].Env, corev1.EnvVar{Name: "STAKATER_DB_SECRET", Value: "8f1c2d"})
	}
	c.deploy("web", map[string]string{auto: "true"},
		map[string]string{"reloader.stakater.com/last-reloaded-from": `{"type":"SECRET","name":"db","hash":"8f1c2d"}`},
		envKey("db", "password"), digest)
	c.daemon()
	c.remembers("secret/db")
	c.quietly("what Reloader left")
	c.secret("db", "password=b")
	c.looks("web", "1 secret/db=N")
	deployment := &appsv1.Deployment{ObjectMeta: c.meta("web")}
	c.line(deployment)
	if env := deployment.Spec.Template.Spec.Containers[0].Env; len(env) != 2 || env[1].Value != "8f1c2d" {
		c.Error("the container's variables are", env)
	}
}

// A Secret of ours has its history already, and its claim's rules; names reach
// it all the same.
func whatIsOursIsRestartedForByItsOwnHistory(c *cluster) {
	c.reloader = &reloader.Options{}
	c.claim("db", "", "password=a")
	c.claim("manual", v1alpha1.RestartNever, "password=a")
	c.claim("shared", "", "password=a")
	c.merged("shared")
	c.reloaded("named", map[string]string{secretReload: "db,manual"})
	c.reloaded("reader", map[string]string{auto: "true"}, envFrom("db"), envFrom("manual"))
	c.reloaded("sharing", map[string]string{auto: "true"}, envFrom("shared"))
	c.daemon()
	c.remembers("secret/shared")
	c.quietly("installing")

	c.change("db", "password=b")
	c.expect("named", "1 db=%d,manual=0", c.now)
	c.expect("reader", "1 db=%d,manual=0", c.now)
	c.change("manual", "password=b")
	c.allDealtWith()
	if diff := cmp.Diff([]string{"PATCH named", "PATCH reader"}, c.requests()); diff != "" {
		c.Fatal(diff)
	}
	if record := c.record().Data["secret"]; strings.Contains(record, `"db"`) {
		c.Error("it is remembered beside its own history:", record)
	}

	// In a Secret that a claim merges into, the other keys are not ours.
	shared := &corev1.Secret{}
	c.must(c.client.Get(c.Context(), c.key("shared"), shared))
	shared.Data = map[string][]byte{"password": []byte("a"), "host": []byte("new")}
	c.must(c.client.Update(c.Context(), shared))
	c.looks("sharing", "1 secret/shared=N,shared=N")
	c.rollout("sharing")
	c.allDealtWith()
	c.requests()
	c.must(c.client.Get(c.Context(), c.key("shared"), shared))
	shared.Data["password"] = []byte("b")
	c.must(c.client.Update(c.Context(), shared))
	c.quietly("a key of the claim, before its history says so,")
}

func whatHasNoEffectIsTold(c *cluster) {
	c.reloader = &reloader.Options{}
	c.secret("db", "password=a")
	c.reloaded("web", map[string]string{secretReload: "a(,db"})
	c.daemon()
	c.remembers("secret/db")
	c.until("it is told", func() bool { return len(c.notes("web")) > 0 })
	if notes := strings.Join(c.notes("web"), "\n"); !strings.Contains(notes, "Deployment ReloaderAnnotation: annotation "+secretReload) {
		c.Error("it is told as", notes)
	}
	c.quietly("an expression that does not compile")
	c.secret("db", "password=b")
	c.looks("web", "1 secret/db=N")
}

// Without the option, nothing is read and nothing written.
func withoutTheOptionReloadersAnnotationsAreNotRead(c *cluster) {
	c.secret("db", "password=a")
	c.reloaded("web", map[string]string{auto: "true"}, envFrom("db"))
	c.daemon()
	c.dealtWith()
	c.secret("db", "password=b")
	c.dealtWith()
	if requests, record := c.requests(), c.record(); len(requests) > 0 || record.Name != "" {
		c.Error("it sends", requests, "and remembers", record.Data)
	}
}

// A change of what is not ours waits for windows as others do, whichever daemon
// sees it.
func whatIsNotOursWaitsForWindows(c *cluster) {
	c.reloader = &reloader.Options{}
	c.secret("db", "password=a")
	c.settings("settings", "level=info")
	c.reloaded("web", map[string]string{auto: "true"}, envFrom("db"), settingsVolume("settings"))
	began := time.Now().UTC().Add(-5 * time.Minute)
	c.environment(v1alpha1.Window{Kind: v1alpha1.WindowBlackout, TimeZone: "UTC", Duration: metav1.Duration{Duration: 3 * time.Hour},
		Schedule: fmt.Sprintf("%d %d * * *", began.Minute(), began.Hour())})
	first := c.daemon()
	c.remembers("secret/db", "configmap/settings")
	c.secret("db", "password=b")
	waits := func() bool { return c.figure("privyseal_restarts_deferred") == "1" }
	c.until("it waits", waits)
	first.stop()
	c.settings("settings", "level=debug")
	c.daemon()
	c.until("it waits again", waits)
	c.until("the other is known too", func() bool { return strings.Count(c.record().Data["configmap"], ",0]") == 1 })
	if requests := c.requests(); len(requests) > 0 {
		c.Fatal("in the blackout it sends", requests)
	}
	c.says(&appsv1.Deployment{ObjectMeta: c.meta("web")}, map[string]string{annotation.RestartNow: "in a hurry"})
	c.until("it is told that this is not heard", func() bool {
		return strings.Contains(strings.Join(c.notes("web"), "\n"), "annotation "+annotation.RestartNow+" has no effect here")
	})
	c.opened()
	c.looks("web", "2 configmap/settings=N,secret/db=N")
	c.allDealtWith()
	if diff := cmp.Diff([]string{"PATCH web"}, c.requests()); diff != "" {
		c.Error(diff)
	}
}

// A pause gathers what changes while it lasts. Whoever leads then ends it.
func aPauseIsOneRolloutAndEnds(c *cluster) {
	c.reloader = &reloader.Options{}
	c.secret("db", "password=a")
	c.reloaded("web", map[string]string{auto: "true", reloader.PausePeriod: "4s"}, envFrom("db"))
	c.reloaded("theirs", map[string]string{auto: "true", reloader.PausePeriod: "4s"}, envFrom("db"))
	theirs := &appsv1.Deployment{ObjectMeta: c.meta("theirs")}
	c.must(c.client.Patch(c.Context(), theirs, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"paused":true}}`))))
	web := &appsv1.Deployment{ObjectMeta: c.meta("web")}
	paused := func() bool {
		c.line(web)
		return web.Spec.Paused && web.Annotations[reloader.PausedAt] != ""
	}
	goesOn := func() bool {
		c.line(web)
		_, marked := web.Annotations[reloader.PausedAt]
		return !web.Spec.Paused && !marked
	}
	first := c.daemon()
	c.remembers("secret/db")
	c.secret("db", "password=b")
	c.looks("web", "1 secret/db=N")
	if !paused() {
		c.Fatal("it is not paused:", web.Spec.Paused, web.Annotations)
	}
	since := web.Annotations[reloader.PausedAt]
	c.secret("db", "password=c")
	c.looks("web", "2 secret/db=N")
	if !paused() || web.Annotations[reloader.PausedAt] != since {
		c.Error("a second change makes the pause longer, or ends it:", web.Annotations)
	}
	first.stop()
	c.daemon()
	c.until("it goes on", goesOn)
	c.rollout("web")

	// With a line on the template it is another patch.
	c.secret("db", "password=d")
	c.until("it is paused again", paused)
	c.until("it goes on again", goesOn)
	c.line(theirs)
	if _, marked := theirs.Annotations[reloader.PausedAt]; !theirs.Spec.Paused || marked {
		c.Error("the pause of somebody else is", theirs.Spec.Paused, theirs.Annotations)
	}
	c.until("it is told", func() bool { return strings.Contains(strings.Join(c.notes("web"), "\n"), "Deployment Resumed: ") })
}

// Two pauses end at once, and the budget lets one roll: the other goes on when that
// is through.
func theEndOfAPauseWaitsForItsTurn(c *cluster) {
	c.reloader = &reloader.Options{}
	c.secret("db", "password=a")
	names := []string{"one", "two"}
	for _, name := range names {
		c.reloaded(name, map[string]string{auto: "true", reloader.PausePeriod: "6s"}, envFrom("db"))
		c.ready(name)
	}
	paused := func() (still []string) {
		for _, name := range names {
			web := &appsv1.Deployment{ObjectMeta: c.meta(name)}
			if c.line(web); web.Spec.Paused {
				still = append(still, name)
			}
		}
		return still
	}
	c.daemon()
	c.remembers("secret/db")
	c.secret("db", "password=b")
	c.until("both are paused", func() bool { return len(paused()) == 2 })
	c.bounded(&v1alpha1.Restarts{MaxConcurrent: new(int32(1))})
	c.until("one goes on", func() bool { return len(paused()) == 1 })
	waits := paused()[0]
	brokertest.Throughout(c.T, 5*time.Second, func(context.Context) error {
		if still := paused(); !slices.Equal(still, []string{waits}) {
			return fmt.Errorf("%v are paused", still)
		}
		return nil
	})
	goes := names[1-slices.Index(names, waits)]
	c.rollout(goes)
	c.ready(goes)
	c.until("the other goes on too", func() bool { return len(paused()) == 0 })
}
