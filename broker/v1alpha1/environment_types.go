package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Environment is dev, staging or prod: a set of namespaces with the stores and
// paths that they may use. A namespace is in at most one; where two select it,
// both refuse it, so that a mistake closes rather than opens.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=senv,categories=privyseal
// +kubebuilder:printcolumn:name="Root",type=string,JSONPath=`.spec.root`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Environment struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   EnvironmentSpec   `json:"spec"`
	Status EnvironmentStatus `json:"status,omitempty"`
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

	// Windows are when workloads of its namespaces may be restarted for a
	// changed secret: never in a Blackout, and where there is a Maintenance
	// window, in those alone. What changes outside is still brought into the
	// Secret, and the restart waits for the next opening: one for each workload,
	// for all that changed meanwhile. Windows that cannot be used, or that leave
	// no time at all, let nothing restart, and the condition WindowsUnusable
	// says so. Default: none, and restarts happen at any time.
	//
	// +kubebuilder:validation:MaxItems=16
	// +listType=atomic
	// +optional
	Windows []Window `json:"windows,omitempty"`

	// Restarts bounds how many workloads of its namespaces are restarted for
	// changed secrets at once, and in which order. Where it is set, even empty, a
	// workload also waits while its own rollout is under way, while a
	// PodDisruptionBudget of its pods has none to spare, and while the rollout of
	// another fails that was restarted for the same change. Default: each goes as
	// soon as its secret has changed.
	//
	// +optional
	Restarts *Restarts `json:"restarts,omitempty"`

	// Sealing keeps sealed copies of the environment's Secrets in a git
	// repository: what a cluster comes back from while its store is gone.
	// Default: none are kept.
	//
	// +optional
	Sealing *Sealing `json:"sealing,omitempty"`
}

// Restarts bounds restarts for changed secrets.
type Restarts struct {
	// MaxConcurrent is how many workloads roll out at once, whoever began it. One
	// whose rollout fails is not counted, or it would keep all others waiting.
	// Default: no limit but that of the whole cluster.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000
	// +optional
	MaxConcurrent *int32 `json:"maxConcurrent,omitempty"`

	// Spread is the least time between the beginnings of two restarts, up to 24h.
	// Default: none.
	//
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('24h')",message="spread must be from 0s to 24h"
	// +optional
	Spread *metav1.Duration `json:"spread,omitempty"`

	// Canary has one workload go first of those that a change of a Secret
	// restarts. Default: none goes first.
	//
	// +optional
	Canary *Canary `json:"canary,omitempty"`
}

// Canary is the workload that goes first: one with the annotation
// privyseal.io/canary: "true", if any reads the Secret.
type Canary struct {
	// Soak is how long all its pods have to be ready before the others follow,
	// up to 24h. While one is not, they wait.
	//
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('24h')",message="soak must be from 0s to 24h"
	Soak metav1.Duration `json:"soak"`
}

// Sealing says which sealed copies are kept, where, and who may open them.
type Sealing struct {
	// Copies Always keeps a copy of every Secret of a claim's own; OnRequest
	// (the default) of those whose claim says seal: true. A Secret that a claim
	// merges into is not the claim's, and is never copied.
	//
	// +optional
	Copies CopyPolicy `json:"copies,omitempty"`

	// Git is the repository that the copies are kept in.
	Git SealingGit `json:"git"`

	// Recipients are public keys of version 2, as PEM ("PRIVYSEAL V2 PUBLIC
	// KEY"), one or more in each text: of other clusters, and of the offline
	// recovery key. Each copy is sealed to all of them and to this
	// installation's own key; whoever has one of the private keys reads all
	// copies. At most 15 keys in all.
	//
	// +kubebuilder:validation:MaxItems=15
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=32768
	// +listType=atomic
	// +optional
	Recipients []string `json:"recipients,omitempty"`
}

// CopyPolicy says of which Secrets sealed copies are kept.
//
// +kubebuilder:validation:Enum=Always;OnRequest
type CopyPolicy string

// The choices of CopyPolicy.
const (
	// CopyAlways keeps a copy of every Secret of a claim's own.
	CopyAlways CopyPolicy = "Always"
	// CopyOnRequest keeps copies for claims that say seal: true.
	CopyOnRequest CopyPolicy = "OnRequest"
)

// SealingGit is a git repository, and how it is written to.
type SealingGit struct {
	// URL of the repository: https://git.example.com/ops/secrets.git,
	// ssh://git@git.example.com/ops/secrets.git, or
	// git@git.example.com:ops/secrets.git. Credentials do not belong in it.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	URL string `json:"url"`

	// Branch to commit to; it is made where it is not there. Default: main.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9][-A-Za-z0-9._/]*$`
	// +optional
	Branch string `json:"branch,omitempty"`

	// Path of a copy in the repository, a template over .Environment,
	// .Namespace and .Name (of the Secret). It has to name .Namespace and
	// .Name, or two Secrets would share a file, and stays in the repository.
	// Default: "{{ .Environment }}/{{ .Namespace }}/{{ .Name }}.yaml".
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +optional
	Path string `json:"path,omitempty"`

	// CredentialsRef names a Secret in the daemon's own namespace. For https:
	// username (default: git) and password, which takes a token, and ca.crt
	// where the server's certificate is not of a public authority. For ssh:
	// ssh-privatekey, and known_hosts, which is required: no host is trusted on
	// first use.
	CredentialsRef SecretRef `json:"credentialsRef"`

	// SigningKeyRef names a Secret in the daemon's own namespace that commits
	// are signed with: an OpenPGP private key, armored and without a
	// passphrase, under signing.asc. Default: commits are not signed.
	//
	// +optional
	SigningKeyRef *SecretRef `json:"signingKeyRef,omitempty"`
}

// Window is a time that returns.
type Window struct {
	// Kind Blackout: nothing is restarted in it, whatever other windows say.
	// Maintenance: with one or more of these, things are restarted in them
	// alone.
	Kind WindowKind `json:"kind"`

	// Schedule of its beginnings: minute, hour, day of month, month and day of
	// week as in cron, such as "0 18 * * 5" for Fridays at 18:00. A beginning
	// that the clock skips when it is put forward is at the first instant
	// after; one that it shows twice when it is put back is the first of the
	// two.
	//
	// +kubebuilder:validation:MinLength=9
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern=`^[-0-9A-Za-z*/,?]+( +[-0-9A-Za-z*/,?]+){4}$`
	Schedule string `json:"schedule"`

	// Duration from 1m to 744h, as elapsed time: "4h" is four hours, whatever
	// the clock does meanwhile.
	//
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1m') && duration(self) <= duration('744h')",message="duration must be from 1m to 744h (31 days)"
	Duration metav1.Duration `json:"duration"`

	// TimeZone of the schedule, of the IANA database: "Europe/Berlin".
	// Default: UTC.
	//
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self != 'Local'",message="timeZone is one of the IANA database, such as Europe/Berlin"
	// +optional
	TimeZone string `json:"timeZone,omitempty"`
}

// WindowKind says what a window does.
//
// +kubebuilder:validation:Enum=Blackout;Maintenance
type WindowKind string

// The kinds of windows.
const (
	WindowBlackout    WindowKind = "Blackout"
	WindowMaintenance WindowKind = "Maintenance"
)

// EnvironmentStatus is what is. It is empty while there is nothing to tell.
type EnvironmentStatus struct {
	// Conditions: WindowsUnusable is there while spec.windows let nothing
	// restart, ever.
	//
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=8
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
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
