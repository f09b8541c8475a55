package v1alpha1

// Labels and annotations that Privyseal writes. Users write those of package
// annotation.
const (
	// LabelClaimUID on a target names the claim that owns it. With
	// onClaimDeleted: Retain it is the only mark of ownership, since an owner
	// reference would have the garbage collector delete the Secret.
	LabelClaimUID = Group + "/claim-uid"

	// LabelMergedBy on a Secret of somebody else's names the claim that merges
	// its keys into it. It is another label than LabelClaimUID, so that such a
	// Secret is never taken for one that the claim may write as a whole.
	LabelMergedBy = Group + "/merged-by"

	// LabelSealedUID on a Secret names the SealedSecret that it was made for, where
	// that one's template wants no owner reference.
	LabelSealedUID = Group + "/sealed-uid"

	// AnnotationRecreate on a SealedSecret permits, with "true", to delete its
	// Secret and make it anew where it cannot be changed.
	AnnotationRecreate = Group + "/recreate"

	// LabelMadeFrom on a claim says who wrote it: "annotation" for a claim
	// that the controller made for an annotated workload.
	LabelMadeFrom = Group + "/made-from"

	// MadeFromAnnotation is the value of LabelMadeFrom on claims made from
	// annotations.
	MadeFromAnnotation = "annotation"

	// AnnotationRevisions on a target holds the keyed digests of its content,
	// key by key, with the sequence at which each came into force. See package
	// target for the format.
	AnnotationRevisions = Group + "/revisions"

	// AnnotationMetadata on a target holds the labels and annotations that its
	// claim's template.metadata put there, as JSON: what they are compared
	// with, and how those that the claim gives no longer are known.
	AnnotationMetadata = Group + "/metadata"

	// AnnotationClaim on a target is the name of its claim. Together with
	// LabelClaimUID or LabelMergedBy it lets a claim that was deleted and made again, or brought
	// back from a backup under a new UID, take up its own Secret.
	AnnotationClaim = Group + "/claim"

	// AnnotationStandby on a SealedSecret is "true" on a sealed copy of a claim's
	// target: it makes the Secret where no claim can, and never changes one.
	AnnotationStandby = Group + "/standby"

	// LabelStandbyOf on a Secret names the SealedSecret, of the same namespace,
	// that made it in a claim's place. The claim adopts it by that.
	LabelStandbyOf = Group + "/standby-of"

	// AnnotationSequence on a sealed copy is the sequence of the target's
	// content that was sealed.
	AnnotationSequence = Group + "/sequence"

	// AnnotationRotation on a Secret of the daemon's namespace, in which the values of
	// a rotation are sealed away, and on a hook's Job, is the SecretRotation that it is of:
	// "payments/db-password".
	AnnotationRotation = Group + "/rotation"

	// LabelRotationUID on a Job, its pods and the Secret with their values is the
	// UID of the SecretRotation that they are a hook of.
	LabelRotationUID = Group + "/rotation-uid"

	// LabelHook on these says which: set, set-back or verify.
	LabelHook = Group + "/hook"

	// AnnotationRecord on a hook's Job is the UID of the record that has its
	// values, and AnnotationAttempt the attempt that it is of.
	AnnotationRecord  = Group + "/record"
	AnnotationAttempt = Group + "/attempt"

	// AnnotationReleased on a hook's Job is "true" once it was let go: if it is
	// suspended after that, somebody else did so.
	AnnotationReleased = Group + "/released"

	// LabelLeaseRecord on a Secret of the daemon's namespace is "true" where what is
	// lent to a claim is sealed away.
	LabelLeaseRecord = Group + "/lease-record"

	// AnnotationSaid on the Secret of a hook that failed is why, without the values:
	// they were taken out of it before they were taken out of the Secret.
	AnnotationSaid = Group + "/said"

	// AnnotationRestartedFor on a pod template lists, sorted, the targets its
	// pods read with the sequence that the template was last restarted for:
	// "db=1763800000,tls=0". It only ever moves forward.
	AnnotationRestartedFor = Group + "/restarted-for"

	// AnnotationInjectedFor on a pod template is the UID of the webhook
	// configuration for which it was patched, since its pods ran without the
	// secrets that they ask for. It is patched for one configuration once.
	AnnotationInjectedFor = Group + "/injected-for"

	// AnnotationStartedWith on a pod lists the targets it reads with the
	// sequence that the webhook saw at admission, in the same form.
	AnnotationStartedWith = Group + "/started-with"
)
