package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// RotationSet says what gives the system the new value.
type RotationSet struct {
	// Job that runs before the new values are written, and, with the old values in
	// their place, where they are taken back. It has to do no harm if it runs twice.
	Job RotationJob `json:"job"`

	// Timeout of one run, from 10s to 24h. Default: 5m.
	//
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('10s') && duration(self) <= duration('24h')",message="want from 10s to 24h"
	// +kubebuilder:validation:MaxLength=32
	// +optional
	Timeout *metav1.Duration `json:"timeout,omitempty"`

	// CredentialsPath is the path of another document, of whoever may change the
	// value at the system: an administrator's login. Its keys are files for the Job,
	// admin/KEY beside new/KEY and old/KEY. It is found and allowed as spec.path is,
	// in the same store; the namespace's login may read it, and no claim need be
	// there for it. It is read when the Job is made. Default: none.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +optional
	CredentialsPath string `json:"credentialsPath,omitempty"`
}

// RotationJob is a Job with one container, in the rotation's namespace and as its
// service account privyseal-rotation, of which it gets no token. It runs as user
// 65532, and can write to /tmp only. The values are files, by the document's keys:
// /var/run/privyseal/new/KEY is what the system is to know, and, for set,
// /var/run/privyseal/old/KEY is what it knew before, and
// /var/run/privyseal/admin/KEY is of set.credentialsPath. PRIVYSEAL_HOOK is set, set-back
// or verify; PRIVYSEAL_ROTATION and PRIVYSEAL_ATTEMPT say for what. What it writes to
// /dev/termination-log is told if it fails.
type RotationJob struct {
	// Image of the container.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Image string `json:"image"`

	// ImagePullPolicy as that of a container.
	//
	// +kubebuilder:validation:Enum=Always;IfNotPresent;Never
	// +optional
	ImagePullPolicy corev1.PullPolicy `json:"imagePullPolicy,omitempty"`

	// Command in place of the image's own.
	//
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=4096
	// +listType=atomic
	// +optional
	Command []string `json:"command,omitempty"`

	// Args of the command.
	//
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=4096
	// +listType=atomic
	// +optional
	Args []string `json:"args,omitempty"`

	// Env are variables, of which nothing is secret.
	//
	// +kubebuilder:validation:MaxItems=32
	// +listType=map
	// +listMapKey=name
	// +optional
	Env []RotationJobVariable `json:"env,omitempty"`

	// Resources of the container.
	//
	// +optional
	Resources RotationJobResources `json:"resources,omitzero"`
}

// RotationJobVariable is a variable with a value that is written here.
type RotationJobVariable struct {
	// Name of the variable. Those that begin with PRIVYSEAL_ are the daemon's.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern=`^[A-Za-z_][A-Za-z0-9_]*$`
	// +kubebuilder:validation:XValidation:rule="!self.startsWith('PRIVYSEAL_')",message="variables that begin with PRIVYSEAL_ are set by the daemon"
	Name string `json:"name"`

	// Value of the variable.
	//
	// +kubebuilder:validation:MaxLength=2048
	// +optional
	Value string `json:"value,omitempty"`
}

// RotationJobResources are those of a container, by their names: cpu, memory,
// ephemeral-storage.
type RotationJobResources struct {
	// Limits of what it may use.
	//
	// +kubebuilder:validation:MaxProperties=8
	// +optional
	Limits map[string]resource.Quantity `json:"limits,omitempty"`

	// Requests are what it is sure to get.
	//
	// +kubebuilder:validation:MaxProperties=8
	// +optional
	Requests map[string]resource.Quantity `json:"requests,omitempty"`
}
