package sealingkey

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/privyseal/privyseal/broker/seal"
)

// read reads the key out of a Secret. What is wrong with it is told in the key
// and holds nothing of it.
func read(kind Kind, secret *corev1.Secret) held {
	one := held{created: secret.CreationTimestamp.Time, key: Key{
		Kind: kind, Secret: secret.Name, Since: secret.CreationTimestamp.Time, Label: secret.Labels[label(kind)],
	}}
	legacy := kind == V1 && secret.Name == PrefixV1 && one.key.Label == ""
	if one.key.Label != Active && !legacy {
		one.key.State = Ignored
		return one
	}
	var err error
	if kind == V1 {
		err = one.readV1(secret)
	} else {
		err = one.readV2(secret)
	}
	if err != nil {
		one.key.State, one.key.Problem = Malformed, err.Error()
	}
	return one
}

func label(kind Kind) string {
	if kind == V1 {
		return LabelV1
	}
	return LabelV2
}

func (h *held) readV1(secret *corev1.Secret) error {
	key, err := seal.ParseRSAKey(secret.Data[corev1.TLSPrivateKeyKey], secret.Data[corev1.TLSCertKey])
	if err != nil {
		return fmt.Errorf("reading %s and %s: %w", corev1.TLSPrivateKeyKey, corev1.TLSCertKey, err)
	}
	h.rsa, h.key.ID = key, key.Fingerprint()
	if certificate := key.Certificate(); certificate != nil {
		h.key.Since, h.key.Until = certificate.NotBefore, certificate.NotAfter
	} else {
		h.key.Problem = "it has no certificate in " + corev1.TLSCertKey + ", so it only opens"
	}
	return nil
}

func (h *held) readV2(secret *corev1.Secret) error {
	if text, given := secret.Annotations[AnnotationSince]; given {
		since, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return fmt.Errorf("reading annotation %s: %.40q is no time as 2006-01-02T15:04:05Z", AnnotationSince, text)
		}
		h.key.Since = since
	}
	keys, err := seal.ParsePrivateKeys(secret.Data[PrivateV2])
	if err != nil {
		return fmt.Errorf("reading %s: %w", PrivateV2, err)
	}
	if len(keys) > 1 {
		return fmt.Errorf("reading %s: %w: %d keys; give each a Secret of its own", PrivateV2, seal.ErrKey, len(keys))
	}
	h.hybrid, h.key.ID = keys[0], keys[0].Public().ID().String()
	return nil
}
