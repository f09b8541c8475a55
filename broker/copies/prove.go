package copies

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/privyseal/privyseal/broker/manifest"
	"github.com/privyseal/privyseal/broker/repository"
	"github.com/privyseal/privyseal/providers"
)

// flaw of a copy; "" is none.
//
// The daemon has no recovery key, so it cannot open what such a key opens. But
// the list of recipients, with what each of them gets, is bound to the body of
// an item: one that opens with our own key is for those whom it names, and is
// what was sealed for them. The rest only the recovery key can show; see
// package recovery.
type flaw string

const (
	// flawRecipients: it opens, and is sealed to other recovery keys.
	flawRecipients flaw = "recipients"
	// flawClosed: none of our keys opens it.
	flawClosed flaw = "closed"
	// flawValue: it opens, and holds something else than its target.
	flawValue flaw = "value"
)

// says what is wrong, for people.
func (f flaw) says() string {
	switch f {
	case flawRecipients:
		return "it was not sealed to the recovery keys that the environment names now"
	case flawClosed:
		return "it did not open: somebody had changed it, or its key is out of use"
	case flawValue:
		return "it held something else than the Secret"
	}
	return ""
}

// errUnproven: what was sealed is not as it should be. That is a fault of ours,
// and such a copy is not pushed.
var errUnproven = errors.New("the sealed copy was not pushed, since it would be of no use")

// flawOf proves a copy. Where the data is nil, it is not known what the copy
// should hold.
func flawOf(sealed *ssv1alpha1.SealedSecret, environment string, keys keys, data map[string][]byte) flaw {
	opened, err := manifest.Open(sealed, environment, keys.open)
	if err != nil {
		return flawClosed
	}
	defer opened.Clear()
	items := sealed.Spec.EncryptedData
	switch {
	case data != nil && !holds(opened.Data, data):
		return flawValue
	case !keys.current(copied{Recipients: recipients(items), Empty: len(items) == 0}):
		return flawRecipients
	}
	return ""
}

func holds(opened map[string]providers.Value, data map[string][]byte) bool {
	for name, value := range data {
		if one, found := opened[name]; !found || !bytes.Equal(one.Bytes(), value) {
			return false
		}
	}
	return len(opened) == len(data)
}

// check opens every copy of the environment's, and notes what is wrong.
func (k *Keeper) check(ctx context.Context, tree *repository.Tree, gathered facts, now *seen) error {
	current := map[string]wanted{}
	for _, wanted := range gathered.wanted {
		if wanted.ready && now.copies[wanted.path].head == wanted.head {
			current[wanted.path] = wanted
		}
	}
	now.flaws = map[string]flaw{}
	var told []string
	for name, found := range now.copies {
		if found.Environment != gathered.environment.Name || !gathered.keys.mine(found, gathered.environment.UID) {
			continue
		}
		wanted, known := current[name]
		flaw, err := k.prove(ctx, tree, gathered.keys, name, wanted, known)
		if err != nil {
			return fmt.Errorf("proving %s: %w", name, err)
		}
		if flaw != "" {
			now.flaws[name] = flaw
			told = append(told, name+": "+flaw.says())
		}
	}
	if told != nil {
		slices.Sort(told)
		const few = 8
		log.FromContext(ctx).Info("sealed copies would be of no use", "environment", gathered.environment.Name,
			"count", len(told), "first", strings.Join(told[:min(len(told), few)], "; "))
	}
	now.checked = k.config.Clock.Now()
	return nil
}

// prove proves the copy at a path, against its target if that is known to be
// what the copy is of.
func (k *Keeper) prove(ctx context.Context, tree *repository.Tree, keys keys, name string, of wanted, known bool) (flaw, error) {
	content, err := tree.File(name)
	if err != nil {
		return "", err
	}
	sealed, err := parse(content)
	if err != nil {
		return flawClosed, nil // unreachable: it was read as a copy
	}
	var data map[string][]byte
	if known {
		held, sequence, err := k.target(ctx, of)
		defer clearAll(held)
		switch {
		case errors.Is(err, errNotReady):
		case err != nil:
			return "", err
		case sequence == of.Sequence:
			data = held
		}
	}
	return flawOf(sealed, sealed.Annotations[annotationEnvironment], keys, data), nil
}

// flawBefore says what is wrong with the copy that is to be written anew; "" if
// there is none, or it is of another content.
func flawBefore(tree *repository.Tree, gathered facts, wanted wanted) flaw {
	lies := gathered.lies[wanted.path]
	if found := gathered.flaws[wanted.path]; found != "" || !lies.there || lies.copy.head != wanted.head {
		return found
	}
	content, err := tree.File(wanted.path)
	if err != nil {
		return "" // unreachable: it lies there
	}
	sealed, err := parse(content)
	if err != nil {
		return "" // unreachable likewise
	}
	return flawOf(sealed, lies.copy.Environment, gathered.keys, nil)
}
