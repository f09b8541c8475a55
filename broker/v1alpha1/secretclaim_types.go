package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// SecretClaim says what an application wants: values from one or more paths of
// a store, as one Kubernetes Secret in the claim's namespace. As a
// PersistentVolumeClaim asks for storage, it names what it needs; the
// namespace's Environment says where that is.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=sclaim,categories=privyseal
// +kubebuilder:printcolumn:name="Target",type=string,JSONPath=`.status.target.name`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Current",type=integer,JSONPath=`.status.consumers.current`
// +kubebuilder:printcolumn:name="Stale",type=integer,JSONPath=`.status.consumers.stale`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type SecretClaim struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   SecretClaimSpec   `json:"spec"`
	Status SecretClaimStatus `json:"status,omitempty"`
}

// SecretClaimSpec is what is wanted.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.template) && has(self.template.metadata) && has(self.target) && has(self.target.mode) && self.target.mode == 'Merge')",message="template.metadata is for a Secret of the claim's own: leave it out, or set target.mode to Own"
// +kubebuilder:validation:XValidation:rule="!(has(self.seal) && self.seal && has(self.target) && has(self.target.mode) && self.target.mode == 'Merge')",message="seal is for a Secret of the claim's own: leave it out, or set target.mode to Own"
type SecretClaimSpec struct {
	// StoreRef names the store to read from: in an environment, one of those
	// that it lists; in a namespace without one, a SecretStore of the namespace,
	// and then every path is absolute. Default: the first store of the
	// namespace's environment.
	//
	// +optional
	StoreRef *StoreRef `json:"storeRef,omitempty"`

	// Sources are read in order and joined into one Secret. The same key from
	// two sources is an error unless the later source says override.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +listType=atomic
	Sources []Source `json:"sources"`

	// Template decides the target's content, its labels and its annotations.
	// Without it the target holds the keys of the sources as they are.
	//
	// +optional
	Template *Template `json:"template,omitempty"`

	// Target is the Secret to produce. Default: a Secret of the claim's name.
	//
	// +optional
	Target *Target `json:"target,omitempty"`

	// Refresh says when to read the store again. Default: every 5 minutes.
	//
	// +optional
	Refresh *Refresh `json:"refresh,omitempty"`

	// Restart says whether workloads whose pods hold an old value are
	// restarted. Auto (the default) restarts them, one rollout for one change;
	// Never leaves them, and shows them as stale. A key of the Secret that ends in
	// _previous, where a rotation leaves the value before, restarts nobody.
	//
	// +optional
	Restart RestartPolicy `json:"restart,omitempty"`

	// Seal keeps a sealed copy of the target in the git repository of the
	// namespace's environment, for the day on which the store is gone. Default:
	// what the environment's sealing.copies says. An environment without
	// sealing keeps none, and the claim's Sealed condition says so.
	//
	// +optional
	Seal bool `json:"seal,omitempty"`
}

// StoreRef names a store.
type StoreRef struct {
	// Kind of the store. Default: ClusterSecretStore.
	//
	// +optional
	Kind StoreKind `json:"kind,omitempty"`

	// Name of the store.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// Source is one path of the store and what to take from it.
type Source struct {
	// Path of the secret. "db" is relative to the environment's root;
	// "/kv/shared/ca" starts at the store's root. A KV v2 path is written
	// without the "data/" that its API puts behind the mount. A path that leads
	// into the creds/ of a database engine is leased: its values are made for this
	// claim, and made anew before they end.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Path string `json:"path"`

	// Keys to take. Default: every key, as it is.
	//
	// +kubebuilder:validation:MaxItems=128
	// +listType=atomic
	// +optional
	Keys []Key `json:"keys,omitempty"`

	// Prefix is put before each key's name in the target: with prefix "DB_",
	// password becomes DB_password. Renames by keys[].to are prefixed too.
	//
	// +kubebuilder:validation:MaxLength=128
	// +optional
	Prefix string `json:"prefix,omitempty"`

	// Version pins a KV v2 version. Default: the newest.
	//
	// +kubebuilder:validation:Minimum=1
	// +optional
	Version int64 `json:"version,omitempty"`

	// Override lets this source's keys replace keys of the same name from
	// sources before it. Default: the same key twice is an error.
	//
	// +optional
	Override bool `json:"override,omitempty"`
}

// Key is one value to take from a source.
//
// +kubebuilder:validation:XValidation:rule="has(self.from) != has(self.pointer)",message="give exactly one of from (a literal key) and pointer (a path into a nested value)"
// +kubebuilder:validation:XValidation:rule="has(self.from) || has(self.to)",message="pointer needs to: the name of the value in the target"
type Key struct {
	// From is the key in the store, taken literally: KV keys may hold dots and
	// slashes.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +optional
	From string `json:"from,omitempty"`

	// Pointer reaches a nested value, as RFC 6901 writes it: /tls/key.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^/`
	// +optional
	Pointer string `json:"pointer,omitempty"`

	// To is the key in the target. Default: from.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[-._a-zA-Z0-9]+$`
	// +optional
	To string `json:"to,omitempty"`
}

// Template renders the target from the sources' keys.
//
// +kubebuilder:validation:XValidation:rule="has(self.data) || has(self.metadata)",message="give data, metadata or both"
type Template struct {
	// Data maps each key of the target to a Go template over the sources'
	// keys: "postgres://{{ .username }}:{{ .password | urlquery }}@db/pay".
	// Templates are hermetic: they see nothing but the keys. Where given, the
	// target holds these keys and no others. Default: the keys of the sources
	// as they are.
	//
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=64
	// +optional
	Data map[string]TemplateText `json:"data,omitempty"`

	// Metadata of the target. It is for a Secret of the claim's own, and
	// changing it restarts nobody.
	//
	// +optional
	Metadata *TemplateMetadata `json:"metadata,omitempty"`
}

// TemplateText is the text of one template.
//
// +kubebuilder:validation:MaxLength=65536
type TemplateText string

// TemplateMetadata is what a claim puts on its target: plain text, no
// templates. What others put there stays; what a claim gives no longer is
// taken off again.
//
// Keys that other controllers trust are refused unless the environment's
// targetMetadata lists them: those under kubernetes.io, k8s.io,
// argocd.argoproj.io, sealedsecrets.bitnami.com and their subdomains. Keys
// under privyseal.io are always refused.
type TemplateMetadata struct {
	// Labels of the target.
	//
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(key, size(key) <= 317)",message="a label's key has at most 317 characters"
	// +optional
	Labels map[string]LabelValue `json:"labels,omitempty"`

	// Annotations of the target.
	//
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(key, size(key) <= 317)",message="an annotation's key has at most 317 characters"
	// +optional
	Annotations map[string]AnnotationValue `json:"annotations,omitempty"`
}

// LabelValue is the value of a label.
//
// +kubebuilder:validation:MaxLength=63
type LabelValue string

// AnnotationValue is the value of an annotation.
//
// +kubebuilder:validation:MaxLength=1024
type AnnotationValue string

// Target is the Secret that a claim produces.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.mode) && self.mode == 'Merge' && has(self.onClaimDeleted) && self.onClaimDeleted == 'Delete')",message="with mode Merge the Secret is not the claim's to delete, and its keys stay: set onClaimDeleted to Retain"
type Target struct {
	// Name of the Secret. Default: the claim's name.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`
	// +optional
	Name string `json:"name,omitempty"`

	// Type of the Secret. Default: Opaque; with mode Merge, whatever type the
	// Secret has. The types that hold credentials of the cluster itself
	// (service account tokens, bootstrap tokens) and Helm releases are refused.
	//
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Type string `json:"type,omitempty"`

	// Mode Own (the default) makes the Secret, and the Secret is the claim's
	// alone. Merge puts the claim's keys into a Secret that somebody else
	// made, and touches nothing else in it: a Secret that is not there is
	// waited for, and a key that somebody else manages is left as it is and
	// named in the claim's status. One claim merges into one Secret.
	//
	// +optional
	Mode TargetMode `json:"mode,omitempty"`

	// OnClaimDeleted says what becomes of the Secret when the claim is
	// deleted. Retain (the default for claims that people write) keeps it;
	// Delete (the default for claims made from annotations) removes it.
	// Nothing deletes a Secret because of the store. With mode Merge there is
	// only Retain: the keys stay in the Secret.
	//
	// +optional
	OnClaimDeleted OnClaimDeleted `json:"onClaimDeleted,omitempty"`
}

// TargetMode says whose Secret the target is.
//
// +kubebuilder:validation:Enum=Own;Merge
type TargetMode string

// The choices of TargetMode.
const (
	// OwnTarget makes a Secret that is the claim's alone.
	OwnTarget TargetMode = "Own"
	// MergeTarget puts keys into a Secret that somebody else made.
	MergeTarget TargetMode = "Merge"
)

// OnClaimDeleted says what becomes of a target whose claim is deleted.
//
// +kubebuilder:validation:Enum=Delete;Retain
type OnClaimDeleted string

// The choices of OnClaimDeleted.
const (
	// DeleteTarget removes the Secret with the claim, by owner reference.
	DeleteTarget OnClaimDeleted = "Delete"
	// RetainTarget keeps the Secret, which carries no owner reference then.
	RetainTarget OnClaimDeleted = "Retain"
)

// Refresh says when the store is read again.
type Refresh struct {
	// Interval between two reads, at least 5s. Default: 5m. Claims spread over
	// the interval by themselves.
	//
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('5s')",message="interval must be at least 5s"
	// +optional
	Interval *metav1.Duration `json:"interval,omitempty"`

	// Policy Periodic (the default) reads every interval; Once reads until the
	// first success and then only when the claim's spec changes.
	//
	// +optional
	Policy RefreshPolicy `json:"policy,omitempty"`
}

// RefreshPolicy says whether a claim is read again.
//
// +kubebuilder:validation:Enum=Periodic;Once
type RefreshPolicy string

// The choices of RefreshPolicy.
const (
	RefreshPeriodic RefreshPolicy = "Periodic"
	RefreshOnce     RefreshPolicy = "Once"
)

// RestartPolicy says whether stale consumers are restarted.
//
// +kubebuilder:validation:Enum=Auto;Never
type RestartPolicy string

// The choices of RestartPolicy.
const (
	RestartAuto  RestartPolicy = "Auto"
	RestartNever RestartPolicy = "Never"
)

// SecretClaimStatus is what is. Nothing in it moves while nothing changes.
type SecretClaimStatus struct {
	// ObservedGeneration is the generation of the spec that the rest of the
	// status speaks of.
	//
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Target is the Secret as Privyseal last wrote or checked it. While its
	// resourceVersion is the Secret's own, the Secret is known to be unchanged
	// without reading it.
	//
	// +optional
	Target *TargetStatus `json:"target,omitempty"`

	// Sequence counts the target's content changes: 0 for its first content,
	// then max(previous+1, Unix seconds).
	//
	// +optional
	Sequence int64 `json:"sequence,omitempty"`

	// SourceVersions are the store's versions of the sources, in their order;
	// 0 where the store knows none.
	//
	// +kubebuilder:validation:MaxItems=32
	// +listType=atomic
	// +optional
	SourceVersions []int64 `json:"sourceVersions,omitempty"`

	// Leases are what the store has lent for leased sources: values that it made
	// for this claim alone, and takes back. They move when one is issued anew, and
	// when an older one is given back.
	//
	// +kubebuilder:validation:MaxItems=32
	// +listType=atomic
	// +optional
	Leases []Lease `json:"leases,omitempty"`

	// Consumers counts the workloads whose live pods read the target. It moves
	// at most twice for a change: when the rollouts begin and when they end.
	//
	// +optional
	Consumers *Consumers `json:"consumers,omitempty"`

	// RestartNow are the reasons for which restarts were let go though a window
	// held them back, oldest first: those that the annotation
	// privyseal.io/restart-now gives on the claim, or on a workload that reads
	// its Secret. Each is good for the changes up to its sequence, so a reason
	// that stays where it is lets nothing else go.
	//
	// +kubebuilder:validation:MaxItems=16
	// +listType=atomic
	// +optional
	RestartNow []RestartNow `json:"restartNow,omitempty"`

	// Conditions: Ready says that the target exists and holds what this
	// generation asks for, as of the last successful read. A store that cannot
	// be reached never turns Ready to False: the last good value stays. Stale
	// says that the sources have not been read for long; a claim that never
	// was stale has none. RestartDeferred is there while restarts wait for a
	// window of the environment, LeaseExpiring while what is lent nears its end
	// and cannot be renewed or issued anew.
	//
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=8
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// TargetStatus identifies a target and the state of it that was last seen.
type TargetStatus struct {
	// Name of the Secret.
	//
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// UID of the Secret.
	//
	// +kubebuilder:validation:MaxLength=64
	UID string `json:"uid"`
	// ResourceVersion of the Secret when it was last written or checked.
	//
	// +kubebuilder:validation:MaxLength=64
	ResourceVersion string `json:"resourceVersion"`
	// Revision is the keyed digest of the whole content. It tells, when the
	// Secret was deleted and is made again, whether it is the same content.
	//
	// +kubebuilder:validation:MaxLength=64
	Revision string `json:"revision"`
}

// Lease is what is lent for one path.
type Lease struct {
	// Source is the path in the store: "database/creds/payments-rw".
	//
	// +kubebuilder:validation:MaxLength=512
	Source string `json:"source"`
	// IssuedAt is when the values were made.
	IssuedAt metav1.Time `json:"issuedAt"`
	// MaxExpiry is when they end, however often they are renewed. Others are
	// issued before. None: they end when they are given back.
	//
	// +optional
	MaxExpiry *metav1.Time `json:"maxExpiry,omitempty"`
	// Sequence of the target's content since which it holds them. Pods that were
	// started under an earlier one may hold those before.
	Sequence int64 `json:"sequence"`
	// PreviousExpiry is there while values before these are not given back, since
	// pods may hold them: when the first of them end.
	//
	// +optional
	PreviousExpiry *metav1.Time `json:"previousExpiry,omitempty"`
}

// Consumers counts workloads that read a target.
type Consumers struct {
	// Current is the number of workloads all of whose live pods hold the
	// target's present content of the keys that they read.
	Current int32 `json:"current"`
	// Stale is the number of workloads with a live pod that was started under
	// another content.
	Stale int32 `json:"stale"`
}

// RestartNow is a reason to restart in spite of windows, and what it is good for.
type RestartNow struct {
	// Workload that was annotated, as in "Deployment/web". Empty: the claim
	// was, and the reason is good for every workload that reads its Secret.
	//
	// +kubebuilder:validation:MaxLength=317
	// +optional
	Workload string `json:"workload,omitempty"`
	// Reason as the annotation gives it, cut to 256 characters.
	//
	// +kubebuilder:validation:MaxLength=256
	Reason string `json:"reason"`
	// Sequence of the last change that the reason is good for: what waited when
	// it was seen first.
	Sequence int64 `json:"sequence"`
}

// SecretClaimList is a list of SecretClaims.
//
// +kubebuilder:object:root=true
type SecretClaimList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []SecretClaim `json:"items"`
}
