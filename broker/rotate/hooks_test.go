package rotate_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/annotation"
	"github.com/privyseal/privyseal/broker/rotate"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/rotation"
)

func quantity(cpu string) map[string]resource.Quantity {
	return map[string]resource.Quantity{"cpu": resource.MustParse(cpu)}
}

func newHooked(t *testing.T, change func(*v1alpha1.SecretRotationSpec)) *bench {
	t.Helper()
	return withJobs(t, newBench(t, func(spec *v1alpha1.SecretRotationSpec) {
		hooks(spec)
		if change != nil {
			change(spec)
		}
	}))
}

func TestARotationSetsTheSystemBeforeTheStoreAndVerifiesAfterThePods(t *testing.T) {
	t.Parallel()
	b := newHooked(t, nil)
	daemon := b.daemon()
	b.atThree(daemon)
	b.until(daemon, rotation.Done)
	if ran := b.jobs.kinds(); ran != "1-set-0 1-verify-0" {
		t.Errorf("there ran %s", ran)
	}
	if b.jobs.knows != b.password() || len(b.password()) != 64 {
		t.Error("the system and the store have different passwords")
	}
	b.must(len(b.jobs.list()) == 0 && len(b.jobs.left()) == 0 && b.record() == nil, "something is left: %v", b.jobs.left())
}

// However the daemon dies at any request that changes something, each hook runs once,
// and the system and the store end with the same value.
func TestADaemonThatDiesAtAnyRequestRunsEachHookOnce(t *testing.T) {
	t.Parallel()
	brief := func(spec *v1alpha1.SecretRotationSpec) {
		spec.Set.Timeout = &metav1.Duration{Duration: 10 * time.Second}
	}
	for _, way := range []struct {
		name string
		ends map[string]ending
		ran  string
		// at is which requests it dies at; empty: all.
		at    string
		least int
	}{
		{"verify fails", map[string]ending{"verify": {says: func(map[string]string) string { return "no" }}}, "1-set-0 1-verify-0 1-set-back-0", "", 25},
		{"set hangs", map[string]ending{"set": {hangs: true}}, "1-set-back-0", "changing a Job", 3},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			live := func(m *mortal) *bench {
				b := newHooked(t, brief)
				b.jobs.ends = way.ends
				b.atThree(b.daemon())
				dying := b.daemonWith(m.client(b.api), m.store(stores{b.store}))
				for m.died == "" && b.status().Phase != string(rotation.RolledBack) {
					result, err := b.step(dying)
					if err != nil && m.died == "" {
						t.Fatal(err)
					}
					b.later(result.RequeueAfter)
				}
				return b
			}
			unharmed := &mortal{}
			b := live(unharmed)
			for n, what := range unharmed.sent {
				if !strings.HasPrefix(what, way.at) {
					continue
				}
				way.least--
				deaths := []bool{true}
				if n == 0 || way.at != "" { // else to die before it is to die after the one before
					deaths = []bool{false, true}
				}
				for _, done := range deaths {
					b.gone() // each look lists all that there are
					m := &mortal{at: n + 1, done: done}
					b = live(m)
					b.until(b.daemon(), rotation.RolledBack)
					t.Logf("killed at %2d, %-22s done: %-5t ran: %s", n+1, m.died, done, b.jobs.kinds())
					b.must(m.died != "" && b.jobs.kinds() == way.ran && len(b.jobs.twice()) == 0, "there ran %s", b.jobs.kinds())
					b.must(b.jobs.knows == "first" && b.password() == "first", "the old password is not back")
					b.must(len(b.jobs.list()) == 0 && len(b.jobs.left()) == 0 && b.record() == nil, "left are %v", b.jobs.left())
				}
			}
			if way.least > 0 {
				t.Errorf("it takes %d requests less than it must", way.least)
			}
		})
	}
}

func TestAVerifyThatFailsIsToldWithoutTheValuesThatItSaid(t *testing.T) {
	t.Parallel()
	b := newHooked(t, nil)
	var password string
	b.jobs.ends["verify"] = ending{says: func(files map[string]string) string {
		password = files["new/password"]
		quoted, err := json.Marshal(password)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("FATAL: no user app with %s, %s, %s, %s\n", password, quoted,
			base64.StdEncoding.EncodeToString([]byte("app:"+password)), hex.EncodeToString([]byte(password)))
	}}
	daemon := b.daemon()
	b.atThree(daemon)
	b.until(daemon, rotation.RolledBack)
	b.must(b.password() == "first" && b.jobs.knows == "first", "the old password is not back")
	why := b.status().Why
	for _, part := range []string{"verify failed: Job " + b.of.Namespace + "/privyseal-rotation-db-", "exit code 3", "FATAL: no user app with [redacted], "} {
		b.must(strings.Contains(why, part), "it does not say %q", part)
	}
	status, err := json.Marshal(b.rotation())
	if err != nil {
		t.Fatal(err)
	}
	for _, said := range []string{string(status), b.told()} {
		for _, form := range []string{password, hex.EncodeToString([]byte(password)), base64.StdEncoding.EncodeToString([]byte(password))[:40]} {
			if strings.Contains(said, form) {
				t.Errorf("a value is in %s", said)
			}
		}
	}
}

func TestASetThatHangsIsStoppedWhenItsTimeIsOver(t *testing.T) {
	t.Parallel()
	b := newHooked(t, func(spec *v1alpha1.SecretRotationSpec) { spec.Set.Timeout = &metav1.Duration{Duration: time.Minute} })
	b.jobs.ends["set"] = ending{hangs: true}
	daemon := b.daemon()
	b.atThree(daemon)
	b.until(daemon, rotation.RolledBack)
	b.must(strings.Contains(b.status().Why, "did not end in time"), "it does not say so")
	b.must(b.document().Version == 2 && b.password() == "first" && b.jobs.knows == "first", "it was written")
	if waited := b.clock.Now().Sub(three()); waited < time.Minute || waited > 2*time.Minute {
		t.Errorf("it was waited for %s", waited)
	}
}

func TestASetBackThatFailsHaltsAndIsTriedAgainByAnotherJob(t *testing.T) {
	t.Parallel()
	b := newHooked(t, nil)
	no := ending{says: func(map[string]string) string { return "no" }}
	b.jobs.ends["verify"], b.jobs.ends["set-back"] = no, no
	daemon := b.daemon()
	b.atThree(daemon)
	b.until(daemon, rotation.Halted)
	b.must(strings.Contains(b.status().Why, "verify failed") && strings.Contains(b.status().Why, "setting the system back failed too"), "it does not say both")
	b.must(b.record() != nil && len(b.jobs.left()) == 0, "a hook that ended keeps its values")
	delete(b.jobs.ends, "set-back")
	b.annotate(annotation.RotationOrder, "Retry")
	b.until(daemon, rotation.RolledBack)
	if ran := b.jobs.kinds(); !strings.HasSuffix(ran, "1-set-back-0 1-set-back-1") || b.jobs.knows != "first" {
		t.Errorf("there ran %s", ran)
	}
	b.must(len(b.jobs.list()) == 0, "Jobs are left")
}

func TestAHookIsThatOfTheSpecThatTheAttemptBeganWith(t *testing.T) {
	t.Parallel()
	b := newHooked(t, nil)
	daemon := b.daemon()
	b.atThree(daemon)
	b.jobs.ends["set"] = ending{hangs: true}
	for b.status().Phase != string(rotation.Setting) || len(b.jobs.list()) == 0 {
		if _, err := b.step(daemon); err != nil {
			t.Fatal(err)
		}
	}
	of := b.rotation()
	of.Spec.Set, of.Spec.Verify.Job.Command = nil, []string{"another"}
	if err := b.api.Update(t.Context(), of); err != nil {
		t.Fatal(err)
	}
	delete(b.jobs.ends, "set")
	for b.status().Phase != string(rotation.Verifying) || len(b.jobs.list()) < 2 {
		if _, err := b.step(daemon); err != nil {
			t.Fatal(err)
		}
	}
	for _, job := range b.jobs.list() {
		if command := job.Spec.Template.Spec.Containers[0].Command[0]; command == "another" {
			t.Errorf("%s runs %q", job.Name, command)
		}
	}
	b.until(daemon, rotation.Done)
}

func TestAnObjectOfSomebodyElseIsNeverTouched(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"Job", "Secret"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := newHooked(t, nil)
			name := metav1.ObjectMeta{Namespace: b.of.Namespace, Name: fmt.Sprintf("privyseal-rotation-db-%.8s-1-set-0", b.rotation().UID)}
			var theirs client.Object = &corev1.Secret{ObjectMeta: name, Data: map[string][]byte{"a": []byte("theirs")}}
			if kind == "Job" {
				pod := corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "a", Image: "a"}}}
				theirs = &batchv1.Job{ObjectMeta: name, Spec: batchv1.JobSpec{Suspend: new(bool), Template: corev1.PodTemplateSpec{Spec: pod}}}
				*theirs.(*batchv1.Job).Spec.Suspend = true
			}
			b.create(theirs)
			before := theirs.GetResourceVersion()
			daemon := b.daemon()
			b.atThree(daemon)
			b.until(daemon, rotation.RolledBack)
			b.must(strings.Contains(b.status().Why, kind+" "+name.Namespace+"/"+name.Name+" is there and is somebody else's"), "it does not say so")
			if err := b.api.Get(t.Context(), client.ObjectKeyFromObject(theirs), theirs); err != nil || theirs.GetResourceVersion() != before {
				t.Errorf("it was touched: %v", err)
			}
			b.must(b.jobs.kinds() == "1-set-back-0" && b.password() == "first", "there ran %s", b.jobs.kinds())
		})
	}
}

func TestWhatKeepsAHookFromRunningIsToldWhileItWaits(t *testing.T) {
	t.Parallel()
	b := newHooked(t, func(spec *v1alpha1.SecretRotationSpec) {
		spec.Set.Timeout = &metav1.Duration{Duration: 10 * time.Second}
	})
	b.jobs.ends["set"] = ending{hangs: true}
	daemon := b.daemon()
	b.atThree(daemon)
	b.until(daemon, rotation.Setting)
	says := func(part string) {
		t.Helper()
		b.run(daemon)
		b.must(strings.Contains(b.condition(v1alpha1.ConditionRotated).Message, part), "it does not say %q", part)
	}
	job := b.jobs.list()[0]
	event := &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: job.Namespace, GenerateName: "refused-"},
		InvolvedObject: corev1.ObjectReference{Kind: "Job", Namespace: job.Namespace, Name: job.Name, UID: job.UID},
		Reason:         "FailedCreate", Message: "exceeded quota: pods", LastTimestamp: metav1.Now(), Type: corev1.EventTypeWarning,
	}
	b.create(event)
	says("its pod cannot be made: exceeded quota: pods")
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: job.Namespace, Name: "privyseal-rotation"}}
	if err := b.api.Delete(t.Context(), account); err != nil {
		t.Fatal(err)
	}
	says("kubectl create serviceaccount privyseal-rotation -n " + job.Namespace)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: job.Namespace, Name: "hook", Labels: map[string]string{batchv1.JobNameLabel: job.Name}}}
	pod.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(&job, batchv1.SchemeGroupVersion.WithKind("Job"))}
	pod.Spec = job.Spec.Template.Spec
	b.create(pod)
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "hook", Image: "psql:1", State: corev1.ContainerState{
		Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "no such image"},
	}}}
	if err := b.api.Status().Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	says("its pod waits: ImagePullBackOff: no such image")
	if err := b.api.Delete(t.Context(), pod, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	b.create(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: job.Namespace, Name: "privyseal-rotation"}})
	b.until(daemon, rotation.RolledBack)
	b.must(strings.Contains(b.status().Why, "did not end in time"), "it does not say why it failed")
}

func TestAJobThatCannotRunIsRefusedWhenItIsWritten(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		change func(*v1alpha1.SecretRotationSpec)
		says   []string
	}{
		{"more requested than allowed", func(s *v1alpha1.SecretRotationSpec) {
			s.Set.Job.Resources = v1alpha1.RotationJobResources{Requests: quantity("2"), Limits: quantity("1")}
		}, []string{"spec.set.job", "must be less than or equal to cpu limit"}},
		{"a resource of nobody", func(s *v1alpha1.SecretRotationSpec) {
			s.Verify.Job.Resources.Limits = quantity("1")
			s.Verify.Job.Resources.Limits["gold"] = s.Verify.Job.Resources.Limits["cpu"]
		}, []string{"spec.verify.job", "gold"}},
		{"a key that can be no file", func(s *v1alpha1.SecretRotationSpec) { s.Generate["a/b"] = s.Generate["password"] }, []string{`spec.generate["a/b"]`, "file"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			b := newHooked(t, row.change)
			b.run(b.daemon())
			ready := b.condition(v1alpha1.ConditionReady)
			for _, part := range row.says {
				b.must(ready.Reason == v1alpha1.ReasonRotationInvalid && strings.Contains(ready.Message, part), "it does not say %q", part)
			}
		})
	}
	t.Run("no service account", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, hooks)
		b.run(b.daemon())
		ready := b.condition(v1alpha1.ConditionReady)
		b.must(ready.Status == metav1.ConditionFalse && strings.Contains(ready.Message, "kubectl create serviceaccount privyseal-rotation -n "+b.of.Namespace), "it does not say so")
		withJobs(t, b)
		b.run(b.daemon())
		b.must(b.condition(v1alpha1.ConditionReady).Status == metav1.ConditionTrue, "it is still refused")
	})
	t.Run("no Jobs at all", func(t *testing.T) {
		t.Parallel()
		b := newHooked(t, nil)
		daemon := rotate.New(rotate.Config{
			Client: b.api, Live: b.api, Places: b.world, Store: stores{b.store}, Claims: b.world, Workloads: b.world,
			Keys: keys{b.key}, Namespace: system, Events: b.events, Clock: b.clock,
		})
		b.run(daemon)
		ready := b.condition(v1alpha1.ConditionReady)
		b.must(ready.Status == metav1.ConditionFalse && strings.Contains(ready.Message, "spec.set.job") && strings.Contains(ready.Message, "rotation.jobs"), "it does not say so")
	})
}

// Others suspend Jobs too, to queue them. It is not for the daemon to let one go twice.
func TestAHookThatSomebodySuspendsIsWaitedForAndStopped(t *testing.T) {
	t.Parallel()
	b := newHooked(t, func(spec *v1alpha1.SecretRotationSpec) {
		spec.Set.Timeout = &metav1.Duration{Duration: 10 * time.Second}
	})
	b.jobs.ends["set"] = ending{hangs: true}
	daemon := b.daemon()
	b.atThree(daemon)
	b.until(daemon, rotation.Setting)
	job := b.jobs.list()[0]
	*job.Spec.Suspend = true
	if err := b.api.Update(t.Context(), &job); err != nil {
		t.Fatal(err)
	}
	b.run(daemon)
	b.must(strings.Contains(b.condition(v1alpha1.ConditionRotated).Message, "somebody suspended it"), "it does not say so")
	b.until(daemon, rotation.RolledBack)
	b.must(strings.Contains(b.status().Why, "somebody suspended it"), "it does not say why it did not end in time")
}

func TestAJobsNameFitsIntoALabelAndTellsAttemptsApart(t *testing.T) {
	for _, name := range []string{"db", "a.b", strings.Repeat("long-", 50)} {
		of := &v1alpha1.SecretRotation{ObjectMeta: metav1.ObjectMeta{Name: name, UID: "0b1c2d3e-0000-4000-8000-000000000000"}}
		seen := map[string]bool{}
		for attempt := 1; attempt < 2_000_000; attempt += 999_999 {
			for round := range 12 {
				for _, kind := range []string{"set", "set-back", "verify"} {
					made := rotate.HookName(of, kind, attempt, round)
					if problems := validation.IsDNS1123Label(made); len(problems) > 0 || seen[made] || !strings.HasPrefix(made, "privyseal-rotation-") {
						t.Errorf("%s: %v, there before: %t", made, problems, seen[made])
					}
					seen[made] = true
				}
			}
		}
	}
}

func TestNoValueIsInAJob(t *testing.T) {
	t.Parallel()
	b := newHooked(t, nil)
	b.jobs.ends["set"] = ending{hangs: true}
	daemon := b.daemon()
	b.atThree(daemon)
	b.until(daemon, rotation.Setting)
	job := b.jobs.list()[0]
	files := b.jobs.files(&job)
	if len(files) != 2 || files["old/password"] != "first" || len(files["new/password"]) != 64 {
		t.Fatalf("the files are %v", files)
	}
	text, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&job)
	if err != nil {
		t.Fatal(err)
	}
	if said := fmt.Sprint(text); strings.Contains(said, "first") || strings.Contains(said, files["new/password"]) {
		t.Errorf("a value is in %s", said)
	}
	pod := job.Spec.Template.Spec
	if *pod.AutomountServiceAccountToken || pod.ServiceAccountName != "privyseal-rotation" || len(job.OwnerReferences) != 1 {
		t.Errorf("it runs as %q", pod.ServiceAccountName)
	}
	var secret corev1.Secret
	if err := b.api.Get(t.Context(), client.ObjectKeyFromObject(&job), &secret); err != nil || !metav1.IsControlledBy(&secret, &job) {
		t.Errorf("the values do not go with the Job: %v", err)
	}
}
