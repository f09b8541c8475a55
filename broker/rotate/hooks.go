package rotate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/rotation"
)

// seen is how far a hook is, asked of the API server itself. A hook is begun by three
// requests, with a look before each: the Job, which does not run yet and takes the
// name; its values; and its release. So one who comes too late leaves a Job that does
// not run, values that go since their Job is gone, or nothing.
type seen struct {
	hook
	// job; nil: there is none.
	job *batchv1.Job
	// values of the job, looked up where they matter; nil: there are none.
	values *corev1.Secret
	is     rotation.Hook
	// why it fails, or waits; empty where nobody can say.
	why string
}

// spent says that a hook has ended, and its values are still there.
func (s *seen) spent() bool {
	ended := s != nil && (s.is == rotation.Succeeded || s.is == rotation.Failed)
	return ended && s.values != nil && len(s.values.Data) > 0
}

// clear all values.
func (s *seen) clear() {
	if s == nil {
		return
	}
	clearFiles(s.files)
	if s.values != nil {
		for _, value := range s.values.Data {
			clear(value)
		}
	}
}

// waits says what a hook that runs waits for; empty: for nothing.
func (s *seen) waits() string {
	if s == nil || s.is != rotation.Running {
		return ""
	}
	return s.why
}

// seeHook looks at the hook that has something to do in the state.
func (r *Reconciler) seeHook(ctx context.Context, l *look) error {
	h, wanted := l.hookOf()
	if !wanted {
		return nil
	}
	l.hook = &seen{hook: h}
	if err := r.seeJob(ctx, l.hook); err != nil {
		return err
	}
	if err := r.explain(ctx, l); err != nil {
		return err
	}
	switch h.kind {
	case hookSet:
		l.facts.Set = l.hook.is
	case hookSetBack:
		l.facts.SetBack = l.hook.is
	case hookVerify:
		l.facts.Verify = l.hook.is
	}
	if l.hook.is == rotation.Failed {
		l.facts.Failure = l.hook.why
	}
	return nil
}

func (r *Reconciler) seeJob(ctx context.Context, s *seen) error {
	job := &batchv1.Job{}
	name := client.ObjectKey{Namespace: s.of.Namespace, Name: s.name()}
	err := r.config.Live.Get(ctx, name, job)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading Job %s: %w", name, err)
	}
	if !s.isOf(job) {
		s.is, s.why = rotation.Failed, fmt.Sprintf("Job %s is there and is somebody else's; delete it", name)
		return nil
	}
	s.job, s.is = job, progress(job)
	if s.is == rotation.Running {
		return nil
	}
	return r.seeValues(ctx, s)
}

func (r *Reconciler) seeValues(ctx context.Context, s *seen) error {
	values := &corev1.Secret{}
	name := client.ObjectKeyFromObject(s.job)
	err := r.config.Live.Get(ctx, name, values)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading Secret %s: %w", name, err)
	}
	switch {
	case metav1.IsControlledBy(values, s.job):
		s.values = values
	case values.Labels[v1alpha1.LabelRotationUID] == string(s.of.UID):
		return fmt.Errorf("waiting for Secret %s to go, which is that of a Job before of the same name", name)
	case s.is == rotation.NotRun:
		s.is, s.why = rotation.Failed, fmt.Sprintf("Secret %s is there and is somebody else's; delete it", name)
	}
	return nil
}

// runHook takes the next step to a hook that runs.
func (r *Reconciler) runHook(ctx context.Context, l *look) error {
	s := l.hook
	if s == nil {
		return nil
	}
	if s.job == nil || s.values == nil {
		credentials, err := r.readCredentials(ctx, l.place, s.credentials)
		if err != nil {
			return err
		}
		s.files = append(s.files, credentials...)
	}
	switch {
	case s.job == nil:
		return made("Job", r.config.Client.Create(ctx, s.made()))
	case s.values == nil && !s.shows(s.job):
		return r.dropUnreleased(ctx, s.job)
	case s.values == nil:
		return made("Secret", r.config.Client.Create(ctx, s.hook.values(s.job)))
	}
	return r.changeJob(ctx, s.job, func(job *batchv1.Job) {
		job.Spec.Suspend, job.Annotations[v1alpha1.AnnotationReleased] = ptr.To(false), "true"
	})
}

// made says how making an object went; one that is there already is looked at next.
func made(what string, err error) error {
	if err == nil || apierrors.IsAlreadyExists(err) {
		return nil
	}
	return fmt.Errorf("making the %s of a hook: %w", what, err)
}

// stopped is a deadline that has passed: the Job's controller ends its pods, and it
// has failed for good.
const stopped = 1

func (r *Reconciler) stopHook(ctx context.Context, s *seen) error {
	if s == nil || s.job == nil || ptr.Deref(s.job.Spec.ActiveDeadlineSeconds, 0) == stopped {
		return nil
	}
	return r.changeJob(ctx, s.job, func(job *batchv1.Job) {
		job.Spec.ActiveDeadlineSeconds = ptr.To[int64](stopped)
		job.Spec.Suspend = ptr.To(false) // one that somebody suspended would never end
	})
}

// changeJob over the very one that was seen. A conflict is no error: what is there
// now is looked at next.
func (r *Reconciler) changeJob(ctx context.Context, job *batchv1.Job, change func(*batchv1.Job)) error {
	before := job.DeepCopy()
	change(job)
	over := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	err := r.config.Client.Patch(ctx, job, over)
	if err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
		return fmt.Errorf("changing Job %s/%s: %w", job.Namespace, job.Name, err)
	}
	return nil
}

// empty the Secret of a hook that ended, and note why it failed: without the values
// nobody can take them out of it any more. It goes with its Job, so that nobody needs
// the right to delete Secrets.
func (r *Reconciler) empty(ctx context.Context, s *seen) error {
	values := s.values
	s.clear()
	values.Data = nil
	if s.is == rotation.Failed && s.why != "" {
		metav1.SetMetaDataAnnotation(&values.ObjectMeta, v1alpha1.AnnotationSaid, s.why)
	}
	err := r.config.Client.Update(ctx, values)
	if err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
		return fmt.Errorf("emptying Secret %s/%s: %w", values.Namespace, values.Name, err)
	}
	return nil
}

// dropHooks deletes the Jobs of an attempt and of those before, by their UIDs. Their
// pods and values go with them. The record goes last, so that nothing is left.
func (r *Reconciler) dropHooks(ctx context.Context, l *look, action rotation.Action) error {
	of := l.of
	if len(l.recordOf(action).jobs) == 0 {
		return nil
	}
	var jobs batchv1.JobList
	if err := r.config.Live.List(ctx, &jobs, client.InNamespace(of.Namespace), client.MatchingLabels{v1alpha1.LabelRotationUID: string(of.UID)}); err != nil {
		return fmt.Errorf("listing the Jobs of rotation %s/%s: %w", of.Namespace, of.Name, err)
	}
	for i := range jobs.Items {
		job := &jobs.Items[i]
		its, err := strconv.Atoi(job.Annotations[v1alpha1.AnnotationAttempt])
		if owner := metav1.GetControllerOf(job); err != nil || its > action.Attempt || owner == nil || owner.UID != of.UID {
			continue
		}
		err = r.config.Client.Delete(ctx, job, client.Preconditions{UID: &job.UID}, client.PropagationPolicy(metav1.DeletePropagationBackground))
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return fmt.Errorf("deleting Job %s/%s: %w", job.Namespace, job.Name, err)
		}
	}
	return nil
}

// tryHooks asks the API server whether it would take the Jobs of a spec, and whether
// their service account is there.
func (r *Reconciler) tryHooks(ctx context.Context, of *v1alpha1.SecretRotation) (*Refusal, error) {
	jobs := jobsOf(of.Spec)
	for _, kind := range slices.Sorted(maps.Keys(jobs)) {
		h := hook{of: of, kind: kind, job: *jobs[kind], timeout: rotation.MaxTimeout}
		for i, key := range slices.Sorted(maps.Keys(of.Spec.Generate)) {
			h.files = append(h.files, file{key: fmt.Sprintf("new-%d", i), path: "new/" + key})
		}
		err := r.config.Client.Create(ctx, h.made(), client.DryRunAll)
		switch {
		case err == nil, apierrors.IsAlreadyExists(err):
		case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsForbidden(err):
			return refuse(v1alpha1.ReasonRotationInvalid, "spec.%s.job: the API server would not take its Job: %s", kind, reasonOf(err)), nil
		default:
			return nil, fmt.Errorf("trying the Job of spec.%s: %w", kind, err)
		}
	}
	if len(jobs) == 0 {
		return nil, nil
	}
	there, err := r.accountIsThere(ctx, of.Namespace)
	if err != nil || there {
		return nil, err
	}
	return refuse(v1alpha1.ReasonRotationInvalid, "spec: its jobs run as %s", createAccount(of.Namespace)), nil
}

// reasonOf an answer of the API server, with the fields that it is about.
func reasonOf(err error) string {
	var status apierrors.APIStatus
	if errors.As(err, &status) && status.Status().Message != "" {
		return cut(status.Status().Message, maxReason)
	}
	return cut(err.Error(), maxReason)
}

func (r *Reconciler) accountIsThere(ctx context.Context, namespace string) (bool, error) {
	err := r.config.Live.Get(ctx, client.ObjectKey{Namespace: namespace, Name: hookAccount}, &corev1.ServiceAccount{})
	if err != nil && !apierrors.IsNotFound(err) {
		return false, fmt.Errorf("reading ServiceAccount %s/%s: %w", namespace, hookAccount, err)
	}
	return err == nil, nil
}

func createAccount(namespace string) string {
	return fmt.Sprintf("service account %s, which is not there: kubectl create serviceaccount %[1]s -n %s", hookAccount, namespace)
}
