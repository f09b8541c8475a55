package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ClusterSecretStore says where values come from and as whom they are asked
// for. Which namespaces use it is said by their Environment, and by
// spec.namespaces here.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=csstore,categories=privyseal
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.spec.vault.address`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ClusterSecretStore struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ClusterSecretStoreSpec `json:"spec"`
	Status StoreStatus            `json:"status,omitempty"`
}

// ClusterSecretStoreSpec is a store and who may use it.
type ClusterSecretStoreSpec struct {
	// Vault is a HashiCorp Vault or an OpenBao.
	Vault VaultStore `json:"vault"`

	// Namespaces limits who may use this store, beside what environments say.
	// Default: every namespace whose environment lists it.
	//
	// +optional
	Namespaces *NamespaceSelector `json:"namespaces,omitempty"`
}

// NamespaceSelector chooses namespaces by their labels.
type NamespaceSelector struct {
	// Selector over the namespace's labels.
	Selector metav1.LabelSelector `json:"selector"`
}

// VaultStore is a Vault and a way to log in to it.
type VaultStore struct {
	// Address of the Vault API: https://vault.vault.svc:8200. Plain http is
	// refused unless the daemon runs with --dev-allow-http.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^https?://[^/?#@]+/?$`
	Address string `json:"address"`

	// Namespace is the Vault namespace of the paths (Vault Enterprise, HCP,
	// OpenBao). Default: none.
	//
	// +kubebuilder:validation:MaxLength=256
	// +optional
	Namespace string `json:"namespace,omitempty"`

	// TLS says how the server proves itself. Default: the system's
	// certificate authorities.
	//
	// +optional
	TLS *VaultTLS `json:"tls,omitempty"`

	// Auth is the login; exactly one method.
	Auth VaultAuth `json:"auth"`
}

// VaultTLS is how a Vault's certificate is checked. It is always checked.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.caSecretRef) && has(self.caConfigMapRef))",message="give at most one of caSecretRef and caConfigMapRef"
type VaultTLS struct {
	// CASecretRef names a Secret with a PEM bundle of certificate authorities.
	// For a ClusterSecretStore it lies in the daemon's namespace.
	//
	// +optional
	CASecretRef *KeyRef `json:"caSecretRef,omitempty"`

	// CAConfigMapRef names a ConfigMap with such a bundle, likewise.
	//
	// +optional
	CAConfigMapRef *KeyRef `json:"caConfigMapRef,omitempty"`

	// ServerName to expect in the certificate. Default: the address's host.
	//
	// +kubebuilder:validation:MaxLength=253
	// +optional
	ServerName string `json:"serverName,omitempty"`
}

// KeyRef names one key of a Secret or ConfigMap.
type KeyRef struct {
	// Name of the object.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// Key in it. Default: ca.crt.
	//
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Key string `json:"key,omitempty"`
}

// VaultAuth is a way to log in.
type VaultAuth struct {
	// Namespace is the Vault namespace to log in to, where it differs from the
	// store's.
	//
	// +kubebuilder:validation:MaxLength=256
	// +optional
	Namespace string `json:"namespace,omitempty"`

	// Kubernetes logs in as a service account of the claim's own namespace, so
	// that Vault itself denies what the tenant may not read.
	Kubernetes VaultKubernetesAuth `json:"kubernetes"`
}

// VaultKubernetesAuth is Vault's kubernetes auth method.
// See https://developer.hashicorp.com/vault/api-docs/auth/kubernetes.
type VaultKubernetesAuth struct {
	// Mount of the method. Default: kubernetes.
	//
	// +kubebuilder:validation:MaxLength=256
	// +optional
	Mount string `json:"mount,omitempty"`

	// Role to log in as, a template over .Namespace and .Environment of the
	// claim: "privyseal-{{ .Namespace }}".
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Role string `json:"role"`

	// ServiceAccountRef names the service account in the claim's namespace
	// whose token is presented. Default: privyseal.
	//
	// +optional
	ServiceAccountRef *ServiceAccountRef `json:"serviceAccountRef,omitempty"`

	// Audiences of the token. Use one that names this Vault alone, such as its
	// address, so that a token for one Vault is no use at another. Default:
	// the store's address.
	//
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MaxLength=512
	// +listType=atomic
	// +optional
	Audiences []string `json:"audiences,omitempty"`
}

// ServiceAccountRef names a service account in the claim's namespace.
type ServiceAccountRef struct {
	// Name of the service account.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// StoreStatus is a store's state as its claims last found it.
type StoreStatus struct {
	// ObservedGeneration is the generation of the spec that the rest of the
	// status speaks of.
	//
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Conditions: Ready says that the store answered when it was last asked.
	//
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=8
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// ClusterSecretStoreList is a list of ClusterSecretStores.
//
// +kubebuilder:object:root=true
type ClusterSecretStoreList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ClusterSecretStore `json:"items"`
}
