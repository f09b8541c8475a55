package inject

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/privyseal/privyseal/broker/annotation"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// Claims reads one SecretClaim. A client.Reader is one.
type Claims interface {
	Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error
}

// ErrNoClaim: an annotation names a SecretClaim that is not there.
var ErrNoClaim = errors.New("no such SecretClaim")

// Environments reads Environments, and namespaces as metadata. A client.Reader
// is one.
type Environments interface {
	Claims
	List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error
}

// Handler answers admission requests for pods. It reads SecretClaims and
// environments, and writes nothing, so its configuration says sideEffects: None.
type Handler struct {
	// Decoder of pods; required.
	Decoder admission.Decoder

	// Claims as a cache has them; required.
	Claims Claims

	// Environments as a cache has them; required.
	Environments Environments

	// Live is asked for a claim that a pod names, and for the pod's namespace,
	// where the cache does not have them: one apply often brings them together
	// with the pod, and the cache is some milliseconds behind.
	// Nil for none.
	Live Claims

	// Sidecars, see Facts.
	Sidecars []string
}

var _ admission.Handler = (*Handler)(nil)

// Handle implements admission.Handler. A pod that cannot be given what it asks
// for is denied, with every reason; its controller tries again and shows them
// in its events. Whatever is not a new pod is let through as it is.
func (h *Handler) Handle(ctx context.Context, request admission.Request) admission.Response {
	if request.Operation != admissionv1.Create || request.SubResource != "" || request.Resource.Resource != "pods" {
		return admission.Allowed("not a new pod")
	}
	var pod corev1.Pod
	if err := h.Decoder.Decode(request, &pod); err != nil {
		return admission.Errored(http.StatusBadRequest, fmt.Errorf("decoding the pod: %w", err))
	}
	if !annotation.Asks(pod.Annotations) {
		return admission.Allowed("asks for no secret")
	}
	wanted, err := annotation.Parse(pod.Annotations)
	if err != nil {
		return admission.Denied(err.Error())
	}
	// A pod that a controller makes has no name and no namespace of its own
	// yet; the request has both as far as they are known.
	home, err := h.home(ctx, request.Namespace)
	if err != nil {
		return admission.Errored(http.StatusServiceUnavailable, err)
	}
	if err := checkEnvironment(home, pod.Annotations, wanted.Requests); err != nil {
		return admission.Denied(err.Error())
	}
	targets, err := h.targets(ctx, request.Namespace, wanted.Requests)
	if errors.Is(err, ErrNoClaim) {
		return admission.Denied(err.Error())
	}
	if err != nil {
		return admission.Errored(http.StatusServiceUnavailable, err)
	}
	operations, err := Pod(&pod, Facts{Wanted: wanted, Targets: targets, Sidecars: h.Sidecars})
	if err != nil {
		return admission.Denied(err.Error())
	}
	if len(operations) == 0 {
		return admission.Allowed("has what it asks for")
	}
	return admission.Patched("", operations...)
}

// targets finds the Secret of each request.
func (h *Handler) targets(ctx context.Context, namespace string, requests []annotation.Request) (map[string]Target, error) {
	targets := make(map[string]Target, len(requests))
	var missing []error
	for _, request := range requests {
		target, err := h.target(ctx, namespace, request)
		switch {
		case errors.Is(err, ErrNoClaim):
			missing = append(missing, err)
		case err != nil:
			return nil, err
		}
		targets[request.Name] = target
	}
	return targets, errors.Join(missing...)
}

// target finds the Secret of one request. A claim that the controller has yet
// to make is no obstacle, since its name is known. One that the pod's author
// names is: its target may bear another name than the claim, and a pod that
// points at the wrong one would wait for ever.
func (h *Handler) target(ctx context.Context, namespace string, request annotation.Request) (Target, error) {
	name := request.ClaimName()
	claim, err := h.claim(ctx, types.NamespacedName{Namespace: namespace, Name: name}, request.Claim != "")
	switch {
	case apierrors.IsNotFound(err) && request.Claim == "":
		return Target{Secret: name}, nil
	case apierrors.IsNotFound(err):
		return Target{}, fmt.Errorf("annotation %s%s: %w: namespace %s has none named %s; create it, and the pod will be tried again",
			annotation.SecretPrefix, request.Name, ErrNoClaim, namespace, name)
	case err != nil:
		return Target{}, fmt.Errorf("annotation %s%s: reading SecretClaim %s: %w", annotation.SecretPrefix, request.Name, name, err)
	}
	target := Target{Secret: claim.TargetName().Name}
	// Before its first sync a claim's sequence says nothing.
	if claim.Status.Target != nil {
		target.Sequence = &claim.Status.Sequence
	}
	return target, nil
}

func (h *Handler) claim(ctx context.Context, key types.NamespacedName, evenLive bool) (*v1alpha1.SecretClaim, error) {
	var claim v1alpha1.SecretClaim
	err := h.Claims.Get(ctx, key, &claim)
	if apierrors.IsNotFound(err) && evenLive && h.Live != nil {
		err = h.Live.Get(ctx, key, &claim)
	}
	return &claim, err
}
