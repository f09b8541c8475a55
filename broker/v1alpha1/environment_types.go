package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Environment is dev, staging or prod: a set of namespaces with the stores and
// paths that they may use. A namespace is in at most one; where two select it,
// both refuse it, so that a mistake closes rather than opens.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=senv,categories=privyseal
// +kubebuilder:printcolumn:name="Root",type=string,JSONPath=`.spec.root`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Environment struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec EnvironmentSpec `json:"spec"`
}

// EnvironmentSpec says which namespaces belong to an environment and what they
// may use.
type EnvironmentSpec struct {
	// NamespaceSelector chooses the environment's namespaces by label. Who may
	// set that label on a namespace decides who is in: guard it.
	NamespaceSelector metav1.LabelSelector `json:"namespaceSelector"`

	// Stores are the ClusterSecretStores that its namespaces may use; the
	// first is the default.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +listType=atomic
	Stores []string `json:"stores"`

	// Root is where a relative path starts, over .Environment and .Namespace:
	// "kv/{{ .Environment }}/{{ .Namespace }}".
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Root string `json:"root"`

	// Paths that its namespaces may read. "*" stands for one whole segment, a
	// trailing "/**" for everything below; a variable fills a whole segment,
	// or namespace pay would match the paths of pay-ments. Nothing else may be
	// read.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=512
	// +listType=atomic
	Paths []string `json:"paths"`

	// TargetMetadata are keys that claims may put on their Secrets as labels
	// and annotations though other controllers trust them: a whole key, as in
	// "app.kubernetes.io/name", or with a slash at the end every key of that
	// prefix, as in "argocd.argoproj.io/". Whoever may write a claim can then
	// tell those controllers something. Default: none. Keys that no controller
	// is known to trust need not be listed, and those of privyseal.io cannot
	// be.
	//
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=317
	// +kubebuilder:validation:XValidation:rule="self.all(key, !key.startsWith('privyseal.io/') && !key.contains('.privyseal.io/'))",message="keys of privyseal.io are Privyseal's own"
	// +listType=atomic
	// +optional
	TargetMetadata []string `json:"targetMetadata,omitempty"`

	// Annotations is what the annotation privyseal.io/secret.NAME of a pod may
	// ask for. Allow: a path, which makes a claim, or a claim that is there.
	// ExistingClaimsOnly: only "claim:NAME", so that whoever may make pods
	// cannot read every path of the environment by that alone. Deny: nothing;
	// pods that ask are refused. Pods that run are left alone; a claim that was
	// made from an annotation is kept with its last good value, and not read
	// again while this does not allow it. Default: Allow.
	//
	// +optional
	Annotations AnnotationPolicy `json:"annotations,omitempty"`

	// Delivery is how annotations may give secrets to pods: volume for files,
	// env for variables. It is a guard rail for annotations: whoever writes a
	// pod can still name any Secret of the namespace in env, envFrom or a
	// volume by hand. Default: both.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=2
	// +listType=set
	// +optional
	Delivery []Delivery `json:"delivery,omitempty"`
}

// AnnotationPolicy is what annotations on pods may ask for.
//
// +kubebuilder:validation:Enum=Allow;ExistingClaimsOnly;Deny
type AnnotationPolicy string

// What annotations on pods may ask for.
const (
	AnnotationsAllow              AnnotationPolicy = "Allow"
	AnnotationsExistingClaimsOnly AnnotationPolicy = "ExistingClaimsOnly"
	AnnotationsDeny               AnnotationPolicy = "Deny"
)

// Delivery is a way in which a pod gets a secret.
//
// +kubebuilder:validation:Enum=volume;env
type Delivery string

// The ways in which a pod gets a secret.
const (
	DeliverVolume Delivery = "volume"
	DeliverEnv    Delivery = "env"
)

// EnvironmentList is a list of Environments.
//
// +kubebuilder:object:root=true
type EnvironmentList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Environment `json:"items"`
}
