package restart

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/annotation"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// volumePrefix begins the names of the volumes that the webhook adds; the
// admission policy privyseal-injected looks for them too.
const volumePrefix = "privyseal-"

// anyClaim is under which indexAsks has every pod that asks for a claim. No
// claim can have this name.
const anyClaim = "*"

// asksOf indexes pods by the claims that their annotations ask for.
func asksOf(object client.Object) []string {
	if !annotation.Asks(object.GetAnnotations()) {
		return nil
	}
	parsed, err := annotation.Parse(object.GetAnnotations())
	if err != nil {
		return nil // the webhook would refuse the pod
	}
	names := []string{anyClaim}
	for _, request := range parsed.Requests {
		names = append(names, request.ClaimName())
	}
	return names
}

// lacks are the secrets that a pod asks for and does not have. It is judged by
// what it reads, since anybody can write an annotation that says it was seen.
// A secret whose claim is not there, or is refused for its annotation, is none
// of them: the webhook would refuse the pod.
func (g gatherer) lacks(ctx context.Context, pod *corev1.Pod) ([]Lack, error) {
	if !annotation.Asks(pod.Annotations) {
		return nil, nil
	}
	parsed, err := annotation.Parse(pod.Annotations)
	if err != nil {
		return nil, nil //nolint:nilerr // the webhook would refuse the pod
	}
	var lacks []Lack
	reads := ReadsOf(&pod.Spec)
	for _, request := range parsed.Requests {
		if hasVolume(pod, volumePrefix+request.Name) {
			continue
		}
		name := types.NamespacedName{Namespace: pod.Namespace, Name: request.ClaimName()}
		claim := &v1alpha1.SecretClaim{}
		err := g.cache.Get(ctx, name, claim, client.UnsafeDisableDeepCopy)
		if client.IgnoreNotFound(err) != nil {
			return nil, fmt.Errorf("reading claim %s: %w", name, err)
		}
		if err != nil || refusedForItsAnnotation(claim) {
			continue
		}
		target := claim.TargetName().Name
		if _, has := reads[target]; !has {
			lacks = append(lacks, Lack{Claim: claim.Name, Target: target})
		}
	}
	return lacks, nil
}

func refusedForItsAnnotation(claim *v1alpha1.SecretClaim) bool {
	ready := meta.FindStatusCondition(claim.Status.Conditions, v1alpha1.ConditionReady)
	return ready != nil && ready.Reason == v1alpha1.ReasonAnnotationNotAllowed
}

func hasVolume(pod *corev1.Pod, name string) bool {
	return slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == name && v.Secret != nil })
}

// keepVolumes leaves of a pod's volumes those of the webhook's shape.
func keepVolumes(spec *corev1.PodSpec) []corev1.Volume {
	var kept []corev1.Volume
	for i := range spec.Volumes {
		if volume := &spec.Volumes[i]; volume.Secret != nil && strings.HasPrefix(volume.Name, volumePrefix) {
			kept = append(kept, corev1.Volume{Name: volume.Name, VolumeSource: corev1.VolumeSource{
				Secret: &corev1.SecretVolumeSource{SecretName: volume.Secret.SecretName, Items: volume.Secret.Items}}})
		}
	}
	return kept
}

// hashLabels tell the templates apart that a workload's pods were made from:
// that of a Deployment's pods, that of a StatefulSet's or DaemonSet's, and that of
// a Rollout's.
func hashLabels() []string {
	return []string{appsv1.DefaultDeploymentUniqueLabelKey, appsv1.ControllerRevisionHashLabelKey, "rollouts-pod-template-hash"}
}

func hashOf(pod *corev1.Pod) string {
	for _, label := range hashLabels() {
		if hash := pod.Labels[label]; hash != "" {
			return hash
		}
	}
	return ""
}

func keepHash(from, to *metav1.ObjectMeta) {
	for _, label := range hashLabels() {
		if hash := from.Labels[label]; hash != "" {
			if to.Labels == nil {
				to.Labels = map[string]string{}
			}
			to.Labels[label] = hash
		}
	}
}

// hook is the webhook's configuration, if it sees pods of the namespace.
func (g gatherer) hook(ctx context.Context, namespace string) (Webhook, error) {
	if g.webhook == "" {
		return Webhook{}, nil
	}
	configuration := &admissionregistrationv1.MutatingWebhookConfiguration{}
	err := g.cache.Get(ctx, types.NamespacedName{Name: g.webhook}, configuration, client.UnsafeDisableDeepCopy)
	if err != nil {
		return Webhook{}, client.IgnoreNotFound(err)
	}
	in := metaOf(corev1.SchemeGroupVersion.WithKind("Namespace"))
	if err := g.cache.Get(ctx, types.NamespacedName{Name: namespace}, in, client.UnsafeDisableDeepCopy); err != nil {
		return Webhook{}, client.IgnoreNotFound(err)
	}
	for i := range configuration.Webhooks {
		hook := &configuration.Webhooks[i]
		selector := labels.Everything()
		if hook.NamespaceSelector != nil {
			if selector, err = metav1.LabelSelectorAsSelector(hook.NamespaceSelector); err != nil {
				return Webhook{}, fmt.Errorf("reading the webhook configuration %s: %w", g.webhook, err)
			}
		}
		if !selector.Matches(labels.Set(in.Labels)) {
			continue
		}
		found := Webhook{UID: string(configuration.UID), Since: configuration.CreationTimestamp.Unix()}
		if service := hook.ClientConfig.Service; service != nil {
			found.service = types.NamespacedName{Namespace: service.Namespace, Name: service.Name}
		}
		return found, nil
	}
	return Webhook{}, nil
}

const (
	// askAgain is how often it is asked whether the webhook is there.
	askAgain = 2 * time.Second
	// steady is how long the webhook has to be there before a restart is spent
	// on it: the API server's way to it is made a little after its pod is ready.
	steady = 3 * time.Second
)

// answers says whether the webhook has been there for a little while. A
// configuration with a URL says nothing of that, and is believed.
func (c *Controller) answers(ctx context.Context, hook Webhook) (bool, error) {
	if hook.service.Name == "" {
		return true, nil
	}
	c.reach.mu.Lock()
	defer c.reach.mu.Unlock()
	now := c.config.Clock.Now()
	if now.Sub(c.reach.asked) >= askAgain {
		ready, err := c.anyEndpoint(ctx, hook.service)
		if err != nil {
			return false, err
		}
		c.reach.asked = now
		switch {
		case !ready:
			c.reach.since = time.Time{}
		case c.reach.since.IsZero():
			c.reach.since = now
		}
	}
	return !c.reach.since.IsZero() && now.Sub(c.reach.since) >= steady, nil
}

// anyEndpoint asks the API server itself, seldom: it is asked only while pods
// wait to be replaced.
func (c *Controller) anyEndpoint(ctx context.Context, service types.NamespacedName) (bool, error) {
	slicesOf := &discoveryv1.EndpointSliceList{}
	err := c.live.List(ctx, slicesOf, client.InNamespace(service.Namespace),
		client.MatchingLabels{discoveryv1.LabelServiceName: service.Name})
	if err != nil {
		return false, fmt.Errorf("asking whether the webhook %s is there: %w", service, err)
	}
	for _, slice := range slicesOf.Items {
		for _, endpoint := range slice.Endpoints {
			if ready := endpoint.Conditions.Ready; ready == nil || *ready {
				return true, nil
			}
		}
	}
	return false, nil
}
