package copies

import (
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// wanted is a copy that should be in the repository.
type wanted struct {
	head
	metadata metadata
	path     string
	// ready says that the target is there, as its claim left it. Where it is
	// not, a copy that there is stays as it is.
	ready bool
	// was is what the claim's Sealed condition says now.
	was condition
}

func (w wanted) claim() types.NamespacedName {
	return types.NamespacedName{Namespace: w.Secret.Namespace, Name: w.Claim}
}

// others is what is known of a claim without a copy.
type others int

const (
	// gone: there is no such claim.
	gone others = iota
	// elsewhere: its namespace is not in this environment now.
	elsewhere
	// unwanted: it is in this environment, and no copy of it is wanted.
	unwanted
	// leased: it is in this environment, and what it has is taken back by the store.
	leased
)

// keys are those that copies are sealed to, and known by.
type keys struct {
	// own is what is sealed to; known are all that open, own among them.
	own   *seal.PublicKey
	known []seal.KeyID
	// recipients are the environment's.
	recipients []*seal.PublicKey
	// open are all that open, with their private halves.
	open *seal.Keys
}

func (k keys) recipientIDs() []string {
	ids := make([]string, 0, len(k.recipients))
	for _, key := range k.recipients {
		ids = append(ids, key.ID().String())
	}
	return ids
}

// current says that a copy's items are for those who should open them: the
// recipients, and any key of ours that still opens. A new key of ours alone is
// no reason for a commit.
func (k keys) current(found copied) bool {
	if found.Empty {
		return true
	}
	var theirs []seal.KeyID
	ours := 0
	for _, id := range found.Recipients {
		if slices.Contains(k.known, id) {
			ours++
			continue
		}
		theirs = append(theirs, id)
	}
	wanted := make([]seal.KeyID, 0, len(k.recipients))
	for _, key := range k.recipients {
		if !slices.Contains(k.known, key.ID()) {
			wanted = append(wanted, key.ID())
		}
	}
	return ours > 0 && slices.Equal(sorted(theirs), sorted(wanted))
}

func sorted(ids []seal.KeyID) []seal.KeyID {
	slices.SortFunc(ids, func(a, b seal.KeyID) int { return slices.Compare(a[:], b[:]) })
	return slices.Compact(ids)
}

// mine says that this installation made the copy: its own key made it, or it
// was made for this very object.
func (k keys) mine(found copied, environmentUID types.UID) bool {
	return found.EnvironmentUID == string(environmentUID) ||
		slices.ContainsFunc(k.known, func(id seal.KeyID) bool { return id.String() == found.SealedBy })
}

// facts is all that decides what is committed.
type facts struct {
	environment *v1alpha1.Environment
	keys        keys
	wanted      []wanted
	// lies says what lies at a wanted path: nil for nothing. An error is
	// errForeign, or says that no file can lie there.
	lies map[string]lying
	// copies are all copies that the repository has, by path.
	copies map[string]copied
	// flaws are those of copies that were opened, by path.
	flaws map[string]flaw
	// claims without a copy; those that are gone need not be in it.
	others map[types.NamespacedName]others
}

// lying is what lies at a path.
type lying struct {
	there bool
	copy  copied
	err   error
}

// decision is what to commit, and what to tell claims.
type decision struct {
	write  []wanted
	remove []string
	tell   map[types.NamespacedName]condition
}

// condition is what a claim's Sealed condition becomes. The zero value says
// that it has none.
type condition struct {
	is      metav1.ConditionStatus
	reason  string
	message string
}

// decide is pure.
func decide(facts facts) decision {
	made := decision{tell: map[types.NamespacedName]condition{}}
	owner := map[string]types.NamespacedName{}
	for _, wanted := range facts.wanted {
		if first, found := owner[wanted.path]; found {
			made.tell[wanted.claim()] = taken(wanted.path, fmt.Sprintf("the copy of claim %s", first))
			continue
		}
		owner[wanted.path] = wanted.claim()
		decideOne(facts, wanted, &made)
	}
	for path, found := range facts.copies {
		if _, kept := owner[path]; !kept && removable(facts, made, found) {
			made.remove = append(made.remove, path)
		}
	}
	slices.Sort(made.remove)
	for claim, why := range facts.others {
		switch why {
		case unwanted:
			made.tell[claim] = condition{}
		case leased:
			made.tell[claim] = lent()
		case gone, elsewhere:
		}
	}
	return made
}

func decideOne(facts facts, wanted wanted, made *decision) {
	lies := facts.lies[wanted.path]
	foreign := lies.there && (lies.copy.Secret != wanted.Secret || lies.copy.Claim != wanted.Claim ||
		!facts.keys.mine(lies.copy, facts.environment.UID))
	switch {
	case lies.err != nil:
		made.tell[wanted.claim()] = taken(wanted.path, lies.err.Error())
	case foreign:
		made.tell[wanted.claim()] = taken(wanted.path, "a copy of another claim, or of another installation's")
	case !wanted.ready:
	case lies.there && facts.flaws[wanted.path] == "" && lies.copy.head == wanted.head && lies.copy.metadata.equal(wanted.metadata) && facts.keys.current(lies.copy):
		made.tell[wanted.claim()] = inGit(facts.environment, wanted)
	default:
		made.write = append(made.write, wanted)
	}
}

// removable says that a copy which no claim wants at its path is taken away.
//
// One that moves is taken away only where its claim has another, or gets it in
// the same commit.
func removable(facts facts, made decision, found copied) bool {
	if found.EnvironmentUID != string(facts.environment.UID) || found.Environment != facts.environment.Name {
		return false
	}
	claim := types.NamespacedName{Namespace: found.Secret.Namespace, Name: found.Claim}
	ofClaim := func(w wanted) bool { return w.claim() == claim }
	if slices.ContainsFunc(facts.wanted, ofClaim) {
		return made.tell[claim].is == metav1.ConditionTrue || slices.ContainsFunc(made.write, ofClaim)
	}
	switch facts.others[claim] {
	case unwanted, leased:
		return true
	case elsewhere:
		return false
	case gone:
		return found.OnClaimDeleted == v1alpha1.DeleteTarget
	}
	return false // unreachable: there are no others
}
