// Package claim brings a secret from its store to the pods that wait for it.
//
// This file is the way of a secret, one verb a step:
//
//	resolve ─▶ read ─▶ render ─▶ apply ─▶ keep ─▶ roll
//
// Resolve decides whose store is asked for which paths, and refuses what the
// environment does not allow before anybody logs in anywhere. Read asks the
// store, as the claim's own tenant. Render joins the sources into the target's
// content. Apply writes the Secret, if a byte of it differs. Keep has a sealed copy
// of it made for git, where one is wanted. Roll restarts the workloads whose pods
// hold an old value.
//
// The line is level-triggered: it looks at what is, never at what happened. So
// every step can be repeated, does nothing when nothing changed, and is taken
// up again after a crash wherever that came. A step that cannot be done leaves
// what the steps after it made before: a store that is down, sealed or emptied
// never blanks a target.
//
// reconcile.go is the ceremony around it: when the line runs, and what of it
// is told in the claim's status.
package claim

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/target"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
)

// Reader reads one document of a store as one tenant. Its errors wrap those of
// package providers.
type Reader interface {
	Read(ctx context.Context, store v1alpha1.Store, as providers.Identity, request providers.Request) (providers.Document, error)
}

// Applier makes a target what it should be. Its errors are those of
// target.Writer.Apply.
type Applier interface {
	Apply(ctx context.Context, desired target.Desired) (target.Applied, error)
}

// Roller restarts a target's stale consumers, in its own time, and says how
// many there are.
type Roller interface {
	Roll(ctx context.Context, target types.NamespacedName) (v1alpha1.Consumers, error)
}

// Line is the way of a secret, wired.
type Line struct {
	Gatherer Gatherer
	Store    Reader
	Targets  Applier
	Restarts Roller

	// Leases keep what is lent. Nil: nothing is, and leased sources are refused.
	Leases Leases

	// Copies keeps sealed copies of the targets. Nil: there are none.
	Copies Copies

	// Lives says whether a claim is still there, at the API server itself. It is
	// asked before a target that is gone is made again. Nil: it is.
	Lives func(ctx context.Context, claim *v1alpha1.SecretClaim) (bool, error)
}

// Synced is what a run of the line found and did.
type Synced struct {
	// Read says that the store gave every source, whatever came of it after.
	Read bool
	// Applied is the target.
	Applied target.Applied
	// SourceVersions are the store's versions of the sources, in their order.
	SourceVersions []int64
	// Leases are what was lent, in the sources' order.
	Leases []v1alpha1.Lease
	// Unread is why the claim counts as not read all the same; nil: it does not.
	Unread error
	// Consumers of the target.
	Consumers v1alpha1.Consumers
}

// Sync runs the line once for a claim that has been waiting since then: an answer of
// the store that was asked for later, for another claim, is as good as one of
// its own. An error that is a *Refusal lasts until
// somebody changes something; any other is worth another try.
func (l *Line) Sync(ctx context.Context, claim *v1alpha1.SecretClaim, waiting time.Time) (Synced, error) {
	plan, err := l.resolve(ctx, claim)
	if err != nil {
		return Synced{}, err
	}
	documents, leases, err := l.read(ctx, claim, plan, waiting)
	defer clearAll(documents)
	if err != nil {
		return Synced{}, err
	}
	unread := l.unread(claim, leases)
	synced := Synced{Read: unread == nil, Unread: unread}
	content, err := render(claim.Spec, documents)
	if err != nil {
		return synced, err
	}
	defer clearContent(content)
	wanted := desired(claim, content)
	if l.Lives != nil && wanted.Last != nil {
		wanted.Lives = func(ctx context.Context) (bool, error) { return l.Lives(ctx, claim) }
	}
	applied, err := l.Targets.Apply(ctx, wanted)
	if err != nil {
		return synced, refuseTarget(err)
	}
	if len(leases) == 0 || len(claim.Status.Leases) > 0 { // else the claim does not tell of them yet, and they would be copied
		l.keep(claim, applied)
	}
	consumers, err := l.Restarts.Roll(ctx, claim.TargetName())
	if err != nil {
		return synced, fmt.Errorf("restarting the consumers of %s: %w", claim.TargetName(), err)
	}
	synced.Applied, synced.Consumers = applied, consumers
	synced.SourceVersions, synced.Leases = versions(documents), since(claim.Status.Leases, leases, applied.Sequence)
	return synced, nil
}

// resolve decides whose store is asked for which paths.
func (l *Line) resolve(ctx context.Context, claim *v1alpha1.SecretClaim) (plan, error) {
	facts, err := l.Gatherer.gather(ctx, claim)
	if err != nil {
		return plan{}, err
	}
	return resolve(facts)
}

// allowed says that the claim would get past resolve as things are now.
func (l *Line) allowed(ctx context.Context, claim *v1alpha1.SecretClaim) bool {
	_, err := l.resolve(ctx, claim)
	return err == nil
}

// read asks the store for each document of the plan, in the sources' order. What is
// leased is taken from what was lent before.
func (l *Line) read(ctx context.Context, claim *v1alpha1.SecretClaim, plan plan, waiting time.Time) ([]providers.Document, []v1alpha1.Lease, error) {
	documents := make([]providers.Document, 0, len(plan.requests))
	lent := &lent{}
	defer lent.clear()
	for i, request := range plan.requests {
		request.Since = waiting
		document, err := l.document(ctx, claim, plan, i, request, lent)
		if err != nil {
			return documents, nil, refuseSource(i, request.Ref, err)
		}
		documents = append(documents, document)
	}
	return documents, lent.leases, nil
}

// keep has the sealed copy of the target looked at. Nothing waits for it: git
// may be down for as long as it likes.
func (l *Line) keep(claim *v1alpha1.SecretClaim, applied target.Applied) {
	if l.Copies != nil {
		l.Copies.Keep(client.ObjectKeyFromObject(claim), applied.Sequence)
	}
}

// desired is the target that a claim wants, with this content.
func desired(claim *v1alpha1.SecretClaim, content content) target.Desired {
	wanted := target.Desired{
		Namespace: claim.Namespace,
		Name:      claim.TargetName().Name,
		Owner: target.Owner{
			Name: claim.Name, UID: claim.UID,
			Retain: onClaimDeleted(claim) == v1alpha1.RetainTarget,
		},
		Merge:        merges(claim),
		Data:         content,
		Metadata:     metadata(claim.Spec.Template),
		Last:         claim.Status.Target,
		LastSequence: claim.Status.Sequence,
	}
	if spec := claim.Spec.Target; spec != nil {
		wanted.Type = corev1.SecretType(spec.Type)
	}
	// A claim that now names another Secret never had this one.
	if last := wanted.Last; last != nil && last.Name != wanted.Name {
		wanted.Last, wanted.LastSequence = nil, 0
	}
	// Metadata does not tell a Secret's type, which the spec may have changed:
	// until the claim is in order with it, the Secret itself is looked at.
	if wanted.Last != nil && !inOrder(claim) {
		unseen := *wanted.Last
		unseen.ResourceVersion = ""
		wanted.Last = &unseen
	}
	return wanted
}

func clearAll(documents []providers.Document) {
	for _, document := range documents {
		document.Clear()
	}
}

// clearContent clears what render made anew: rendered and nested values.
func clearContent(content content) {
	for _, value := range content {
		value.Clear()
	}
}

func versions(documents []providers.Document) []int64 {
	versions := make([]int64, len(documents))
	for i, document := range documents {
		versions[i] = document.Version
	}
	return versions
}
