package rotate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/rotation"
)

// A system may let only an administrator change a password. Their login is a document
// of its own: set and set-back get it as files, read anew for each Job, since it may
// change between the two.

// credentialsField names it to people.
const credentialsField = "spec.set.credentialsPath"

// hookAdmin is the directory that they are in, beside new and old.
const hookAdmin = "admin"

// admitCredentials finds them as spec.path is found, and in the same store.
func (r *Reconciler) admitCredentials(ctx context.Context, of *v1alpha1.SecretRotation, a *admitted) error {
	if of.Spec.Set == nil || of.Spec.Set.CredentialsPath == "" {
		return nil
	}
	found, err := r.config.Places.Place(ctx, of.Namespace, of.Spec.StoreRef, credentialsField, of.Spec.Set.CredentialsPath)
	switch {
	case errors.As(err, &a.refusal):
		return nil
	case err != nil:
		return err
	case found.Ref == a.place.Ref:
		a.refusal = refuse(v1alpha1.ReasonRotationInvalid, "%s: %s is what is rotated, and its values are in new and old; name another document, or leave it out", credentialsField, found.Ref)
		return nil
	}
	a.credentials = found.Ref
	return nil
}

// tryCredentials reads them before anything begins: a hook that waits for them later
// has no deadline.
func (r *Reconciler) tryCredentials(ctx context.Context, a admitted) (refusal *Refusal, unasked error) {
	files, err := r.readCredentials(ctx, a.place, a.credentials)
	clearFiles(files)
	switch {
	case err == nil:
		return nil, nil
	case errors.Is(err, providers.ErrNotFound):
		return refuse(v1alpha1.ReasonSourceNotFound, "%s", err), nil
	case errors.Is(err, providers.ErrDeleted):
		return refuse(v1alpha1.ReasonSourceDeleted, "%s", err), nil
	case errors.Is(err, providers.ErrDenied):
		return refuse(v1alpha1.ReasonSourceDenied, "%s", err), nil
	case errors.Is(err, providers.ErrInvalid):
		return refuse(v1alpha1.ReasonRotationInvalid, "%s", err), nil
	}
	return nil, err
}

// readCredentials at a place's store, as files; none where there is no path.
func (r *Reconciler) readCredentials(ctx context.Context, place Place, path providers.Ref) ([]file, error) {
	if path.IsZero() {
		return nil, nil
	}
	if place.Store.Name == "" {
		return nil, fmt.Errorf("%s: %w: there is no such store any more", credentialsField, providers.ErrUnavailable)
	}
	document, err := r.config.Store.Read(ctx, place.Store, place.Identity, providers.Request{Ref: path})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", credentialsField, err)
	}
	var files []file
	for i, key := range slices.Sorted(maps.Keys(document.Values)) {
		if !isFileName(key) {
			document.Clear()
			return nil, fmt.Errorf("%s: %w: key %.64q of %s can be no file's name", credentialsField, providers.ErrInvalid, key, path)
		}
		files = append(files, file{key: fmt.Sprintf("%s-%d", hookAdmin, i), path: hookAdmin + "/" + key, value: document.Values[key]})
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s: %w: %s has no keys", credentialsField, providers.ErrInvalid, path)
	}
	return files, nil
}

func clearFiles(files []file) {
	for _, file := range files {
		file.value.Clear()
	}
}

// shows says whether a Job's files are those that the hook has. The keys of its
// credentials may be others by now, and what a Job mounts cannot be changed.
func (h hook) shows(job *batchv1.Job) bool {
	if h.credentials.IsZero() {
		return true
	}
	var shown, has []string
	for _, volume := range job.Spec.Template.Spec.Volumes {
		if volume.Name != valuesVolume || volume.Secret == nil {
			continue
		}
		for _, item := range volume.Secret.Items {
			shown = append(shown, item.Path)
		}
	}
	for _, file := range h.files {
		has = append(has, file.path)
	}
	return slices.Equal(shown, has)
}

// dropUnreleased deletes a Job that never ran, over the very one that was seen: one
// that was let go meanwhile stays.
func (r *Reconciler) dropUnreleased(ctx context.Context, job *batchv1.Job) error {
	seen := client.Preconditions{UID: &job.UID, ResourceVersion: &job.ResourceVersion}
	err := r.config.Client.Delete(ctx, job, seen, client.PropagationPolicy(metav1.DeletePropagationBackground))
	if client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("deleting Job %s/%s, whose credentials have other keys by now: %w", job.Namespace, job.Name, err)
	}
	return nil
}

// redaction of all values that a hook has, or had.
func (s *seen) redaction(change rotation.Change) redaction {
	if s.credentials.IsZero() {
		return newRedaction(change)
	}
	if s.values == nil || len(s.values.Data) == 0 {
		return redaction{blind: true}
	}
	return newRedaction(change, slices.Collect(maps.Values(s.values.Data))...)
}
