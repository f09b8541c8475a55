package copies

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/environment"
	"github.com/privyseal/privyseal/broker/repository"
	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/broker/target"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
)

// errSealing: spec.sealing of the environment, or a Secret that it names,
// cannot be used.
var errSealing = errors.New("spec.sealing")

// maxRecipients is how many keys a copy is sealed to beside our own.
const maxRecipients = seal.MaxRecipients - 1

// homes gives each namespace's environment: nil where it is in none, or in two.
func (k *Keeper) homes(ctx context.Context) (map[string]*v1alpha1.Environment, error) {
	var namespaces metav1.PartialObjectMetadataList
	namespaces.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("NamespaceList"))
	if err := k.config.Cache.List(ctx, &namespaces, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing namespaces: %w", err)
	}
	var environments v1alpha1.EnvironmentList
	if err := k.config.Cache.List(ctx, &environments); err != nil {
		return nil, fmt.Errorf("listing environments: %w", err)
	}
	homes := map[string]*v1alpha1.Environment{}
	for _, namespace := range namespaces.Items {
		home, err := environment.Home(environments.Items, namespace.Name, namespace.Labels)
		if err != nil {
			home = nil // the claim itself says why, in its Ready condition
		}
		homes[namespace.Name] = home
	}
	return homes, nil
}

// gatherClaims adds all claims of the cluster to the facts, as they look from
// this environment. Those whose copy is wanted come sorted.
func (k *Keeper) gatherClaims(ctx context.Context, gathered *facts) error {
	homes, err := k.homes(ctx)
	if err != nil {
		return err
	}
	var claims v1alpha1.SecretClaimList
	if err := k.config.Cache.List(ctx, &claims, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing claims: %w", err)
	}
	for i := range claims.Items {
		claim := &claims.Items[i]
		home := homes[claim.Namespace]
		name := client.ObjectKeyFromObject(claim)
		switch {
		case !claim.DeletionTimestamp.IsZero():
		case home == nil || home.Name != gathered.environment.Name:
			gathered.others[name] = elsewhere
		case !wantsCopy(home, claim):
			gathered.others[name] = unwanted
		case len(claim.Status.Leases) > 0:
			gathered.others[name] = leased
		default:
			wanted, err := k.want(ctx, gathered.environment, claim)
			if err != nil {
				return err
			}
			gathered.wanted = append(gathered.wanted, wanted)
		}
	}
	slices.SortFunc(gathered.wanted, func(a, b wanted) int {
		return strings.Compare(a.claim().String(), b.claim().String())
	})
	return nil
}

// wantsCopy says whether a copy of a claim's target is kept. A Secret that the
// claim merges into is somebody else's.
func wantsCopy(home *v1alpha1.Environment, claim *v1alpha1.SecretClaim) bool {
	sealing := home.Spec.Sealing
	merges := claim.Spec.Target != nil && claim.Spec.Target.Mode == v1alpha1.MergeTarget
	return sealing != nil && !merges && (claim.Spec.Seal || sealing.Copies == v1alpha1.CopyAlways)
}

// want says what the copy of a claim's target should be, by the target's
// metadata alone.
func (k *Keeper) want(ctx context.Context, home *v1alpha1.Environment, claim *v1alpha1.SecretClaim) (wanted, error) {
	name := claim.TargetName()
	path, err := pathOf(home.Spec.Sealing.Git.Path, home.Name, name.Namespace, name.Name)
	if err != nil {
		return wanted{}, err
	}
	made := wanted{path: path, head: head{
		Environment: home.Name, EnvironmentUID: string(home.UID), Secret: name,
		Claim: claim.Name, ClaimUID: string(claim.UID), OnClaimDeleted: onClaimDeleted(claim),
		Type: typeOf(claim),
	}, metadata: metadataOf(claim), was: wasOf(claim)}
	secret := &metav1.PartialObjectMetadata{}
	secret.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
	err = k.config.Cache.Get(ctx, name, secret, client.UnsafeDisableDeepCopy)
	if apierrors.IsNotFound(err) {
		return made, nil
	}
	if err != nil {
		return wanted{}, fmt.Errorf("looking for Secret %s: %w", name, err)
	}
	made.Sequence, made.ready = sequenceOf(secret, claim.UID)
	return made, nil
}

// wasOf is what a claim's Sealed condition says now.
func wasOf(claim *v1alpha1.SecretClaim) condition {
	was := meta.FindStatusCondition(claim.Status.Conditions, v1alpha1.ConditionSealed)
	if was == nil {
		return condition{}
	}
	return condition{was.Status, was.Reason, was.Message}
}

// sequenceOf a claim's target; not ready while it is not marked as the claim's.
func sequenceOf(secret metav1.Object, claim types.UID) (sequence int64, ready bool) {
	revisions, err := target.ParseRevisions(secret.GetAnnotations()[v1alpha1.AnnotationRevisions])
	return revisions.Sequence(), err == nil && secret.GetLabels()[v1alpha1.LabelClaimUID] == string(claim)
}

// typeOf a claim's target.
func typeOf(claim *v1alpha1.SecretClaim) corev1.SecretType {
	if spec := claim.Spec.Target; spec != nil && spec.Type != "" {
		return corev1.SecretType(spec.Type)
	}
	return corev1.SecretTypeOpaque
}

// metadataOf is what a claim puts on its target.
func metadataOf(claim *v1alpha1.SecretClaim) metadata {
	if spec := claim.Spec.Template; spec != nil && spec.Metadata != nil {
		return metadata{plain(spec.Metadata.Labels), plain(spec.Metadata.Annotations)}
	}
	return metadata{}
}

func plain[text ~string](given map[string]text) map[string]string {
	made := make(map[string]string, len(given))
	for key, value := range given {
		made[key] = string(value)
	}
	return made
}

// onClaimDeleted is the claim's choice, or its default, which is another for
// claims made from annotations.
func onClaimDeleted(claim *v1alpha1.SecretClaim) v1alpha1.OnClaimDeleted {
	if spec := claim.Spec.Target; spec != nil && spec.OnClaimDeleted != "" {
		return spec.OnClaimDeleted
	}
	if claim.Labels[v1alpha1.LabelMadeFrom] == v1alpha1.MadeFromAnnotation {
		return v1alpha1.DeleteTarget
	}
	return v1alpha1.RetainTarget
}

// gatherKeys are those that copies of an environment are sealed to. Errors wrap
// errSealing where somebody has to change something.
func (k *Keeper) gatherKeys(ctx context.Context, sealing *v1alpha1.Sealing) (keys, error) {
	own, err := k.config.Keys.SealingKeys(ctx)
	if err != nil {
		return keys{}, fmt.Errorf("asking for the sealing keys: %w", err)
	}
	gathered := keys{own: own.Seal, known: own.Known, open: own.Open}
	for i, text := range sealing.Recipients {
		parsed, err := seal.ParsePublicKeys([]byte(text))
		if err != nil {
			return keys{}, fmt.Errorf("%w.recipients[%d]: %w", errSealing, i, err)
		}
		gathered.recipients = append(gathered.recipients, parsed...)
	}
	// Our own key among them, or one twice, is no mistake.
	seen := map[seal.KeyID]bool{own.Seal.ID(): true}
	gathered.recipients = slices.DeleteFunc(gathered.recipients, func(key *seal.PublicKey) bool {
		again := seen[key.ID()]
		seen[key.ID()] = true
		return again
	})
	if len(gathered.recipients) > maxRecipients {
		return keys{}, fmt.Errorf("%w.recipients: %d keys; a copy takes %d", errSealing, len(gathered.recipients), maxRecipients)
	}
	return gathered, nil
}

// open gives the environment's repository, with the credentials as they are now.
// Errors wrap errSealing or repository.ErrInvalid where somebody has to change
// something.
func (k *Keeper) open(ctx context.Context, git v1alpha1.SealingGit) (*repository.Repository, error) {
	secret, err := k.secret(ctx, "credentialsRef", git.CredentialsRef.Name)
	if err != nil {
		return nil, err
	}
	config := repository.Config{
		URL: git.URL, Branch: branchOf(git), AllowHTTP: k.config.AllowHTTP,
		Credentials: repository.Credentials{
			Username: string(secret["username"].Bytes()), Password: secret["password"], CA: secret["ca.crt"].Bytes(),
			PrivateKey: secret["ssh-privatekey"], KnownHosts: secret["known_hosts"].Bytes(),
		},
	}
	if git.SigningKeyRef != nil {
		signing, err := k.secret(ctx, "signingKeyRef", git.SigningKeyRef.Name)
		if err != nil {
			return nil, err
		}
		if config.SigningKey = signing["signing.asc"]; len(config.SigningKey.Bytes()) == 0 {
			return nil, fmt.Errorf("%w.git.signingKeyRef: Secret %s has no signing.asc", errSealing, git.SigningKeyRef.Name)
		}
	}
	opened, err := repository.Open(config)
	if err != nil {
		return nil, fmt.Errorf("spec.sealing.git and Secret %s: %w", git.CredentialsRef.Name, err)
	}
	return opened, nil
}

// secret reads a Secret of the daemon's own namespace.
func (k *Keeper) secret(ctx context.Context, field, name string) (map[string]providers.Value, error) {
	secret := &corev1.Secret{}
	err := k.config.Live.Get(ctx, client.ObjectKey{Namespace: k.config.Namespace, Name: name}, secret)
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("%w.git.%s: there is no Secret %s in namespace %s", errSealing, field, name, k.config.Namespace)
	}
	if err != nil {
		return nil, fmt.Errorf("reading Secret %s/%s: %w", k.config.Namespace, name, err)
	}
	values := make(map[string]providers.Value, len(secret.Data))
	for key := range maps.Keys(secret.Data) {
		values[key] = providers.NewValue(secret.Data[key])
	}
	return values, nil
}
