package broker

import (
	"fmt"
	"net/http"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/privyseal/privyseal/broker/restart"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// mapper knows where the API server has the daemon's kinds without asking it.
// So a daemon that starts while there is no API server waits for one
// (patientCache). Asking, it would end, and by the time there is one again
// kubelet would have it wait for up to five minutes before the next try. Any
// other kind is asked for.
func mapper(access *rest.Config, client *http.Client) (meta.RESTMapper, error) {
	asking, err := apiutil.NewDynamicRESTMapper(access, client)
	if err != nil {
		return nil, fmt.Errorf("making a client for discovery: %w", err)
	}
	known := meta.NewDefaultRESTMapper([]schema.GroupVersion{
		corev1.SchemeGroupVersion, appsv1.SchemeGroupVersion, batchv1.SchemeGroupVersion, v1alpha1.GroupVersion,
		admissionregistrationv1.SchemeGroupVersion, discoveryv1.SchemeGroupVersion,
		ssv1alpha1.SchemeGroupVersion, restart.ArgoRollout().GroupVersion(),
	})
	known.Add(corev1.SchemeGroupVersion.WithKind("Namespace"), meta.RESTScopeRoot)
	known.Add(admissionregistrationv1.SchemeGroupVersion.WithKind("MutatingWebhookConfiguration"), meta.RESTScopeRoot)
	known.Add(ssv1alpha1.SchemeGroupVersion.WithKind("SealedSecret"), meta.RESTScopeNamespace)
	known.Add(restart.ArgoRollout(), meta.RESTScopeNamespace)
	known.Add(discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"), meta.RESTScopeNamespace)
	for _, kind := range []string{"ConfigMap", "Pod", "Secret", "ServiceAccount"} {
		known.Add(corev1.SchemeGroupVersion.WithKind(kind), meta.RESTScopeNamespace)
	}
	for _, kind := range []string{"DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"} {
		known.Add(appsv1.SchemeGroupVersion.WithKind(kind), meta.RESTScopeNamespace)
	}
	for _, kind := range []string{"CronJob", "Job"} {
		known.Add(batchv1.SchemeGroupVersion.WithKind(kind), meta.RESTScopeNamespace)
	}
	for _, kind := range []string{"ClusterSecretStore", "Environment"} {
		known.Add(v1alpha1.GroupVersion.WithKind(kind), meta.RESTScopeRoot)
	}
	for _, kind := range []string{"SecretClaim", "SecretRotation", "SecretStore"} {
		known.Add(v1alpha1.GroupVersion.WithKind(kind), meta.RESTScopeNamespace)
	}
	return meta.FirstHitRESTMapper{MultiRESTMapper: meta.MultiRESTMapper{known, asking}}, nil
}
