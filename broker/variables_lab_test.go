package broker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

func TestVariablesThatCollideAreToldUntilTheyDoNot(t *testing.T) {
	t.Parallel()
	lab := brokertest.NewLab(t, brokertest.ControlPlane)
	lab.Install(t, fast)
	tenant := lab.NewTenant(t, "variables")
	for name, secret := range map[string]map[string]any{
		"db": {"password": "one", "user": "pay"}, "api": {"password": "two", "token": "t"},
	} {
		lab.Vault.Put(t, tenant.Path(name), secret)
		lab.Apply(t, fmt.Sprintf(`
apiVersion: privyseal.io/v1alpha1
kind: SecretClaim
metadata: {name: %s, namespace: %s}
spec: {sources: [{path: %s}]}
`, name, tenant.Namespace, name))
		brokertest.Eventually(t, within, readyIs(lab, tenant, name, v1alpha1.ReasonSynced))
	}
	lab.Apply(t, reader(tenant, "web", "", "envFrom: [{secretRef: {name: db}}, {secretRef: {name: api}}]"))

	told := func(claim, want string) func(context.Context) error {
		return func(ctx context.Context) error {
			message, _, err := conditionOf(ctx, lab, tenant, claim, v1alpha1.ConditionEnvConflict)
			if err == nil && !strings.HasPrefix(message, want) || want == "" && message != "" {
				err = fmt.Errorf("EnvConflict says %q, want %q", message, want)
			}
			return err
		}
	}
	brokertest.Eventually(t, within, told("db", "Deployment web, container app: password of envFrom of Secret db also in envFrom of Secret api; only the last of them counts"))
	brokertest.Eventually(t, within, told("api", "Deployment web, container app: password of envFrom of Secret api also in envFrom of Secret db"))
	brokertest.Eventually(t, within, readyIs(lab, tenant, "db", v1alpha1.ReasonSynced))

	// It stays told, and is not written again.
	_, version, err := conditionOf(t.Context(), lab, tenant, "db", v1alpha1.ConditionEnvConflict)
	if err != nil {
		t.Fatal(err)
	}
	brokertest.Throughout(t, 6*time.Second, func(ctx context.Context) error {
		if _, now, err := conditionOf(ctx, lab, tenant, "db", v1alpha1.ConditionEnvConflict); err != nil || now != version {
			return errors.Join(err, fmt.Errorf("the claim went from version %s to %s", version, now))
		}
		return nil
	})

	// A prefix solves it. In a lab without a node no pod ever becomes ready, so
	// the old one is taken away by hand.
	lab.Kubectl(t, "patch", "deployment", "web", "-n", tenant.Namespace, "--type=json", "-p",
		`[{"op": "add", "path": "/spec/template/spec/containers/0/envFrom/1/prefix", "value": "API_"},
		  {"op": "replace", "path": "/spec/strategy", "value": {"type": "Recreate"}}]`)
	for _, claim := range []string{"db", "api"} {
		brokertest.Eventually(t, within, told(claim, ""))
	}
}

// conditionOf gives the message of a claim's condition, empty where it has
// none, and the claim's version.
func conditionOf(ctx context.Context, lab *brokertest.Lab, tenant *brokertest.Tenant, name, kind string) (message, version string, err error) {
	claim := &v1alpha1.SecretClaim{}
	if err := lab.Client.Get(ctx, tenant.Key(name), claim); err != nil {
		return "", "", err
	}
	if found := meta.FindStatusCondition(claim.Status.Conditions, kind); found != nil {
		message = found.Message
	}
	return message, claim.ResourceVersion, nil
}
