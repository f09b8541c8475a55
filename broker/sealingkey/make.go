package sealingkey

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/privyseal/privyseal/broker/seal"
)

// policy is when new keys are made.
type policy struct {
	// period after which a key is followed by a new one; 0 is never.
	period time.Duration

	// cutOff is a time: a key that is older is followed by a new one. Zero is
	// none.
	cutOff time.Time
}

// due says whether a key of a kind has to be made now, and if not, when to look
// again; zero for never.
func (p policy) due(snapshot Snapshot, kind Kind, now time.Time) (due bool, next time.Time) {
	key, found := snapshot.sealing(kind)
	if !found {
		return true, time.Time{}
	}
	if p.period > 0 {
		next = key.Since.Add(p.period)
		if until := key.Until; !until.IsZero() && until.Before(next) {
			next = until
		}
	}
	if key.Since.Before(p.cutOff) && (next.IsZero() || p.cutOff.Before(next)) {
		next = p.cutOff
	}
	return !next.IsZero() && !now.Before(next), next
}

// newV1 makes a key Secret as upstream would.
func newV1(namespace string, now time.Time) (*corev1.Secret, error) {
	key, err := seal.GenerateRSAKey(seal.RSAConfig{Now: now})
	if err != nil {
		return nil, fmt.Errorf("making a sealing key: %w", err)
	}
	private, certificate := key.PEM()
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, GenerateName: PrefixV1,
			Labels: map[string]string{LabelV1: Active},
		},
		Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{corev1.TLSPrivateKeyKey: private, corev1.TLSCertKey: certificate},
	}, nil
}

func newV2(namespace string, now time.Time) (*corev1.Secret, error) {
	key, err := seal.GenerateKey()
	if err != nil {
		return nil, fmt.Errorf("making a sealing key: %w", err)
	}
	private, err := key.PEM()
	if err != nil {
		return nil, fmt.Errorf("writing a sealing key: %w", err)
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, GenerateName: PrefixV2,
			Labels:      map[string]string{LabelV2: Active},
			Annotations: map[string]string{AnnotationSince: now.UTC().Format(time.RFC3339)},
		},
		Type: TypeV2,
		Data: map[string][]byte{PrivateV2: private, PublicV2: key.Public().PEM()},
	}, nil
}

// Renew makes the keys that are due, and says when to look again; 0 for when
// something changes. It is for the daemon that leads.
func (k *Keeper) Renew(ctx context.Context) (time.Duration, error) {
	snapshot, err := k.load(ctx)
	if err != nil {
		return 0, err
	}
	k.report(snapshot)
	made := false
	for kind, generate := range map[Kind]func(string, time.Time) (*corev1.Secret, error){V1: newV1, V2: newV2} {
		now := k.config.Clock.Now()
		if due, _ := k.policy.due(snapshot, kind, now); !due {
			continue
		}
		secret, err := generate(k.config.Namespace, now)
		if err != nil {
			return 0, err
		}
		err = k.config.Writer.Create(ctx, secret)
		clearData(secret.Data)
		if err != nil {
			return 0, fmt.Errorf("creating a sealing key in namespace %s: %w", k.config.Namespace, err)
		}
		made = true
		k.config.Log.Info("made a sealing key", "kind", kind, "secret", secret.Name)
	}
	if made {
		if snapshot, err = k.load(ctx); err != nil {
			return 0, err
		}
	}
	return k.nextLook(snapshot), nil
}

// nextLook is how long it is until time alone changes something.
func (k *Keeper) nextLook(snapshot Snapshot) time.Duration {
	now := k.config.Clock.Now()
	next := snapshot.nextFuture()
	for _, kind := range []Kind{V1, V2} {
		if _, at := k.policy.due(snapshot, kind, now); !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	if next.IsZero() {
		return 0
	}
	return max(next.Sub(now), time.Second)
}

func clearData(data map[string][]byte) {
	for _, value := range data {
		clear(value)
	}
}
