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

// SecretStore is a tenant's own store, for the claims of its namespace. It may
// be used where the namespace is in no environment; what it names (certificates,
// credentials, a service account) lies in its namespace too. Its address has to
// be one that the administrator allows, for the daemon sends credentials there.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=sstore,categories=privyseal
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.spec.vault.address`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type SecretStore struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   SecretStoreSpec `json:"spec"`
	Status StoreStatus     `json:"status,omitempty"`
}

// SecretStoreSpec is a store.
type SecretStoreSpec struct {
	// Vault is a HashiCorp Vault or an OpenBao.
	Vault VaultStore `json:"vault"`
}

// NamespaceSelector chooses namespaces by their labels.
type NamespaceSelector struct {
	// Selector over the namespace's labels.
	Selector metav1.LabelSelector `json:"selector"`
}

// VaultStore is a Vault and a way to log in to it.
type VaultStore struct {
	// Address of the Vault API: https://vault.vault.svc:8200. Plain http is
	// refused unless the daemon runs with --dev-allow-http. In a SecretStore it
	// is one of those that the chart's vault.allowedAddresses lists, written as
	// there.
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

	// TLS says how the server proves itself, and we to it. Default: the
	// system's certificate authorities, and no certificate of ours.
	//
	// +optional
	TLS *VaultTLS `json:"tls,omitempty"`

	// Auth is the login; exactly one method.
	Auth VaultAuth `json:"auth"`
}

// VaultTLS is how a Vault's certificate is checked, which it always is, and
// which certificate it is shown. What it names lies, for a ClusterSecretStore,
// in the daemon's namespace; for a SecretStore, in the store's.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.caSecretRef) && has(self.caConfigMapRef))",message="give at most one of caSecretRef and caConfigMapRef"
type VaultTLS struct {
	// CASecretRef names a Secret with a PEM bundle of certificate authorities.
	//
	// +optional
	CASecretRef *KeyRef `json:"caSecretRef,omitempty"`

	// CAConfigMapRef names a ConfigMap with such a bundle.
	//
	// +optional
	CAConfigMapRef *KeyRef `json:"caConfigMapRef,omitempty"`

	// ServerName to expect in the certificate. Default: the address's host.
	//
	// +kubebuilder:validation:MaxLength=253
	// +optional
	ServerName string `json:"serverName,omitempty"`

	// ClientCertSecretRef names a Secret of type kubernetes.io/tls whose
	// certificate (tls.crt) and key (tls.key) are shown to a Vault that asks for
	// one. A renewed one is taken up when the Vault no longer accepts the old.
	// Default: none is shown.
	//
	// +optional
	ClientCertSecretRef *SecretRef `json:"clientCertSecretRef,omitempty"`
}

// SecretRef names a Secret.
type SecretRef struct {
	// Name of the Secret.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// SecretKeyRef names one key of a Secret.
type SecretKeyRef struct {
	// Name of the Secret.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// Key in it.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key"`
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

// VaultAuth is a way to log in: exactly one method. Secrets that it names lie,
// for a ClusterSecretStore, in the daemon's namespace; for a SecretStore, in the
// store's. They are read at each login, so what is written there is used from
// the next one on.
//
// +kubebuilder:validation:XValidation:rule="[has(self.kubernetes), has(self.appRole), has(self.token)].exists_one(given, given)",message="give exactly one of kubernetes, appRole and token"
type VaultAuth struct {
	// Namespace is the Vault namespace to log in to, where it differs from the
	// store's.
	//
	// +kubebuilder:validation:MaxLength=256
	// +optional
	Namespace string `json:"namespace,omitempty"`

	// Kubernetes logs in as a service account of the claim's own namespace, so
	// that Vault itself denies what the tenant may not read.
	//
	// +optional
	Kubernetes *VaultKubernetesAuth `json:"kubernetes,omitempty"`

	// AppRole logs in with a role's id and secret id. All that use the store
	// are one identity to Vault then: between the namespaces that share a
	// ClusterSecretStore, only the environments' paths remain as a fence.
	//
	// +optional
	AppRole *VaultAppRoleAuth `json:"appRole,omitempty"`

	// Token uses a token that somebody else makes and renews. All that use the
	// store are one identity then, as with appRole.
	//
	// +optional
	Token *VaultTokenAuth `json:"token,omitempty"`
}

// VaultAppRoleAuth is Vault's AppRole auth method.
// See https://developer.hashicorp.com/vault/api-docs/auth/approle.
type VaultAppRoleAuth struct {
	// Mount of the method. Default: approle.
	//
	// +kubebuilder:validation:MaxLength=256
	// +optional
	Mount string `json:"mount,omitempty"`

	// RoleID of the role, as Vault gives it: it names the role and is no
	// secret.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	RoleID string `json:"roleId"`

	// SecretIDSecretRef names the key of a Secret with the secret id.
	SecretIDSecretRef SecretKeyRef `json:"secretIdSecretRef"`
}

// VaultTokenAuth is a Vault token as it is.
// See https://developer.hashicorp.com/vault/docs/concepts/tokens.
type VaultTokenAuth struct {
	// SecretRef names the key of a Secret with the token. Privyseal does not
	// renew it: use one that something else keeps alive, or a periodic one.
	SecretRef SecretKeyRef `json:"secretRef"`
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
	// claim: "privyseal-{{ .Namespace }}". Outside environments, and so in a
	// SecretStore, there is no .Environment, and a role that uses it is refused:
	// with nothing in its place it could be the name of another role.
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

// SecretStoreList is a list of SecretStores.
//
// +kubebuilder:object:root=true
type SecretStoreList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []SecretStore `json:"items"`
}
