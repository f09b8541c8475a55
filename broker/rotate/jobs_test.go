package rotate_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// jobs are the Jobs of a bench, whose controller the test plays, and the system whose
// password they set.
type jobs struct {
	b *bench
	// ends says how a hook ends that does not go well, by what it is.
	ends map[string]ending
	// knows is the password that the system accepts.
	knows string
	// users are those whose password was set or tried, where there are several.
	users map[string]string
	// saw are the files of the last hook that ran, by what it is.
	saw map[string]map[string]string
	// ran are the names of those that did.
	ran []string
}

// ending of a hook.
type ending struct {
	// hangs: not before it is stopped.
	hangs bool
	// says is what it writes to /dev/termination-log, given its files.
	says func(files map[string]string) string
}

// withJobs has a rotation set and verify by Jobs, in a namespace where they can run.
func withJobs(t interface{ Helper() }, b *bench) *bench {
	t.Helper()
	b.create(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: b.of.Namespace, Name: "privyseal-rotation"}})
	b.jobs = &jobs{b: b, knows: "first", ends: map[string]ending{}, saw: map[string]map[string]string{}, users: map[string]string{}}
	return b
}

func job(command ...string) v1alpha1.RotationJob {
	return v1alpha1.RotationJob{Image: "psql:1", Command: command, Env: []v1alpha1.RotationJobVariable{{Name: "PGHOST", Value: "db"}}}
}

// hooks are what most tests here add to a spec.
func hooks(spec *v1alpha1.SecretRotationSpec) {
	verify := job("verify")
	spec.Set, spec.Verify.Job = &v1alpha1.RotationSet{Job: job("set")}, &verify
}

func (j *jobs) list() []batchv1.Job {
	j.b.Helper()
	var all batchv1.JobList
	if err := j.b.api.List(j.b.Context(), &all, client.InNamespace(j.b.of.Namespace)); err != nil {
		j.b.Fatal(err)
	}
	return all.Items
}

// left are the values that are in any Secret of the namespace.
func (j *jobs) left() []string {
	j.b.Helper()
	var all corev1.SecretList
	if err := j.b.api.List(j.b.Context(), &all, client.InNamespace(j.b.of.Namespace)); err != nil {
		j.b.Fatal(err)
	}
	var left []string
	for _, secret := range all.Items {
		for key := range secret.Data {
			left = append(left, secret.Name+"/"+key)
		}
	}
	return left
}

// play the controller of Jobs, and their pods.
func (j *jobs) play() {
	if j == nil {
		return
	}
	j.b.Helper()
	for _, job := range j.list() {
		suspended := job.Spec.Suspend != nil && *job.Spec.Suspend
		if suspended || len(job.Status.Conditions) > 0 {
			continue
		}
		how := j.ends[job.Labels[v1alpha1.LabelHook]]
		switch {
		case how.hangs && *job.Spec.ActiveDeadlineSeconds != 1:
		case how.hangs:
			j.finish(&job, batchv1.JobFailed, "DeadlineExceeded")
		default:
			j.run(&job, how)
		}
	}
}

// run a Job's pod.
func (j *jobs) run(job *batchv1.Job, how ending) {
	j.b.Helper()
	files := j.files(job)
	j.ran = append(j.ran, job.Name)
	j.saw[job.Labels[v1alpha1.LabelHook]] = files
	if how.says != nil {
		j.fail(job, how.says(files))
		return
	}
	j.users[files["new/user"]] = files["new/password"]
	switch password := files["new/password"]; job.Labels[v1alpha1.LabelHook] {
	case "set", "set-back":
		j.knows = password
	default:
		if j.knows != password {
			j.b.Errorf("the system knows %q, and %s has %q", j.knows, job.Name, password)
		}
	}
	j.finish(job, batchv1.JobComplete, "")
}

// files that a pod of the Job sees.
func (j *jobs) files(job *batchv1.Job) map[string]string {
	j.b.Helper()
	secret := &corev1.Secret{}
	volume := job.Spec.Template.Spec.Volumes[0].Secret
	if err := j.b.api.Get(j.b.Context(), client.ObjectKey{Namespace: job.Namespace, Name: volume.SecretName}, secret); err != nil {
		j.b.Fatalf("the Job runs without its values: %v", err)
	}
	files := map[string]string{}
	for _, item := range volume.Items {
		files[item.Path] = string(secret.Data[item.Key])
	}
	return files
}

// fail with a pod that says why.
func (j *jobs) fail(job *batchv1.Job, says string) {
	j.b.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: job.Namespace, Name: job.Name + "-x", Labels: map[string]string{batchv1.JobNameLabel: job.Name}}}
	pod.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(job, batchv1.SchemeGroupVersion.WithKind("Job"))}
	pod.Spec = job.Spec.Template.Spec
	j.b.create(pod)
	pod.Status.Phase = corev1.PodFailed
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "hook", Image: "psql:1", State: corev1.ContainerState{
		Terminated: &corev1.ContainerStateTerminated{ExitCode: 3, Reason: "Error", Message: says},
	}}}
	if err := j.b.api.Status().Update(j.b.Context(), pod); err != nil {
		j.b.Fatal(err)
	}
	j.finish(job, batchv1.JobFailed, "BackoffLimitExceeded")
}

// finish as the controller does, in two steps that the API server wants.
func (j *jobs) finish(job *batchv1.Job, how batchv1.JobConditionType, reason string) {
	j.b.Helper()
	now := metav1.Now()
	first := map[batchv1.JobConditionType]batchv1.JobConditionType{batchv1.JobComplete: batchv1.JobSuccessCriteriaMet, batchv1.JobFailed: batchv1.JobFailureTarget}[how]
	job.Status.StartTime = &now
	for _, condition := range []batchv1.JobConditionType{first, how} {
		job.Status.Conditions = append(job.Status.Conditions, batchv1.JobCondition{Type: condition, Status: corev1.ConditionTrue, Reason: reason})
	}
	if how == batchv1.JobComplete {
		job.Status.CompletionTime, job.Status.Succeeded = &now, 1
	}
	if err := j.b.api.Status().Update(j.b.Context(), job); err != nil {
		j.b.Fatal(err)
	}
}

// kinds of the Jobs that ran, in order, without those that ran before.
func (j *jobs) kinds() string {
	var kinds []string
	for _, name := range j.ran {
		parts := strings.Split(name, "-"+fmt.Sprintf("%.8s", j.b.rotation().UID)+"-")
		kinds = append(kinds, parts[len(parts)-1])
	}
	return strings.Join(kinds, " ")
}

// twice are the Jobs that ran more than once.
func (j *jobs) twice() []string {
	count := map[string]int{}
	for _, name := range j.ran {
		count[name]++
	}
	maps.DeleteFunc(count, func(_ string, n int) bool { return n == 1 })
	return slices.Sorted(maps.Keys(count))
}
