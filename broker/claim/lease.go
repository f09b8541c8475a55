package claim

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
)

// Leases keep what stores lend, for sources that nobody can read twice.
type Leases interface {
	// Held is what is lent to a claim at a path and good for long. A lease without a
	// time of issue says that nothing is. The store is not asked.
	Held(ctx context.Context, claim *v1alpha1.SecretClaim, store v1alpha1.Store, as providers.Identity, ref providers.Ref) (providers.Document, v1alpha1.Lease, error)
	// Take is that, or another, issued now. Errors are those of a providers.Leaser.
	Take(ctx context.Context, claim *v1alpha1.SecretClaim, store v1alpha1.Store, as providers.Identity, ref providers.Ref) (providers.Document, v1alpha1.Lease, error)
	// Told is the condition that one nears its end, empty where none does, and what
	// the last renewals ended with; known is false before they were looked at.
	Told(claim types.NamespacedName) (expiring metav1.Condition, known bool, failure error)
}

// lent are the documents of a run that were leased, by path: of two sources of one
// path each gets the same.
type lent struct {
	documents map[providers.Ref]providers.Document
	leases    []v1alpha1.Lease
}

func (l *lent) clear() {
	for _, document := range l.documents {
		document.Clear()
	}
}

// document of the source of that index: read, or lent.
func (l *Line) document(ctx context.Context, claim *v1alpha1.SecretClaim, plan plan, index int, request providers.Request, lent *lent) (providers.Document, error) {
	pinned := request.Version > 0
	if known, taken := lent.documents[request.Ref]; taken && !pinned {
		return known.Clone(), nil
	}
	if l.Leases != nil && !pinned && leasedBefore(claim, request.Ref) {
		document, lease, err := l.Leases.Held(ctx, claim, plan.store, plan.identity, request.Ref)
		if err != nil || !lease.IssuedAt.IsZero() {
			return lent.add(request, document, lease, err)
		}
	}
	document, err := l.Store.Read(ctx, plan.store, plan.identity, request)
	switch {
	case !errors.Is(err, providers.ErrLeased) || l.Leases == nil:
		return document, err
	case pinned:
		return document, refuseVersion(index, request)
	}
	document, lease, err := l.Leases.Take(ctx, claim, plan.store, plan.identity, request.Ref)
	return lent.add(request, document, lease, err)
}

func (l *lent) add(request providers.Request, document providers.Document, lease v1alpha1.Lease, err error) (providers.Document, error) {
	if err != nil {
		return document, err
	}
	if l.documents == nil {
		l.documents = map[providers.Ref]providers.Document{}
	}
	l.documents[request.Ref] = document
	l.leases = append(l.leases, lease)
	return document.Clone(), nil
}

func leasedBefore(claim *v1alpha1.SecretClaim, ref providers.Ref) bool {
	return slices.ContainsFunc(claim.Status.Leases, func(lease v1alpha1.Lease) bool { return lease.Source == ref.String() })
}

// refuseVersion: what is made anew for each who asks has no versions.
func refuseVersion(index int, request providers.Request) error {
	return &Refusal{Reason: v1alpha1.ReasonLeaseInvalid, Cause: providers.ErrLeased, Message: fmt.Sprintf(
		"spec.sources[%d].version: %s is leased, made anew for each claim, and has no versions: leave it out", index, request.Ref)}
}

// since are the leases of a run with the sequence as of which the target holds each:
// the present one for what was not there before.
func since(was, leases []v1alpha1.Lease, sequence int64) []v1alpha1.Lease {
	for i := range leases {
		leases[i].Sequence = sequence
		for _, before := range was {
			if before.Source == leases[i].Source && before.IssuedAt.Equal(&leases[i].IssuedAt) {
				leases[i].Sequence = before.Sequence
			}
		}
	}
	return leases
}

// tellLeases puts into the claim's status that what is lent to it nears its end.
// Until that is known, what was told before holds.
func (r *Reconciler) tellLeases(claim *v1alpha1.SecretClaim, now metav1.Time) {
	if r.config.Line.Leases == nil {
		return
	}
	is, known, _ := r.config.Line.Leases.Told(client.ObjectKeyFromObject(claim))
	was := meta.FindStatusCondition(claim.Status.Conditions, v1alpha1.ConditionLeaseExpiring)
	switch {
	case !known && len(claim.Status.Leases) > 0:
	case is.Message == "":
		meta.RemoveStatusCondition(&claim.Status.Conditions, v1alpha1.ConditionLeaseExpiring)
	case was == nil || was.Reason != is.Reason || was.Message != is.Message:
		is.Type, is.ObservedGeneration, is.LastTransitionTime = v1alpha1.ConditionLeaseExpiring, claim.Generation, now
		meta.SetStatusCondition(&claim.Status.Conditions, is)
	}
}

// unread is why a claim whose sources were all given counts as not read: what was
// lent to it could not be renewed. Nil: it was.
func (l *Line) unread(claim *v1alpha1.SecretClaim, leases []v1alpha1.Lease) error {
	if l.Leases == nil || len(leases) == 0 {
		return nil
	}
	_, _, failure := l.Leases.Told(client.ObjectKeyFromObject(claim))
	if failure == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", providers.ErrUnavailable, failure)
}
