// Package sealedsecret makes the Secrets of SealedSecrets, in the place of
// Sealed Secrets' controller and by its rules.
//
//	recall ─▶ open ─▶ render ─▶ write
//
// Recall sees whether anything changed since the Secret was last in order: what
// the SealedSecret says, or the Secret itself. If not, nothing is decrypted, not
// even after a restart. Open decrypts all items or none. Render builds the
// Secret. Write makes it what it should be, if it is not.
//
// The line looks at what is, and never at what happened, so every step can be
// repeated. A step that cannot be done leaves the Secret as it is: an item that
// does not open, or a template that does not render, blanks nothing.
package sealedsecret

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/environment"
	"github.com/privyseal/privyseal/broker/home"
	"github.com/privyseal/privyseal/broker/manifest"
	"github.com/privyseal/privyseal/broker/sealingkey"
	"github.com/privyseal/privyseal/broker/target"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// Keys are the sealing keys as they were last seen.
type Keys interface {
	Snapshot(ctx context.Context) (sealingkey.Snapshot, error)
}

// Applier makes a Secret what it should be. Its errors are those of
// target.Writer.ApplyUnsealed.
type Applier interface {
	ApplyUnsealed(ctx context.Context, wanted target.Unsealed) (target.Applied, error)
}

// line is the way from a SealedSecret to its Secret.
type line struct {
	cache   client.Reader
	keys    Keys
	targets Applier

	// allowed lists what templates may set anywhere, as an environment does.
	allowed *v1alpha1.Environment

	// opening bounds how many objects are decrypted at once: RSA takes a whole
	// core, and who has none waits better than it is switched.
	opening chan struct{}

	// lately is the key that opened the last object. Most were sealed to few
	// keys, so the next one opens with it as well.
	lately atomic.Value
}

// describing begins the labels that say what an application is. Half of all
// charts set them, and what was sealed with them has to go on.
const describing = "app.kubernetes.io/"

func newLine(config Config) *line {
	return &line{
		cache: config.Client, keys: config.Keys, targets: config.Targets,
		allowed: &v1alpha1.Environment{Spec: v1alpha1.EnvironmentSpec{
			TargetMetadata: append([]string{describing}, config.AllowedMetadata...),
		}},
		opening: make(chan struct{}, runtime.GOMAXPROCS(0)),
	}
}

// unsealing is what is known before anything is decrypted.
type unsealing struct {
	sealed *ssv1alpha1.SealedSecret
	home   *v1alpha1.Environment

	// known says that the Secret was made of just this before; replaces, that it
	// was made of something else.
	known, replaces bool

	// lives says whether the SealedSecret is still there; nil for one that was
	// never unsealed.
	lives func(ctx context.Context) (bool, error)
}

// run opens, renders and writes. An error that is a *Refusal lasts until
// somebody changes something.
func (l *line) run(ctx context.Context, job unsealing) (target.Applied, error) {
	secret, err := l.unseal(ctx, job)
	if err != nil {
		return target.Applied{}, err
	}
	defer clearSecret(secret)
	applied, err := l.targets.ApplyUnsealed(ctx, target.Unsealed{
		Secret: secret, Owner: target.SealedOwner{Name: job.sealed.Name, UID: job.sealed.UID},
		Known: job.known, Replaces: job.replaces, Volatile: volatile(job.sealed.Spec.Template.Data),
		Recreate:   job.sealed.Annotations[v1alpha1.AnnotationRecreate] == "true",
		CreateOnly: standby(job.sealed), Lives: job.lives,
	})
	return applied, refuseTarget(err)
}

// unseal builds the Secret, which the caller clears.
func (l *line) unseal(ctx context.Context, job unsealing) (*corev1.Secret, error) {
	snapshot, err := l.keys.Snapshot(ctx)
	if err != nil {
		return nil, fmt.Errorf("looking for the sealing keys: %w", err)
	}
	opened, err := l.open(ctx, job, snapshot)
	if err != nil {
		return nil, err
	}
	defer opened.Clear()
	secret, err := manifest.Render(job.sealed, opened)
	if err != nil {
		return nil, refuse(reasonUnseal, countUnseal, err)
	}
	if err := l.checkMetadata(secret, job.home); err != nil {
		clearSecret(secret)
		return nil, refuse(reasonUnseal, countUnseal, err)
	}
	return secret, nil
}

func (l *line) open(ctx context.Context, job unsealing, snapshot sealingkey.Snapshot) (manifest.Opened, error) {
	select {
	case l.opening <- struct{}{}:
		defer func() { <-l.opening }()
	case <-ctx.Done():
		return manifest.Opened{}, ctx.Err()
	}
	keys := snapshot.Open
	if first, known := l.lately.Load().(string); known {
		keys = keys.First(first)
	}
	name := ""
	if job.home != nil {
		name = job.home.Name
	}
	opened, err := manifest.Open(job.sealed, name, keys)
	if err != nil {
		return manifest.Opened{}, refuse(reasonUnseal, countUnseal, err)
	}
	// Ids of version 2 need no order.
	at := slices.IndexFunc(opened.Keys, func(key string) bool { return strings.HasPrefix(key, "SHA256:") })
	if at >= 0 {
		l.lately.Store(opened.Keys[at])
	}
	return opened, nil
}

// home is the environment that the namespace is in, or nil.
func (l *line) home(ctx context.Context, namespace string) (*v1alpha1.Environment, error) {
	found, err := home.Of(ctx, l.cache, namespace)
	if errors.Is(err, environment.ErrTwo) || errors.Is(err, environment.ErrSelector) {
		return nil, refuse(reasonUnseal, countUnseal, err)
	}
	return found, client.IgnoreNotFound(err)
}

// standby says that a SealedSecret is a copy for when its Secret cannot be made
// in any other way: it makes a Secret that is not there, and changes none.
func standby(sealed *ssv1alpha1.SealedSecret) bool {
	return sealed.Annotations[v1alpha1.AnnotationStandby] == "true"
}

// calls are the functions in templates that do not give the same each time.
var calls = regexp.MustCompile(`\{\{[^}]*\b(now|ago|date\w*|htmlDate\w*|rand\w+|shuffle|uuidv4|gen[A-Z]\w*|bcrypt|htpasswd|encryptAES|keys|values)\b`)

// volatile are the keys whose texts may render differently each time.
func volatile(texts map[string]string) []string {
	var found []string
	for key, text := range texts {
		if calls.MatchString(text) {
			found = append(found, key)
		}
	}
	slices.Sort(found)
	return found
}

// refuseTarget turns an error of the write that is about the Secret, and not
// about the API server's health, into a refusal.
func refuseTarget(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, target.ErrNotOurs):
		return refuse(reasonUpdate, countUnmanaged, err)
	case errors.Is(err, target.ErrTooLarge), errors.Is(err, target.ErrKeyInvalid), errors.Is(err, target.ErrRefused),
		apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsForbidden(err):
		return refuse(reasonUpdate, countUpdate, err)
	}
	return err
}

func clearSecret(secret *corev1.Secret) {
	for _, value := range secret.Data {
		clear(value)
	}
}
