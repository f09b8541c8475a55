package rotate

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/rotation"
)

// What a hook is, as its name, its label and its environment say.
const (
	hookSet     = "set"
	hookSetBack = "set-back"
	hookVerify  = "verify"
)

const (
	// hookPrefix begins the names of all hooks, of their pods and their Secrets;
	// the policy privyseal-hooks lets the daemon make no other Job.
	hookPrefix = "privyseal-rotation-"
	// hookAccount is the service account of all hooks, of which they get no token.
	hookAccount = "privyseal-rotation"
	// hookFiles is where their values are.
	hookFiles = "/var/run/privyseal"
	// valuesVolume is the volume that has them.
	valuesVolume = "values"
	// hookUser is whom they run as, whatever their image says.
	hookUser = 65532
	// maxJobName is that of a label's value, which the Job's pods have it in.
	maxJobName = 63
	// hookGrace is how long one that is stopped has to end by itself, in seconds.
	hookGrace = 10
)

// hook is one run of a Job, of an attempt and a round.
type hook struct {
	of      *v1alpha1.SecretRotation
	kind    string
	job     v1alpha1.RotationJob
	timeout time.Duration
	attempt int
	round   int
	// record that has the values, by its UID.
	record string
	files  []file
	// credentials that it needs too; zero: none. They are read when they are needed.
	credentials providers.Ref
}

// file is a value that a hook can read. A Secret's keys may not be called what a
// document's may, so they are numbered, and the path has the key.
type file struct {
	key, path string
	value     providers.Value
}

// filesOf a change: new is what the system shall know, and old what it knows. A
// key that is not there has no file.
func filesOf(kind string, change rotation.Change) []file {
	sides := map[string]map[string]providers.Value{"new": change.After, "old": change.Before}
	switch kind {
	case hookSetBack:
		sides["new"], sides["old"] = change.Before, change.After
	case hookVerify:
		delete(sides, "old")
	}
	var files []file
	for _, side := range slices.Sorted(maps.Keys(sides)) {
		for i, key := range change.Keys {
			if value, there := sides[side][key]; there {
				files = append(files, file{key: fmt.Sprintf("%s-%d", side, i), path: side + "/" + key, value: value})
			}
		}
	}
	return files
}

// name is another for each attempt, kind and round, and for a rotation that was
// made again under the same name.
func (h hook) name() string {
	tail := fmt.Sprintf("-%.8s-%d-%s-%d", h.of.UID, h.attempt, h.kind, h.round)
	name := strings.ReplaceAll(h.of.Name, ".", "-")
	name = name[:min(len(name), maxJobName-len(hookPrefix)-len(tail))]
	return hookPrefix + strings.TrimRight(name, "-") + tail
}

func (h hook) labels() map[string]string {
	return map[string]string{v1alpha1.LabelRotationUID: string(h.of.UID), v1alpha1.LabelHook: h.kind}
}

// made is the Job, which does not run yet: its name is taken first, and its values
// are made for it.
func (h hook) made() *batchv1.Job {
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: h.of.Namespace, Name: h.name(), Labels: h.labels(),
			Annotations: map[string]string{
				v1alpha1.AnnotationRotation: h.of.Namespace + "/" + h.of.Name,
				v1alpha1.AnnotationRecord:   h.record,
				v1alpha1.AnnotationAttempt:  strconv.Itoa(h.attempt),
			},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: v1alpha1.GroupVersion.String(), Kind: "SecretRotation", Name: h.of.Name, UID: h.of.UID,
				Controller: ptr.To(true),
			}},
		},
		Spec: batchv1.JobSpec{
			Suspend:               ptr.To(true),
			BackoffLimit:          ptr.To[int32](0),
			ActiveDeadlineSeconds: ptr.To(int64((h.timeout + time.Second - 1) / time.Second)),
			// A pod that its node was drained of has not failed, and another takes
			// its place once it is gone.
			PodReplacementPolicy: ptr.To(batchv1.Failed),
			PodFailurePolicy: &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{
				Action:          batchv1.PodFailurePolicyActionIgnore,
				OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}},
			}}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: h.labels()}, Spec: h.pod()},
		},
	}
}

// pod passes the Pod Security level restricted, whatever the spec says.
func (h hook) pod() corev1.PodSpec {
	values := &corev1.SecretVolumeSource{SecretName: h.name(), DefaultMode: ptr.To[int32](0o440)}
	for _, file := range h.files {
		values.Items = append(values.Items, corev1.KeyToPath{Key: file.key, Path: file.path})
	}
	return corev1.PodSpec{
		RestartPolicy:                 corev1.RestartPolicyNever,
		ServiceAccountName:            hookAccount,
		AutomountServiceAccountToken:  ptr.To(false),
		EnableServiceLinks:            ptr.To(false),
		TerminationGracePeriodSeconds: ptr.To[int64](hookGrace),
		SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To[int64](hookUser), RunAsGroup: ptr.To[int64](hookUser), FSGroup: ptr.To[int64](hookUser),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		Volumes: []corev1.Volume{
			{Name: valuesVolume, VolumeSource: corev1.VolumeSource{Secret: values}},
			{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: ptr.To(resource.MustParse("64Mi"))}}},
		},
		Containers: []corev1.Container{h.container()},
	}
}

func (h hook) container() corev1.Container {
	env := []corev1.EnvVar{
		{Name: "PRIVYSEAL_HOOK", Value: h.kind},
		{Name: "PRIVYSEAL_ROTATION", Value: h.of.Namespace + "/" + h.of.Name},
		// Of this attempt and of none that ever was.
		{Name: "PRIVYSEAL_ATTEMPT", Value: fmt.Sprintf("%s-%d", h.of.UID, h.attempt)},
	}
	for _, variable := range h.job.Env {
		env = append(env, corev1.EnvVar{Name: variable.Name, Value: variable.Value})
	}
	return corev1.Container{
		Name: "hook", Image: h.job.Image, ImagePullPolicy: h.job.ImagePullPolicy, Command: h.job.Command, Args: h.job.Args, Env: env,
		Resources: corev1.ResourceRequirements{Limits: amounts(h.job.Resources.Limits), Requests: amounts(h.job.Resources.Requests)},
		VolumeMounts: []corev1.VolumeMount{
			{Name: valuesVolume, MountPath: hookFiles, ReadOnly: true},
			{Name: "tmp", MountPath: "/tmp"},
		},
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: ptr.To(false), ReadOnlyRootFilesystem: ptr.To(true), Privileged: ptr.To(false),
			Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
	}
}

func amounts(given map[string]resource.Quantity) corev1.ResourceList {
	if len(given) == 0 {
		return nil
	}
	list := make(corev1.ResourceList, len(given))
	for name, amount := range given {
		list[corev1.ResourceName(name)] = amount
	}
	return list
}

// values are what the Job reads, and go with it.
func (h hook) values(job *batchv1.Job) *corev1.Secret {
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: job.Namespace, Name: job.Name, Labels: h.labels(),
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: batchv1.SchemeGroupVersion.String(), Kind: "Job", Name: job.Name, UID: job.UID, Controller: ptr.To(true),
			}},
		},
		Type: corev1.SecretTypeOpaque, Data: make(map[string][]byte, len(h.files)),
	}
	for _, file := range h.files {
		secret.Data[file.key] = file.value.Bytes()
	}
	return secret
}

// isOf says whether a Job is this hook, and not somebody else's of the same name.
func (h hook) isOf(job *batchv1.Job) bool {
	owner := metav1.GetControllerOf(job)
	return owner != nil && owner.UID == h.of.UID && job.Annotations[v1alpha1.AnnotationRecord] == h.record
}

// hookOf is the hook that has something to do in a state; none where there is no
// such hook, or where its values are gone.
func (l *look) hookOf() (hook, bool) {
	if l.record == nil || string(l.record.uid) != l.state.Record {
		return hook{}, false
	}
	h := hook{of: l.of, attempt: l.state.Attempt, round: l.state.Round, record: l.state.Record}
	job, timeouts := l.record.jobs[hookSet], l.plan.Timeouts.OrDefaults()
	phase := l.state.Phase
	if phase == rotation.Halted {
		phase = l.state.HaltedIn
	}
	switch phase {
	case rotation.Setting:
		h.kind, h.timeout = hookSet, timeouts.Set
	case rotation.RollingBack, rotation.Forgetting:
		h.kind, h.timeout = hookSetBack, timeouts.Set
	case rotation.Verifying:
		h.kind, h.timeout, job = hookVerify, timeouts.Verify, l.record.jobs[hookVerify]
	}
	if h.kind == "" || job == nil {
		return hook{}, false
	}
	h.job, h.files = *job, filesOf(h.kind, l.record.change)
	if h.kind != hookVerify {
		h.credentials = l.record.credentials
	}
	return h, true
}

// progress of a Job. It has failed, or succeeded, for good, and only once no pod of
// it runs any more.
func progress(job *batchv1.Job) rotation.Hook {
	is := rotation.Running
	for _, condition := range job.Status.Conditions {
		if condition.Status != corev1.ConditionTrue {
			continue
		}
		switch condition.Type {
		case batchv1.JobComplete:
			is = rotation.Succeeded
		case batchv1.JobFailed:
			is = rotation.Failed
		}
	}
	gone := job.Status.Active == 0 && ptr.Deref(job.Status.Terminating, 0) == 0
	switch {
	case is != rotation.Running && gone:
		return is
	case is == rotation.Running && waitsForValues(job):
		return rotation.NotRun
	}
	return rotation.Running
}

// waitsForValues says whether a Job was made, and never let go.
func waitsForValues(job *batchv1.Job) bool {
	return ptr.Deref(job.Spec.Suspend, false) && job.DeletionTimestamp.IsZero() && job.Annotations[v1alpha1.AnnotationReleased] == ""
}
