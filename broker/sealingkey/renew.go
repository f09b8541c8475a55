package sealingkey

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/privyseal/privyseal/broker/seal"
)

// DefaultRenewal is how old a key gets before the next one, as upstream has it.
const DefaultRenewal = 30 * 24 * time.Hour

// Renewal says when a key is followed by a new one.
type Renewal struct {
	// Every is the age at which; 0 never, but for the first key.
	Every time.Duration

	// CutOff has every older key followed at once; zero is none.
	CutOff time.Time
}

// due says whether a key that is sealed to since a time is to be followed now,
// and when it is to be next; zero is never.
func (r Renewal) due(since, now time.Time) (due bool, next time.Time) {
	if since.Before(r.CutOff) && !r.CutOff.After(now) {
		return true, now
	}
	if r.CutOff.After(now) {
		next = r.CutOff
	}
	if r.Every > 0 {
		if at := since.Add(r.Every); next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return !next.IsZero() && !next.After(now), next
}

// missing are the versions that need a new key, and when next one does.
func (s Snapshot) missing(r Renewal, now time.Time) (versions []int, next time.Time) {
	for _, version := range []int{seal.V1, seal.V2} {
		var newest *Key
		for i := range s.Keys {
			if s.Keys[i].Version == version && s.Keys[i].State == Active {
				newest = &s.Keys[i]
				break
			}
		}
		if newest == nil {
			versions = append(versions, version)
			continue
		}
		due, at := r.due(newest.Since, now)
		if due {
			versions = append(versions, version)
		} else if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return versions, next
}

// make creates a key Secret of a version.
func (k *Keeper) make(ctx context.Context, version int) error {
	secret, err := k.newSecret(version)
	if err != nil {
		return err
	}
	defer func() {
		for _, value := range secret.Data {
			clear(value)
		}
	}()
	if err := k.config.Writer.Create(ctx, secret); err != nil {
		return fmt.Errorf("creating a sealing key of version %d: %w", version, err)
	}
	k.config.Log.Info("made a sealing key", "version", version, "secret", secret.Name)
	return nil
}

func (k *Keeper) newSecret(version int) (*corev1.Secret, error) {
	now := k.config.Clock.Now()
	if version == seal.V1 {
		key, err := seal.GenerateRSAKey(seal.RSAConfig{Now: now, Bits: k.config.RSABits})
		if err != nil {
			return nil, err
		}
		text, certificate := key.PEM()
		return &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: k.config.Namespace, GenerateName: NameV1, Labels: map[string]string{LabelV1: active}},
			Type:       corev1.SecretTypeTLS,
			Data:       map[string][]byte{corev1.TLSPrivateKeyKey: text, corev1.TLSCertKey: certificate},
		}, nil
	}
	key, err := seal.GenerateKey()
	if err != nil {
		return nil, err
	}
	text, err := key.PEM()
	if err != nil {
		return nil, err
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: k.config.Namespace, GenerateName: NameV2, Labels: map[string]string{LabelV2: active},
			Annotations: map[string]string{annotationSince: now.UTC().Format(time.RFC3339)},
		},
		Type: TypeV2,
		Data: map[string][]byte{privateEntry: text, publicEntry: key.Public().PEM()},
	}, nil
}
