package copies

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// Reasons of events on claims. What keeps a claim from its copy is told with the
// reason of its Sealed condition.
const (
	// reasonKept: the copy was made, or made anew.
	reasonKept = "CopyKept"
	// reasonMended: the copy in git would have been of no use, and was made anew.
	reasonMended = "CopyMended"
)

const actionKeep = "Keep"

// maxNote bounds an event's note, as an API server does.
const maxNote = 1024

// announceKept tells of a copy that was pushed, and of what was wrong with the
// one before it.
func (k *Keeper) announceKept(environment *v1alpha1.Environment, wanted wanted, before flaw) {
	note := inGit(environment, wanted).message
	switch before {
	case "":
		k.announce(wanted, corev1.EventTypeNormal, reasonKept, note)
		return
	case flawRecipients:
		// Somebody chose other recovery keys: who takes one off an item by hand
		// leaves one that does not open.
		k.announce(wanted, corev1.EventTypeNormal, reasonKept, fmt.Sprintf("%s; %s", note, before.says()))
	default:
		k.announce(wanted, corev1.EventTypeWarning, reasonMended, fmt.Sprintf("the sealed copy was made anew: %s; %s", before.says(), note))
	}
	k.metrics.mendedOne(before)
}

// announceTrouble tells of what keeps a claim from its copy, unless the claim
// says so already.
func (k *Keeper) announceTrouble(wanted wanted, now condition) {
	if now.is == metav1.ConditionFalse && wanted.was != now {
		k.announce(wanted, corev1.EventTypeWarning, now.reason, now.message)
	}
}

func (k *Keeper) announce(wanted wanted, kind, reason, note string) {
	if k.config.Events == nil {
		return
	}
	claim := &v1alpha1.SecretClaim{ObjectMeta: metav1.ObjectMeta{
		Namespace: wanted.Secret.Namespace, Name: wanted.Claim, UID: types.UID(wanted.ClaimUID)}}
	k.config.Events.Eventf(claim, nil, kind, reason, actionKeep, "%s", strings.ToValidUTF8(note[:min(len(note), maxNote)], ""))
}
