package restart

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/annotation"
	"github.com/privyseal/privyseal/broker/reloader"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// fieldManager names us in the workload's managedFields, for our two fields.
const fieldManager = "privyseal-restart"

// errMoved: the workload is not what the decision was made on. Gather again.
var errMoved = errors.New("the workload has changed meanwhile")

// operation is one of a JSON Patch (RFC 6902).
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// linePath points (RFC 6901) at the template's restarted-for.
func linePath() string {
	return annotationPath("/spec/template/metadata/annotations/", v1alpha1.AnnotationRestartedFor)
}

func annotationPath(of, name string) string {
	return of + strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}

// patchFor is the one patch that restarts the workload. The API server refuses
// it if the template was restarted since the workload was read, so what is
// sent can only move forward:
//
//   - With a line on the template, it tests that line and leaves everything
//     else alone, so that a busy status does not get in the way.
//   - Without one there is nothing to test, and the resourceVersion must be
//     the one that was read. So it must where the patch is for pods that lack a
//     secret, whose mark may not be there either.
//
// Both test the UID, or a workload that was deleted and made again under the
// name could be mistaken for the one that was judged.
//
// pausedAt is the time at which the patch pauses a Deployment; "": it does not.
//
// Where the template is to be left alone, it is the line on the workload itself that is
// tested and moved, with the time at which its pods are replaced.
func patchFor(s shape, line map[string]int64, injectedFor, pausedAt string, restartAt time.Time) client.Patch {
	text := annotation.FormatSequences(line)
	if s.byRestartAt && injectedFor == "" {
		return patchForTime(s, text, restartAt)
	}
	old, there := s.restartedFor()
	if there && injectedFor == "" {
		operations := []operation{
			{"test", "/metadata/uid", string(s.GetUID())},
			{"test", linePath(), old},
			{"replace", linePath(), text},
		}
		if pausedAt != "" { // there are annotations: one of them asks for it
			operations = append(operations, operation{"add", "/spec/paused", true},
				operation{"add", annotationPath("/metadata/annotations/", reloader.PausedAt), pausedAt})
		}
		return client.RawPatch(types.JSONPatchType, encode(operations))
	}
	annotations := map[string]string{}
	if there || len(line) > 0 {
		annotations[v1alpha1.AnnotationRestartedFor] = text
	}
	if injectedFor != "" {
		annotations[v1alpha1.AnnotationInjectedFor] = injectedFor
	}
	metadata := map[string]any{"uid": s.GetUID(), "resourceVersion": s.GetResourceVersion()}
	spec := map[string]any{"template": map[string]any{"metadata": map[string]any{"annotations": annotations}}}
	if pausedAt != "" {
		metadata["annotations"], spec["paused"] = map[string]string{reloader.PausedAt: pausedAt}, true
	}
	return client.RawPatch(types.MergePatchType, encode(map[string]any{"metadata": metadata, "spec": spec}))
}

// patchForTime is the patch that has pods replaced that are older than a time.
func patchForTime(s shape, text string, at time.Time) client.Patch {
	when := at.UTC().Format(time.RFC3339)
	if old, there := s.restartedFor(); there {
		path := annotationPath("/metadata/annotations/", v1alpha1.AnnotationRestartedFor)
		return client.RawPatch(types.JSONPatchType, encode([]operation{
			{"test", "/metadata/uid", string(s.GetUID())},
			{"test", path, old},
			{"replace", path, text},
			{"add", "/spec/restartAt", when},
		}))
	}
	return client.RawPatch(types.MergePatchType, encode(map[string]any{
		"metadata": map[string]any{"uid": s.GetUID(), "resourceVersion": s.GetResourceVersion(),
			"annotations": map[string]string{v1alpha1.AnnotationRestartedFor: text}},
		"spec": map[string]any{"restartAt": when},
	}))
}

func encode(value any) []byte {
	data, err := json.Marshal(value)
	if err != nil {
		panic(err) // unreachable: maps and slices of strings always marshal
	}
	return data
}

// roll sends the patch. errMoved says that another look is needed; a workload
// that is gone needs nothing any more.
func (c *Controller) roll(ctx context.Context, w Workload, s shape, decision Decision) error {
	// Asking for metadata only spares the answer's template.
	object := &metav1.PartialObjectMetadata{}
	object.SetGroupVersionKind(w.gvk())
	object.SetNamespace(w.Namespace)
	object.SetName(w.Name)
	err := c.client.Patch(ctx, object, patchFor(s, decision.Patch, decision.InjectedFor, c.pauses(w, s, decision), c.restartAt(s, decision.Patch)), client.FieldOwner(fieldManager))
	switch {
	case apierrors.IsConflict(err), apierrors.IsNotFound(err):
		return errMoved
	case apierrors.IsInvalid(err):
		return c.whyInvalid(ctx, w, s, err)
	case err != nil:
		return fmt.Errorf("patching %s: %w", w, err)
	}
	return nil
}

// whyInvalid tells a test that did not hold from a patch that the API server
// takes exception to: it answers both with 422 and differs in the text only.
// So it looks whether what was tested is still there.
func (c *Controller) whyInvalid(ctx context.Context, w Workload, s shape, refusal error) error {
	object := w.newObject()
	if err := c.live.Get(ctx, w.NamespacedName, object); apierrors.IsNotFound(err) {
		return errMoved
	} else if err != nil {
		return fmt.Errorf("reading %s after its patch was refused: %w", w, err)
	}
	fresh, err := shapeOf(object)
	if err != nil {
		return err
	}
	fresh.byRestartAt = s.byRestartAt
	tested, _ := s.restartedFor()
	if line, there := fresh.restartedFor(); !there || line != tested || fresh.GetUID() != s.GetUID() {
		return errMoved
	}
	return fmt.Errorf("patching %s: %w", w, refusal)
}
