package copies

import (
	"errors"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/privyseal/privyseal/broker/repository"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// inGit is the condition of a claim whose copy is current. It names no commit:
// whoever pushes something else would move it.
func inGit(environment *v1alpha1.Environment, wanted wanted) condition {
	git := environment.Spec.Sealing.Git
	return condition{metav1.ConditionTrue, v1alpha1.ReasonInGit, fmt.Sprintf(
		"%s in branch %s of %s holds sequence %d of Secret %s", wanted.path, branchOf(git), git.URL, wanted.Sequence, wanted.Secret.Name)}
}

func taken(path, by string) condition {
	return condition{metav1.ConditionFalse, v1alpha1.ReasonPathTaken, fmt.Sprintf(
		"%s in the repository is not this claim's copy and is left alone: %s; remove it there, or change the environment's spec.sealing.git.path", path, by)}
}

// lent is the condition of a claim whose values the store takes back.
func lent() condition {
	return condition{metav1.ConditionFalse, v1alpha1.ReasonLeased,
		"the Secret holds values that the store has lent and takes back, and a copy would soon be worth nothing: leave out spec.seal, or give what is not leased a claim of its own"}
}

func notConfigured(where string) condition {
	return condition{metav1.ConditionFalse, v1alpha1.ReasonSealingNotConfigured,
		where + ": leave out spec.seal, or have the platform team set spec.sealing of the environment"}
}

func invalid(environment string, err error) condition {
	return condition{metav1.ConditionFalse, v1alpha1.ReasonSealingInvalid, fmt.Sprintf("environment %s: %s", environment, err)}
}

// failed is what claims are told whose copy is not current since the repository
// could not be written. The network's own words name ports that differ at each
// try, so those are for the log.
func failed(environment string, err error) condition {
	switch {
	case errors.Is(err, repository.ErrInvalid), errors.Is(err, errPath), errors.Is(err, errSealing):
		return invalid(environment, err)
	case errors.Is(err, repository.ErrDenied):
		return condition{metav1.ConditionFalse, v1alpha1.ReasonRepositoryDenied, fmt.Sprintf("environment %s: %s", environment, err)}
	default:
		return condition{metav1.ConditionFalse, v1alpha1.ReasonRepositoryUnavailable, fmt.Sprintf(
			"environment %s: the git repository cannot be reached or takes no commit; it is tried again, and the daemon's log says why", environment)}
	}
}

func branchOf(git v1alpha1.SealingGit) string {
	if git.Branch == "" {
		return "main"
	}
	return git.Branch
}
