package broker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// TestFaultsOfAMountLeaveTheLastGoodValue has Vault limit the rate of reads in
// one mount, by its own quotas, and then takes the mount away and gives another
// of its name.
func TestFaultsOfAMountLeaveTheLastGoodValue(t *testing.T) {
	t.Parallel()
	lab := brokertest.NewLab(t, brokertest.Ours)
	lab.Install(t, fast)
	f := &faults{T: t, lab: lab, tenant: lab.NewTenant(t, "mount")}
	m := &ownMount{faults: f, name: "mount-" + strings.TrimPrefix(f.tenant.Environment, "env-")}
	m.enable()
	defer m.disable()
	m.allow()
	m.put("first")
	lab.Apply(t, fmt.Sprintf(`
apiVersion: privyseal.io/v1alpha1
kind: SecretClaim
metadata: {name: db, namespace: %s}
spec: {sources: [{path: /%s/db}]}
`, f.tenant.Namespace, m.name))
	brokertest.Eventually(t, within, f.holds("first"))
	brokertest.Eventually(t, within, readyIs(lab, f.tenant, "db", v1alpha1.ReasonSynced))

	// One read an hour: nothing is told, and the change arrives afterwards.
	good := f.state()
	lab.Vault.Write(t, "sys/quotas/rate-limit/"+m.name, map[string]any{"path": m.name + "/", "rate": 1, "interval": "1h"})
	defer m.remove("sys/quotas/rate-limit/" + m.name) // goes with its mount, too
	brokertest.Eventually(t, within, m.limited)
	m.put("second")
	brokertest.Throughout(t, 5*time.Second, f.unchanged(good))
	m.remove("sys/quotas/rate-limit/" + m.name)
	brokertest.Eventually(t, again, f.holds("second"))
	f.conditionsAre(good)

	// Gone, and then there again and empty: told on the claim alone.
	good = f.state()
	m.disable()
	brokertest.Eventually(t, within, readyIs(lab, f.tenant, "db", v1alpha1.ReasonSourceNotFound))
	m.enable()
	brokertest.Throughout(t, 5*time.Second, func(ctx context.Context) error {
		return errors.Join(f.sameSecret(ctx, good), readyIs(lab, f.tenant, "db", v1alpha1.ReasonSourceNotFound)(ctx))
	})
	m.put("third")
	brokertest.Eventually(t, again, f.holds("third"))
	brokertest.Eventually(t, within, readyIs(lab, f.tenant, "db", v1alpha1.ReasonSynced))
}

// ownMount is a KV v2 mount that nobody else reads in.
type ownMount struct {
	*faults
	name string
}

func (m *ownMount) enable() {
	m.Helper()
	m.lab.Vault.Write(m, "sys/mounts/"+m.name, map[string]any{"type": "kv", "options": map[string]string{"version": "2"}})
}

func (m *ownMount) disable() { m.remove("sys/mounts/" + m.name) }

func (m *ownMount) remove(path string) {
	m.Helper()
	if _, err := m.lab.Vault.Client().Logical().DeleteWithContext(m.Context(), path); err != nil {
		m.Errorf("removing %s: %v", path, err)
	}
}

// allow lets the tenant read there: by the Vault's policy, and its environment.
func (m *ownMount) allow() {
	m.Helper()
	m.lab.Vault.Write(m, "sys/policies/acl/privyseal-"+m.tenant.Namespace, map[string]any{
		"policy": `path "` + m.name + `/*" { capabilities = ["read"] }`,
	})
	m.lab.Kubectl(m, "patch", "environment", m.tenant.Environment, "--type=json", "-p",
		`[{"op": "add", "path": "/spec/paths/-", "value": "`+m.name+`/**"}]`)
}

// put writes once the mount takes writes, which is a moment after it is made.
func (m *ownMount) put(password string) {
	m.Helper()
	brokertest.Eventually(m, within, func(ctx context.Context) error {
		_, err := m.lab.Vault.Client().KVv2(m.name).Put(ctx, "db", map[string]any{"password": password})
		return err
	})
}

// limited says that the daemon was refused a read for their number.
func (m *ownMount) limited(context.Context) error {
	log := m.lab.Kubectl(m, "logs", "-n", brokertest.System, "deployment/privyseal", "--since=1m")
	for line := range strings.Lines(log) {
		if strings.Contains(line, "HTTP 429") && strings.Contains(line, m.tenant.Namespace) {
			return nil
		}
	}
	return errors.New("the daemon's log tells of no limit")
}
