package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// SecretRotation gives some keys of a document new values on a schedule, writes
// them to the store, and waits for whoever reads them. Where that does not work,
// the old values are written back.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=srot,categories=privyseal
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Last",type=date,JSONPath=`.status.lastRotation`
// +kubebuilder:printcolumn:name="Next",type=string,JSONPath=`.status.nextRotation`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type SecretRotation struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   SecretRotationSpec   `json:"spec"`
	Status SecretRotationStatus `json:"status,omitempty"`
}

// SecretRotationSpec is what is to be rotated, and when.
//
// +kubebuilder:validation:XValidation:rule="has(self.users) == (has(self.strategy) && self.strategy == 'AlternateUsers')",message="users is for strategy AlternateUsers, which needs it"
// +kubebuilder:validation:XValidation:rule="!has(self.strategy) || self.strategy != 'AlternateUsers' || has(self.set)",message="with strategy AlternateUsers somebody has to give the other user the new password: give set"
// +kubebuilder:validation:XValidation:rule="!has(self.dropPreviousAfter) || (has(self.strategy) && self.strategy == 'Overlap')",message="dropPreviousAfter is for strategy Overlap: leave it out"
// +kubebuilder:validation:XValidation:rule="has(self.generate) != has(self.engine)",message="give exactly one of generate and engine"
// +kubebuilder:validation:XValidation:rule="has(self.path) != has(self.engine)",message="give path with generate, and not with engine, which says where the value is"
// +kubebuilder:validation:XValidation:rule="!has(self.engine) || !has(self.strategy)",message="an engine has one value, which takes the old one's place: leave strategy out"
// +kubebuilder:validation:XValidation:rule="!has(self.engine) || !has(self.onFailure) || self.onFailure == 'Halt'",message="nobody can take back what an engine made: leave onFailure out, or say Halt"
// +kubebuilder:validation:XValidation:rule="!has(self.engine) || !has(self.verify) || has(self.engine.rotateRole)",message="no claim reads what such an engine makes: leave verify out"
// +kubebuilder:validation:XValidation:rule="!has(self.engine) || (!has(self.set) && (!has(self.verify) || !has(self.verify.job)))",message="a Job has nothing to do with what an engine makes: leave set and verify.job out"
type SecretRotationSpec struct {
	// StoreRef names the ClusterSecretStore that has the document, one of those
	// that the namespace's environment lists. Default: the environment's first.
	//
	// +optional
	StoreRef *StoreRef `json:"storeRef,omitempty"`

	// Path of the document, found and allowed as that of a SecretClaim in the
	// same namespace: "db" is relative to the environment's root, "/kv/shared/ca"
	// starts at the store's root. It has to lie in a key-value engine of version
	// 2, in which the namespace's login may create, update and read it. One path
	// has one rotation: of several the one that was made first. With an engine, that
	// says where the value is.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +optional
	Path string `json:"path,omitempty"`

	// Schedule of the runs, as cron has it: minute, hour, day of month, month, day
	// of week. Of several runs that were missed the last is made up.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	Schedule string `json:"schedule"`

	// TimeZone of the schedule, of the IANA database: Europe/Berlin. Default: UTC.
	//
	// +kubebuilder:validation:MaxLength=64
	// +optional
	TimeZone string `json:"timeZone,omitempty"`

	// Jitter is how much later than its time a run may begin, up to 24h. It is the
	// same whenever it is asked for. Default: not at all.
	//
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('24h')",message="want from 0s to 24h"
	// +kubebuilder:validation:MaxLength=32
	// +optional
	Jitter *metav1.Duration `json:"jitter,omitempty"`

	// StartingDeadline is how long after its time a run is made up that did not
	// begin, from 1m to 744h, not counting the time in which the environment's
	// windows forbid it. Default: until the next run.
	//
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1m') && duration(self) <= duration('744h')",message="want from 1m to 744h"
	// +kubebuilder:validation:MaxLength=32
	// +optional
	StartingDeadline *metav1.Duration `json:"startingDeadline,omitempty"`

	// Suspend has no run begin. One that began goes on, and what was missed is
	// made up afterwards.
	//
	// +optional
	Suspend bool `json:"suspend,omitempty"`

	// Generate says how the new values are made, by the key of the document that
	// they are for. Other keys stay as they are. All that is made for a run is one
	// change: it is written, and taken back, together. No two values, nor those
	// before, may have the same key.
	//
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=16
	// +kubebuilder:validation:XValidation:rule="self.all(key, size(key) > 0 && size(key) <= 253)",message="a key has 1 to 253 characters"
	// +kubebuilder:validation:XValidation:rule="self.all(key, !key.endsWith('_previous'))",message="a key does not end in _previous: what is under such a name is a value before, for which no pod is restarted"
	// +optional
	Generate map[string]Generator `json:"generate,omitempty"`

	// Engine of the store that makes the new value by itself, instead of generate.
	// Nobody can prepare such a value or take it back: a rotation that does not
	// work halts, and says why.
	//
	// +optional
	Engine *RotationEngine `json:"engine,omitempty"`

	// Strategy says how the new value comes in beside the old one.
	//
	// Replace, the default: it takes the old one's place. Who uses the old one fails
	// until its pod is replaced, where the system takes but one.
	//
	// Overlap: the old one stays in the store beside it, as <key>_previous, until the
	// next rotation or dropPreviousAfter. Nobody fails if the system takes both. That
	// a key that ends in _previous changes, comes or goes restarts no pod.
	//
	// AlternateUsers: the system has two users, and the one who is not in use gets
	// the new value. Nobody fails. Somebody has to give it to them, so it needs set.
	//
	// +optional
	Strategy RotationStrategy `json:"strategy,omitempty"`

	// Users are the two of strategy AlternateUsers, which needs them.
	//
	// +optional
	Users *RotationUsers `json:"users,omitempty"`

	// DropPreviousAfter is how long after a rotation that went well the values
	// before are taken out of the store, from 1m to 8784h; with strategy Overlap
	// alone. That restarts no pod. Values that somebody else wrote there meanwhile
	// stay. Default: they stay until the next rotation.
	//
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1m') && duration(self) <= duration('8784h')",message="want from 1m to 8784h"
	// +kubebuilder:validation:MaxLength=32
	// +optional
	DropPreviousAfter *metav1.Duration `json:"dropPreviousAfter,omitempty"`

	// Set says what gives the system the new values, which it would otherwise have
	// to read from the store. Needs the right to create Jobs in the namespace.
	//
	// +optional
	Set *RotationSet `json:"set,omitempty"`

	// Verify says what has to be before a rotation went well. Default: that the
	// Secrets of all claims on the path have the new values.
	//
	// +optional
	Verify *RotationVerify `json:"verify,omitempty"`

	// OnFailure says what becomes of a rotation that does not work. RollBack, the
	// default, writes the old values back; Halt leaves all as it is, for somebody
	// to look at, who says how it goes on by the annotation
	// privyseal.io/rotation-order.
	//
	// +optional
	OnFailure RotationFailure `json:"onFailure,omitempty"`
}

// RotationEngine is what the store rotates by itself. Give exactly one of its fields.
// A path begins at the store's root, and has no leading slash.
//
// +kubebuilder:validation:XValidation:rule="[has(self.rotateRole), has(self.rotateRoot), has(self.rotateKey)].filter(given, given).size() == 1",message="give exactly one of rotateRole, rotateRoot and rotateKey"
type RotationEngine struct {
	// RotateRole is a static role of a database engine:
	// database/rotate-role/payments. Claims read its password at
	// database/static-creds/payments, which the environment has to allow, and the
	// namespace's login may read that and update this. A database knows one
	// password of a user: whoever logs in with the old one fails until its pod is
	// replaced.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=480
	// +optional
	RotateRole string `json:"rotateRole,omitempty"`

	// RotateRoot is the user by which a database engine itself logs in:
	// database/rotate-root/main. The environment has to allow
	// database/config/main, and the login to update this. The engine does not say
	// when it did: where a daemon dies in the middle of it, it is done again.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=480
	// +optional
	RotateRoot string `json:"rotateRoot,omitempty"`

	// RotateKey is a key of a transit engine: transit/keys/payments. The
	// environment has to allow it, and the login to read it and to update
	// transit/keys/payments/rotate. What was encrypted before still opens.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=480
	// +optional
	RotateKey string `json:"rotateKey,omitempty"`
}

// RotationStrategy says how the new value comes in beside the old one.
//
// +kubebuilder:validation:Enum=Replace;Overlap;AlternateUsers
type RotationStrategy string

// The strategies.
const (
	// RotationReplace: the new value takes the old one's place.
	RotationReplace RotationStrategy = "Replace"
	// RotationOverlap: the old value stays beside it, as <key>_previous.
	RotationOverlap RotationStrategy = "Overlap"
	// RotationAlternateUsers: the user who is not in use gets the new value.
	RotationAlternateUsers RotationStrategy = "AlternateUsers"
)

// RotationUsers are two users of a system, who take turns.
type RotationUsers struct {
	// Key of the document that has the name of the user who is in use. Each
	// rotation writes the other's there.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key"`

	// Names of the two. The document has to have one of them before the first
	// rotation.
	//
	// +kubebuilder:validation:MinItems=2
	// +kubebuilder:validation:MaxItems=2
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.size() != 2 || self[0] != self[1]",message="want two different names"
	// +listType=atomic
	Names []string `json:"names"`
}

// RotationVerify says what has to be before a rotation went well.
//
// +kubebuilder:validation:XValidation:rule="has(self.consumers) || has(self.job)",message="give consumers, job, or both"
type RotationVerify struct {
	// Consumers Ready: no pod has the old values any more, and all workloads that
	// read them are ready. The time in which windows hold their restarts back does
	// not count. A workload, or a claim, that does not want to be restarted never
	// gets there.
	//
	// +kubebuilder:validation:Enum=Ready
	// +optional
	Consumers string `json:"consumers,omitempty"`

	// Job that tries the new values when the consumers have them, and fails if they
	// do not work. It has to do no harm if it runs twice. Needs the right to create
	// Jobs in the namespace.
	//
	// +optional
	Job *RotationJob `json:"job,omitempty"`

	// Timeout of the consumers, and of the job, from 10s to 24h. Default: 10m for
	// the consumers, and 5m for the job.
	//
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('10s') && duration(self) <= duration('24h')",message="want from 10s to 24h"
	// +kubebuilder:validation:MaxLength=32
	// +optional
	Timeout *metav1.Duration `json:"timeout,omitempty"`
}

// ConsumersReady is the one choice of verify.consumers.
const ConsumersReady = "Ready"

// RotationFailure says what becomes of a rotation that does not work.
//
// +kubebuilder:validation:Enum=RollBack;Halt
type RotationFailure string

// The choices of RotationFailure.
const (
	RotationRollBack RotationFailure = "RollBack"
	RotationHalt     RotationFailure = "Halt"
)

// SecretRotationStatus is how far the rotation is. It is what the next daemon goes
// on from, so it is nobody's to write. There is no value in it.
type SecretRotationStatus struct {
	// ObservedGeneration is the generation of the spec that Ready speaks of.
	//
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Path of the document from the store's root, as it was found.
	//
	// +kubebuilder:validation:MaxLength=512
	// +optional
	Path string `json:"path,omitempty"`

	// Phase is what was reached, or may have been begun. Empty: it never ran.
	//
	// +kubebuilder:validation:MaxLength=32
	// +optional
	Phase string `json:"phase,omitempty"`

	// Since is when the phase began.
	//
	// +optional
	Since *metav1.MicroTime `json:"since,omitempty"`

	// Attempt counts what was begun, over all runs.
	//
	// +optional
	Attempt int64 `json:"attempt,omitempty"`

	// Run that the attempt is for: what the clock on the wall showed at its time
	// (2026-10-25T02:30), or now: and the word for which it began at once.
	//
	// +kubebuilder:validation:MaxLength=80
	// +optional
	Run string `json:"run,omitempty"`

	// Record is the UID of the Secret in which both values are sealed away.
	//
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Record string `json:"record,omitempty"`

	// Engine that the attempt has rotate; empty where it makes the values itself.
	//
	// +kubebuilder:validation:MaxLength=512
	// +optional
	Engine string `json:"engine,omitempty"`

	// EngineStore is the ClusterSecretStore that has the engine.
	//
	// +kubebuilder:validation:MaxLength=253
	// +optional
	EngineStore string `json:"engineStore,omitempty"`

	// Round counts how often somebody had the attempt go on after it halted.
	//
	// +optional
	Round int64 `json:"round,omitempty"`

	// FromVersion is the document's version with the old values.
	//
	// +optional
	FromVersion int64 `json:"fromVersion,omitempty"`

	// ToVersion is the one with the new values; 0 where they were not written.
	//
	// +optional
	ToVersion int64 `json:"toVersion,omitempty"`

	// HaltedIn is the phase in which it halted.
	//
	// +kubebuilder:validation:MaxLength=32
	// +optional
	HaltedIn string `json:"haltedIn,omitempty"`

	// Why it failed or halted.
	//
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Why string `json:"why,omitempty"`

	// Obeyed is the last order that was: privyseal.io/rotation-order.
	//
	// +kubebuilder:validation:MaxLength=80
	// +optional
	Obeyed string `json:"obeyed,omitempty"`

	// RotatedNow is the last word for which a run began at once:
	// privyseal.io/rotate-now.
	//
	// +kubebuilder:validation:MaxLength=64
	// +optional
	RotatedNow string `json:"rotatedNow,omitempty"`

	// Schedule that runs are due by, and since when it counts.
	//
	// +optional
	Schedule *RotationSchedule `json:"schedule,omitempty"`

	// Runs of the schedule that began, the last two.
	//
	// +kubebuilder:validation:MaxItems=2
	// +listType=atomic
	// +optional
	Runs []RotationRun `json:"runs,omitempty"`

	// LastRotation is when the last one went well.
	//
	// +optional
	LastRotation *metav1.Time `json:"lastRotation,omitempty"`

	// NextRotation is when the next run begins; none where nobody can say.
	//
	// +optional
	NextRotation *metav1.Time `json:"nextRotation,omitempty"`

	// Previous is where the last rotation that went well left values before, while
	// they may still be dropped.
	//
	// +optional
	Previous *RotationPrevious `json:"previous,omitempty"`

	// History of what ended, the newest first.
	//
	// +kubebuilder:validation:MaxItems=10
	// +listType=atomic
	// +optional
	History []RotationHistory `json:"history,omitempty"`

	// Conditions: Ready says that the rotation can be carried out as it is
	// written, as far as can be told before. Rotated says how the last one ended;
	// while one is under way it is Unknown, and says what is waited for.
	//
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=8
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// RotationSchedule is a schedule, and since when it counts: no run before that is
// due.
type RotationSchedule struct {
	// Cron is the schedule.
	//
	// +kubebuilder:validation:MaxLength=128
	Cron string `json:"cron"`
	// TimeZone of it; empty is UTC.
	//
	// +kubebuilder:validation:MaxLength=64
	// +optional
	TimeZone string `json:"timeZone,omitempty"`
	// Since when it counts.
	Since metav1.Time `json:"since"`
}

// RotationRun is a time at which the schedule fires.
type RotationRun struct {
	// ID is what the wall shows.
	//
	// +kubebuilder:validation:MaxLength=80
	ID string `json:"id"`
	// At is the instant.
	At metav1.Time `json:"at"`
}

// RotationPrevious are values before that a rotation left in the store.
type RotationPrevious struct {
	// Path of the document.
	//
	// +kubebuilder:validation:MaxLength=512
	Path string `json:"path"`
	// Version of the document that has them.
	Version int64 `json:"version"`
	// Since when it has.
	Since metav1.MicroTime `json:"since"`
	// Keys that they are under.
	//
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=253
	// +listType=atomic
	Keys []string `json:"keys"`
	// Dropping: they are being dropped, and no run begins before they are.
	//
	// +optional
	Dropping bool `json:"dropping,omitempty"`
}

// RotationHistory is a rotation that ended.
type RotationHistory struct {
	// Run that it was for.
	//
	// +kubebuilder:validation:MaxLength=80
	Run string `json:"run"`
	// Attempt of it, the last of the run; 0 where there was none.
	Attempt int64 `json:"attempt"`
	// Phase that it ended in: Done, RolledBack or Accepted; or Missed, if it did
	// not begin before its startingDeadline.
	//
	// +kubebuilder:validation:MaxLength=32
	Phase string `json:"phase"`
	// Ended when.
	Ended metav1.Time `json:"ended"`
	// FromVersion and ToVersion of the document.
	//
	// +optional
	FromVersion int64 `json:"fromVersion,omitempty"`
	// +optional
	ToVersion int64 `json:"toVersion,omitempty"`
	// Why it failed.
	//
	// +kubebuilder:validation:MaxLength=256
	// +optional
	Why string `json:"why,omitempty"`
}

// SecretRotationList is a list of SecretRotations.
//
// +kubebuilder:object:root=true
type SecretRotationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []SecretRotation `json:"items"`
}
