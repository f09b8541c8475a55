package claim_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// shared is one API server for all tests, which have it one after the other.
var shared brokertest.SharedAPIServer

func TestMain(m *testing.M) { os.Exit(shared.Run(m)) }

// apiServer has nothing of the tests before, as if it had just started: a
// daemon looks at all namespaces, and environments are of the whole cluster.
func apiServer(t *testing.T) (*rest.Config, client.Client) {
	t.Helper()
	access := shared.Access(t)
	api := brokertest.Client(t, access)
	for _, kind := range []client.ObjectList{
		&appsv1.DeploymentList{}, &appsv1.ReplicaSetList{}, &corev1.PodList{}, &v1alpha1.SecretClaimList{}, &corev1.SecretList{}, &eventsv1.EventList{},
		&v1alpha1.EnvironmentList{}, &v1alpha1.ClusterSecretStoreList{}, &corev1.NamespaceList{},
	} {
		if err := remove(t, api, kind); err != nil {
			t.Fatalf("removing what the test before has left: %v", err)
		}
	}
	return access, api
}

// remove deletes all objects of a kind.
func remove(t *testing.T, api client.Client, kind client.ObjectList) error {
	t.Helper()
	if err := api.List(t.Context(), kind); err != nil {
		return err
	}
	return meta.EachListItem(kind, func(item runtime.Object) error {
		object := item.(client.Object)
		namespace, isNamespace := object.(*corev1.Namespace)
		if isNamespace && ofTheCluster(namespace) {
			return unlabel(t, api, namespace)
		}
		if err := api.Delete(t.Context(), object); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("deleting %T %s: %w", object, client.ObjectKeyFromObject(object), err)
		}
		if !isNamespace {
			return nil
		}
		// No controller is there to say that a namespace is empty.
		namespace.Spec.Finalizers, namespace.ResourceVersion = nil, ""
		return client.IgnoreNotFound(api.SubResource("finalize").Update(t.Context(), namespace))
	})
}

func ofTheCluster(namespace *corev1.Namespace) bool {
	return namespace.Name == metav1.NamespaceDefault || strings.HasPrefix(namespace.Name, "kube-")
}

// unlabel takes out of its environment what cannot be deleted.
func unlabel(t *testing.T, api client.Client, namespace *corev1.Namespace) error {
	t.Helper()
	before := namespace.DeepCopy()
	namespace.Labels = map[string]string{corev1.LabelMetadataName: namespace.Name}
	return api.Patch(t.Context(), namespace, client.MergeFrom(before))
}
