package certs

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// The Lease is held long and renewed seldom: its holder has something to do
// once in years, and a write every two seconds to be able to is a bad bargain.
const (
	leaseDuration = 60 * time.Second
	leaseDeadline = 40 * time.Second
	leaseRetry    = 10 * time.Second
)

func (c *Certs) elector() (*leaderelection.LeaderElector, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("naming this replica for the Lease: %w", err)
	}
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Name: c.config.Lease,
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: c.config.Namespace, Name: c.config.Lease},
			Client:     c.config.Client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: host + "_" + string(uuid.NewUUID())},
		},
		LeaseDuration:   leaseDuration,
		RenewDeadline:   leaseDeadline,
		RetryPeriod:     leaseRetry,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: c.lead,
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("setting up Lease %s: %w", c.config.Lease, err)
	}
	return elector, nil
}

// lead keeps the authority until ctx, and with it the Lease, ends. A last write
// that is still under way then is harmless: it bears the resourceVersion that
// it was judged by.
func (c *Certs) lead(ctx context.Context) {
	k := &keeper{lifetimes: c.lifetimes}
	for ctx.Err() == nil {
		pause := c.lifetimes.every()
		if err := c.keep(ctx, k); err != nil && ctx.Err() == nil {
			c.config.Log.Error("cannot keep the webhook's certificate authority", "error", err)
			pause = min(pause, impatient)
		}
		c.sleep(ctx, pause)
	}
}

// keep is one pass over the authority: gather, judge, write the Secret, then
// the bundle that belongs to it.
func (c *Certs) keep(ctx context.Context, k *keeper) error {
	secret, err := c.secret(ctx)
	if err != nil {
		return err
	}
	configuration, err := c.configuration(ctx)
	if err != nil {
		return err
	}
	a, err := parseAuthority(secret.Data)
	if err != nil {
		// Nobody can serve by it, and nobody else writes it.
		c.config.Log.Error("making the webhook's certificate authority anew", "secret", c.config.Secret, "error", err)
		a = authority{}
	}
	now := c.config.Clock.Now()
	a, changed, err := k.judge(a, inConfiguration(configuration), now)
	if err != nil {
		return err
	}
	if changed {
		if err := c.write(ctx, secret, a); err != nil {
			return err
		}
	}
	return c.publish(ctx, configuration, a.bundle())
}

// inConfiguration are the certificates that the configuration trusts. What it
// cannot be read to trust is nothing that we published.
func inConfiguration(configuration *admissionregistrationv1.MutatingWebhookConfiguration) []*x509.Certificate {
	var all []*x509.Certificate
	for i, webhook := range configuration.Webhooks {
		certs, err := parseCerts(webhook.ClientConfig.CABundle)
		if err != nil {
			certs = nil
		}
		if i == 0 {
			all = certs
			continue
		}
		// One that only some of the webhooks trust is not trusted yet.
		var both []*x509.Certificate
		for _, cert := range all {
			if trusts(certs, cert) {
				both = append(both, cert)
			}
		}
		all = both
	}
	return all
}

func (c *Certs) write(ctx context.Context, secret *corev1.Secret, a authority) error {
	if secret.Data == nil {
		secret.Data = map[string][]byte{}
	}
	if err := a.into(secret.Data); err != nil {
		return err
	}
	// The resourceVersion that was judged goes with it: a replica that has lost
	// the Lease without knowing writes nothing over its successor.
	if _, err := c.config.Client.CoreV1().Secrets(c.config.Namespace).Update(ctx, secret, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("writing Secret %s/%s: %w", c.config.Namespace, c.config.Secret, err)
	}
	c.config.Log.Info("webhook certificate authority changed", "secret", c.config.Secret,
		"until", a.current.cert.NotAfter, "prepared", a.next != nil, "old", len(a.old))
	return nil
}

// publish sets the bundle of every webhook that has another.
func (c *Certs) publish(ctx context.Context, configuration *admissionregistrationv1.MutatingWebhookConfiguration, bundle []byte) error {
	type operation struct {
		Op    string `json:"op"`
		Path  string `json:"path"`
		Value any    `json:"value"`
	}
	var patch []operation
	for i, webhook := range configuration.Webhooks {
		if string(webhook.ClientConfig.CABundle) == string(bundle) {
			continue
		}
		at := fmt.Sprintf("/webhooks/%d", i)
		patch = append(patch,
			operation{"test", at + "/name", webhook.Name}, // the list may have changed
			operation{"add", at + "/clientConfig/caBundle", bundle})
	}
	if len(patch) == 0 {
		return nil
	}
	body, err := json.Marshal(patch)
	if err != nil {
		return fmt.Errorf("encoding the patch of the webhook's configuration: %w", err)
	}
	if _, err := c.config.Client.AdmissionregistrationV1().MutatingWebhookConfigurations().
		Patch(ctx, c.config.Configuration, types.JSONPatchType, body, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("patching MutatingWebhookConfiguration %s: %w", c.config.Configuration, err)
	}
	c.config.Log.Info("webhook certificate authority published", "configuration", c.config.Configuration)
	return nil
}
