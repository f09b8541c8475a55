package plan

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/annotation"
	"github.com/privyseal/privyseal/broker/environment"
	"github.com/privyseal/privyseal/broker/restart"
	"github.com/privyseal/privyseal/broker/target"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// ErrEnvironment: the manifests have no environment of the name given.
var ErrEnvironment = errors.New("no such environment")

// Described is the cluster that manifests describe: Deployments, StatefulSets,
// DaemonSets, Rollouts of Argo, SecretClaims, SealedSecrets, SecretRotations, Environments,
// ClusterSecretStores and Namespaces. Those in namespaces name theirs. What a cluster
// would have beside is thought of: the namespaces, the stores that environments name,
// the claims that annotations ask for, the Secrets that claims and SealedSecrets make,
// and one pod of each workload that wants any, made from its
// template. The manifests become the World's, and are changed.
//
// in, where not empty, is the environment that all namespaces are taken to be
// in. Errors wrap ErrEnvironment.
func Described(manifests []client.Object, in string) (*World, error) {
	d := describing{
		namespaces: map[string]labels.Set{},
		claims:     map[types.NamespacedName]*v1alpha1.SecretClaim{},
		secrets:    map[types.NamespacedName]maker{},
		keys:       map[types.NamespacedName][]string{},
	}
	for _, object := range manifests {
		d.take(object)
	}
	if err := d.moveInto(in); err != nil {
		return nil, err
	}
	d.think()
	w, err := newWorld(d.objects, "", "in the files")
	if err != nil {
		return nil, err
	}
	w.Notes, w.secrets, w.keys = append(d.notes, w.Notes...), d.secrets, d.keys
	for _, workload := range d.workloads {
		name, _ := restart.WorkloadOf(workload)
		w.replicas[name] = replicasOf(workload)
	}
	return w, nil
}

// describing is one run of Described.
type describing struct {
	environments []*v1alpha1.Environment
	namespaces   map[string]labels.Set
	claims       map[types.NamespacedName]*v1alpha1.SecretClaim
	sealed       []*ssv1alpha1.SealedSecret
	workloads    []client.Object

	objects []client.Object
	secrets map[types.NamespacedName]maker
	keys    map[types.NamespacedName][]string
	notes   []string
}

func (d *describing) take(object client.Object) {
	if namespace := object.GetNamespace(); namespace != "" && d.namespaces[namespace] == nil {
		d.namespaces[namespace] = nil
	}
	switch object := object.(type) {
	case *v1alpha1.Environment:
		d.environments = append(d.environments, object)
	case *corev1.Namespace:
		d.namespaces[object.Name] = labels.Merge(object.Labels, labels.Set{corev1.LabelMetadataName: object.Name})
	case *v1alpha1.SecretClaim:
		d.claims[client.ObjectKeyFromObject(object)] = object
	case *ssv1alpha1.SealedSecret:
		d.sealed = append(d.sealed, object)
	case *v1alpha1.SecretRotation, *v1alpha1.ClusterSecretStore:
		d.objects = append(d.objects, object)
	default:
		d.workloads = append(d.workloads, object)
	}
}

// moveInto an environment: it selects every namespace then, and the others are
// not there.
func (d *describing) moveInto(name string) error {
	if name == "" {
		return nil
	}
	at := slices.IndexFunc(d.environments, func(e *v1alpha1.Environment) bool { return e.Name == name })
	if at < 0 {
		return fmt.Errorf("%s: %w in the files", name, ErrEnvironment)
	}
	one := d.environments[at]
	one.Spec.NamespaceSelector = metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
		{Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpExists}}}
	d.environments = []*v1alpha1.Environment{one}
	return nil
}

// think of everything that the cluster would have.
func (d *describing) think() {
	environments := make([]v1alpha1.Environment, 0, len(d.environments))
	for _, one := range d.environments {
		environments = append(environments, *one)
		d.objects = append(d.objects, one)
	}
	d.objects = append(d.objects, assumedStores(d.objects)...)
	for _, name := range slices.Sorted(maps.Keys(d.namespaces)) {
		d.namespace(name, environments)
	}
	for _, workload := range d.workloads {
		d.claimsOf(workload)
	}
	for _, claim := range d.claims {
		claim.UID = types.UID("claim/" + claim.Namespace + "/" + claim.Name)
		d.objects = append(d.objects, claim)
		d.secret(claim.TargetName(), claim, keysOfClaim(claim))
	}
	for _, sealed := range d.sealed {
		name := client.ObjectKeyFromObject(sealed)
		if _, claimed := d.secrets[name]; !claimed { // else it stands by for the claim
			d.secret(name, nil, keysOfSealed(sealed))
		}
	}
	for _, workload := range d.workloads {
		d.run(workload)
	}
}

// namespace with the labels that the files give it, or with the one that every
// namespace has.
func (d *describing) namespace(name string, environments []v1alpha1.Environment) {
	has, described := d.namespaces[name], d.namespaces[name] != nil
	if !described {
		has = labels.Set{corev1.LabelMetadataName: name}
	}
	object := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: has}}
	object.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	d.objects = append(d.objects, object)
	if in, err := environment.Home(environments, name, has); in == nil && err == nil && !described && len(environments) > 0 {
		d.notes = append(d.notes, fmt.Sprintf("the files do not say in which environment namespace %s is: its windows are not known; add the Namespace with its labels, or say --environment", name))
	}
}

// claimsOf a workload's annotations, which the daemon would make.
func (d *describing) claimsOf(workload client.Object) {
	parsed, err := annotation.Parse(templateOf(workload).Annotations)
	if err != nil {
		name, _ := restart.WorkloadOf(workload)
		d.notes = append(d.notes, fmt.Sprintf("%s: its pods would be refused: %v", name, err))
	}
	for _, request := range parsed.Requests {
		name := types.NamespacedName{Namespace: workload.GetNamespace(), Name: request.ClaimName()}
		if request.Claim == "" && d.claims[name] == nil {
			d.claims[name] = &v1alpha1.SecretClaim{
				ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name}, Spec: request.ClaimSpec()}
		}
	}
}

// secret that a claim makes, or without one a SealedSecret: with a history, as
// far as its keys are known.
func (d *describing) secret(name types.NamespacedName, claim *v1alpha1.SecretClaim, keys []string) {
	history := target.Revisions{Keys: map[string][]target.Revision{}}
	for _, key := range keys {
		history.Keys[key] = []target.Revision{{Digest: "first"}}
	}
	object := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
		Namespace: name.Namespace, Name: name.Name,
		Annotations: map[string]string{v1alpha1.AnnotationRevisions: history.String()},
	}}
	object.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
	if claim != nil {
		object.Annotations[v1alpha1.AnnotationClaim] = claim.Name
		object.Labels = map[string]string{v1alpha1.LabelClaimUID: string(claim.UID)}
	} else {
		object.Labels = map[string]string{v1alpha1.LabelSealedUID: "sealed"}
	}
	d.objects = append(d.objects, object)
	d.secrets[name] = made
	if len(keys) > 0 {
		d.keys[name] = keys
	}
}

// run a workload: a pod of its template, if it wants any, and what that reads.
func (d *describing) run(workload client.Object) {
	name, _ := restart.WorkloadOf(workload)
	workload.SetUID(types.UID(name.String()))
	rest(workload)
	d.objects = append(d.objects, workload)
	pod, _ := asPod(templateOf(workload), func(claim string) string {
		if one := d.claims[types.NamespacedName{Namespace: name.Namespace, Name: claim}]; one != nil {
			return one.TargetName().Name
		}
		return claim
	})
	for secret := range restart.ReadsOf(&pod.Spec) {
		reads := types.NamespacedName{Namespace: name.Namespace, Name: secret}
		if _, there := d.secrets[reads]; !there {
			d.secret(reads, nil, nil)
			d.secrets[reads] = assumed
		}
	}
	if replicas := replicasOf(workload); replicas != nil && *replicas == 0 {
		return
	}
	kind := appsv1.SchemeGroupVersion.WithKind(name.Kind)
	isRollout := name.Kind == restart.ArgoRollout().Kind
	if isRollout {
		kind = restart.ArgoRollout()
	}
	owner := metav1.NewControllerRef(workload, kind)
	if name.Kind == "Deployment" || isRollout {
		set := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
			Namespace: name.Namespace, Name: name.Name, UID: "set of " + workload.GetUID(), OwnerReferences: []metav1.OwnerReference{*owner}}}
		set.SetGroupVersionKind(appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))
		d.objects = append(d.objects, set)
		owner = metav1.NewControllerRef(set, set.GroupVersionKind())
	}
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Unix(1, 0)}}
	pod.Namespace, pod.Name, pod.OwnerReferences = name.Namespace, name.String(), []metav1.OwnerReference{*owner}
	d.objects = append(d.objects, pod)
}

// rest: its last rollout is through.
func rest(workload client.Object) {
	switch workload := workload.(type) {
	case *appsv1.Deployment:
		all := int32(*replicasOf(workload))
		workload.Status = appsv1.DeploymentStatus{ObservedGeneration: workload.Generation, Replicas: all, UpdatedReplicas: all, AvailableReplicas: all}
	case *appsv1.StatefulSet:
		workload.Status = appsv1.StatefulSetStatus{ObservedGeneration: workload.Generation}
	case *appsv1.DaemonSet:
		workload.Status = appsv1.DaemonSetStatus{ObservedGeneration: workload.Generation}
	case *unstructured.Unstructured:
		workload.Object["status"] = map[string]any{"phase": "Healthy", "observedGeneration": fmt.Sprint(workload.GetGeneration())}
	}
}

// replicasOf a workload; nil where it says none: a DaemonSet has as many pods as
// the cluster has nodes for them.
func replicasOf(workload client.Object) *int {
	replicas := new(int32(1))
	switch workload := workload.(type) {
	case *appsv1.Deployment:
		if workload.Spec.Replicas != nil {
			replicas = workload.Spec.Replicas
		}
	case *appsv1.StatefulSet:
		if workload.Spec.Replicas != nil {
			replicas = workload.Spec.Replicas
		}
	case *unstructured.Unstructured:
		if said, there, err := unstructured.NestedInt64(workload.Object, "spec", "replicas"); there && err == nil {
			return new(int(said))
		}
	default:
		return nil
	}
	return new(int(*replicas))
}

// keysOfClaim are those that its Secret has, where the claim names them all.
func keysOfClaim(claim *v1alpha1.SecretClaim) []string {
	if claim.Spec.Template != nil && len(claim.Spec.Template.Data) > 0 {
		return slices.Sorted(maps.Keys(claim.Spec.Template.Data))
	}
	var keys []string
	for _, source := range claim.Spec.Sources {
		if len(source.Keys) == 0 {
			return nil
		}
		for _, key := range source.Keys {
			name := key.To
			if name == "" {
				name = key.From
			}
			keys = append(keys, source.Prefix+name)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

func keysOfSealed(sealed *ssv1alpha1.SealedSecret) []string {
	keys := map[string]bool{}
	for key := range sealed.Spec.EncryptedData {
		keys[key] = true
	}
	for key := range sealed.Spec.Template.Data {
		keys[key] = true
	}
	return slices.Sorted(maps.Keys(keys))
}
