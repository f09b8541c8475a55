package v1alpha1

// ConditionReady on a SecretClaim: the target exists and holds what this
// generation asks for, as of the last successful read. On a store: the last
// login or read answered.
const ConditionReady = "Ready"

// ConditionStale on a SecretClaim: its sources have not been read for longer
// than the daemon bears, so the target holds the last good value and the store
// may hold another. It is True with the reason of the last failure, and False
// from the first read that succeeds. A claim that never was stale has none.
const ConditionStale = "Stale"

// ConditionEnvConflict on a SecretClaim: a live pod takes the whole Secret as
// variables and gets some of them from elsewhere too. A claim without such pods
// has none.
const ConditionEnvConflict = "EnvConflict"

// ReasonVariablesCollide of EnvConflict: its message names pods' workloads,
// containers, variables and where they come from.
const ReasonVariablesCollide = "VariablesCollide"

// ConditionUninjected on a SecretClaim: live pods ask for it by annotation and
// run without it, since the webhook did not see them. A claim without such pods
// has none.
const ConditionUninjected = "Uninjected"

// ReasonPodsWithout of Uninjected: its message names the pods' workloads, and
// what becomes of them.
const ReasonPodsWithout = "PodsWithout"

// ConditionSealed on a SecretClaim: the sealed copy of its target lies in git as
// the target is now. A claim of which no copy is wanted has none.
const ConditionSealed = "Sealed"

// Reasons of a SecretClaim's Sealed condition.
const (
	// ReasonInGit: the repository holds a copy of the target's present content,
	// for all who should be able to open it.
	ReasonInGit = "InGit"
	// ReasonSealingNotConfigured: the claim asks for a copy, and its namespace
	// is in no environment, or in one without sealing.
	ReasonSealingNotConfigured = "SealingNotConfigured"
	// ReasonSealingInvalid: the environment's spec.sealing cannot be used, or a
	// Secret that it names cannot.
	ReasonSealingInvalid = "SealingInvalid"
	// ReasonPathTaken: at the copy's path lies something that is not this
	// claim's copy, and it is left alone.
	ReasonPathTaken = "PathTaken"
	// ReasonCopyInvalid: the target cannot be sealed, or not written at its path.
	ReasonCopyInvalid = "CopyInvalid"
	// ReasonLeased: the target holds values that the store takes back, so a copy
	// would soon be worth nothing, and none is kept.
	ReasonLeased = "Leased"
	// ReasonRepositoryDenied: the repository refuses the credentials, or is not
	// the one that they are for.
	ReasonRepositoryDenied = "RepositoryDenied"
	// ReasonRepositoryUnavailable: the repository cannot be reached, or takes
	// no commit. It is tried again.
	ReasonRepositoryUnavailable = "RepositoryUnavailable"
)

// ConditionRestartDeferred on a SecretClaim: workloads with a live pod that
// holds an old value wait for their environment's windows to be restarted. A
// claim without such workloads has none.
const ConditionRestartDeferred = "RestartDeferred"

// Reasons of RestartDeferred. Its message names the window, and when the
// restarts come.
const (
	// ReasonWindowClosed: a window holds restarts back, and another instant
	// lets them go.
	ReasonWindowClosed = "WindowClosed"
	// ReasonTurn: the environment's restarts let others go first.
	ReasonTurn = "Turn"
	// ReasonRolloutFailing: the rollout of a workload that was restarted for the
	// same change fails, and the rest are not restarted.
	ReasonRolloutFailing = "RolloutFailing"
	// ReasonDisruptionBudget: a PodDisruptionBudget has no pod to spare.
	ReasonDisruptionBudget = "DisruptionBudget"
	// ReasonWindowsMalformed: spec.windows of the environment cannot be read, or
	// it is not known which environment the namespace is in. On an Environment:
	// a reason of WindowsUnusable.
	ReasonWindowsMalformed = "WindowsMalformed"
	// ReasonWindowsNeverOpen: spec.windows leave no time for restarts. On an
	// Environment: a reason of WindowsUnusable.
	ReasonWindowsNeverOpen = "WindowsNeverOpen"
)

// ConditionWindowsUnusable on an Environment: its windows let nothing restart,
// now or later. An Environment with windows that do, or with none, has none.
const ConditionWindowsUnusable = "WindowsUnusable"

// ConditionLeaseExpiring on a SecretClaim: what the store has lent for it nears its
// end, and could not be renewed, or issued anew. A claim whose leases are in order
// has none.
const ConditionLeaseExpiring = "LeaseExpiring"

// Reasons of LeaseExpiring. Its message names the source, and when it ends.
const (
	// ReasonNotRenewed: the lease could not be renewed for some time.
	ReasonNotRenewed = "NotRenewed"
	// ReasonNotReissued: the lease is near its greatest age, and another could not
	// be issued for some time.
	ReasonNotReissued = "NotReissued"
)

// ReasonFresh on a claim's Stale condition: the sources were read again.
const ReasonFresh = "Fresh"

// Reasons of a SecretClaim's Ready condition. Each message names the field and
// says what to do.
const (
	// ReasonSynced: the target holds the store's content.
	ReasonSynced = "Synced"
	// ReasonNoEnvironment: the namespace is in no environment, so no
	// ClusterSecretStore may be used there, only a SecretStore of its own.
	ReasonNoEnvironment = "NoEnvironment"
	// ReasonTwoEnvironments: more than one Environment selects the namespace,
	// and both refuse it.
	ReasonTwoEnvironments = "TwoEnvironments"
	// ReasonStoreNotAllowed: the environment does not list the store, the store
	// does not admit the namespace, or a SecretStore's address is none that the
	// administrator allows.
	ReasonStoreNotAllowed = "StoreNotAllowed"
	// ReasonStoreNotFound: no store of that kind and name.
	ReasonStoreNotFound = "StoreNotFound"
	// ReasonStoreInvalid: the store's own spec cannot be used.
	ReasonStoreInvalid = "StoreInvalid"
	// ReasonPathInvalid: a path is malformed.
	ReasonPathInvalid = "PathInvalid"
	// ReasonPathNotAllowed: a path lies outside the environment's paths.
	ReasonPathNotAllowed = "PathNotAllowed"
	// ReasonSourceNotFound: the store has nothing at a path.
	ReasonSourceNotFound = "SourceNotFound"
	// ReasonSourceDeleted: the version at a path was deleted in the store. The
	// last good value stays.
	ReasonSourceDeleted = "SourceDeleted"
	// ReasonSourceDenied: the store denies the login or the path.
	ReasonSourceDenied = "SourceDenied"
	// ReasonStoreUnavailable: the store could not be asked, and there is no
	// last good value yet.
	ReasonStoreUnavailable = "StoreUnavailable"
	// ReasonLeaseInvalid: a leased source asks for what no lease can give.
	ReasonLeaseInvalid = "LeaseInvalid"
	// ReasonKeyNotFound: a chosen key is not in the source.
	ReasonKeyNotFound = "KeyNotFound"
	// ReasonKeyInvalid: a key's name cannot be a key of a Secret.
	ReasonKeyInvalid = "KeyInvalid"
	// ReasonKeyConflict: two sources give the same key.
	ReasonKeyConflict = "KeyConflict"
	// ReasonTemplateInvalid: a template does not parse or does not render.
	ReasonTemplateInvalid = "TemplateInvalid"
	// ReasonTooLarge: the content does not fit a Secret (1 MiB).
	ReasonTooLarge = "TooLarge"
	// ReasonTargetNotOurs: a Secret of that name exists and is not the claim's.
	ReasonTargetNotOurs = "TargetNotOurs"
	// ReasonTargetNotFound: the Secret to merge into is not there.
	ReasonTargetNotFound = "TargetNotFound"
	// ReasonTargetConflict: somebody else manages what the claim would merge
	// into the Secret.
	ReasonTargetConflict = "TargetConflict"
	// ReasonMetadataInvalid: a label or an annotation of template.metadata is
	// malformed.
	ReasonMetadataInvalid = "MetadataInvalid"
	// ReasonMetadataNotAllowed: template.metadata sets a key that other
	// controllers trust, and the environment does not list it.
	ReasonMetadataNotAllowed = "MetadataNotAllowed"
	// ReasonAnnotationNotAllowed: the claim was made from an annotation, and its
	// environment's spec.annotations no longer allows that.
	ReasonAnnotationNotAllowed = "AnnotationNotAllowed"
	// ReasonTargetRefused: the target's name, type or namespace is one that no
	// claim may write.
	ReasonTargetRefused = "TargetRefused"
)

// ReasonReachable on a store's Ready condition: it answered.
const ReasonReachable = "Reachable"

// ConditionRotated on a SecretRotation says how the last rotation ended. It is
// Unknown, with ReasonRotating, while one is under way. A SecretRotation that never
// ran has none.
const ConditionRotated = "Rotated"

// Reasons of a SecretRotation's conditions. Its Ready has those of a SecretClaim
// for the path and the store, too.
const (
	// ReasonCanRotate of Ready: the spec can be carried out.
	ReasonCanRotate = "CanRotate"
	// ReasonRotationInvalid of Ready: a field of the spec cannot be used.
	ReasonRotationInvalid = "RotationInvalid"
	// ReasonRotatedByAnother of Ready: another SecretRotation, made before, rotates
	// the same path.
	ReasonRotatedByAnother = "RotatedByAnother"
	// ReasonPathNotWritable of Ready: the namespace's login may not write the path,
	// or its mount cannot check that nobody writes at the same time.
	ReasonPathNotWritable = "PathNotWritable"
	// ReasonRotating of Rotated: a rotation is under way.
	ReasonRotating = "Rotating"
	// ReasonRotationDone of Rotated: the last one went well.
	ReasonRotationDone = "RotationDone"
	// ReasonRolledBack of Rotated: the last one failed, and the old value is back.
	ReasonRolledBack = "RolledBack"
	// ReasonHalted of Rotated: somebody has to look, and to say how it goes on.
	ReasonHalted = "Halted"
	// ReasonAccepted of Rotated: somebody ended the last one.
	ReasonAccepted = "Accepted"
)
