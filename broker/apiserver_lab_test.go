package broker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// The API server goes away for longer than a Lease lasts, so the daemon ends,
// and is started again by kubelet while nobody answers it. What changes in Vault
// meanwhile arrives when there is an API server again, once.
func TestAnAPIServerThatGoesAndComesBackCostsOneRollout(t *testing.T) {
	lab := brokertest.NewLab(t, brokertest.Ours)
	lab.Install(t, fast)
	f := &faults{T: t, lab: lab, tenant: lab.NewTenant(t, "apiserver")}
	f.put("first")
	f.claim()
	lab.Apply(t, reader(f.tenant, "app", "", "env: [{name: PASSWORD, valueFrom: {secretKeyRef: {name: db, key: password}}}]"))
	before := f.tenant.RunningPod(t, "app", within)
	brokertest.Eventually(t, within, readyIs(lab, f.tenant, "db", v1alpha1.ReasonSynced))
	good := f.state()
	pod := f.serve()

	defer f.apiServerAnswers()
	f.order("stop", "kube-apiserver")
	f.put("second")
	// The Lease of a daemon that cannot renew it is lost after ten seconds.
	brokertest.Eventually(t, within, func(ctx context.Context) error { return f.daemonEnded(ctx, pod) })
	f.apiServerAnswers()

	began := time.Now()
	brokertest.Eventually(t, again, f.holds("second"))
	t.Logf("a change arrived %.1f s after the API server was there", time.Since(began).Seconds())
	brokertest.Eventually(t, within, rolledOut(lab, f.tenant, "app", 2))
	brokertest.Throughout(t, 8*time.Second, rolledOut(lab, f.tenant, "app", 2))
	if after := f.tenant.RunningPod(t, "app", within); after.UID == before.UID {
		t.Error("the pod was not replaced")
	}
	// Nothing that is written on the claim ever said that it was not well.
	f.conditionsAre(good)
	if restarts := restartsOf(f.serve()); restarts > restartsOf(pod)+1 {
		t.Errorf("the daemon was started %d times, and not once", restarts-restartsOf(pod))
	}
}

// serve is the one pod of the chart's controllers.
func (f *faults) serve() corev1.Pod {
	f.Helper()
	var found corev1.Pod
	brokertest.Eventually(f, within, func(ctx context.Context) error {
		var pods corev1.PodList
		err := f.lab.Client.List(ctx, &pods, client.InNamespace(brokertest.System), client.MatchingLabels{"app.kubernetes.io/component": "serve"})
		if err != nil {
			return err
		}
		if len(pods.Items) != 1 || len(pods.Items[0].Status.ContainerStatuses) != 1 {
			return fmt.Errorf("%d pods of the daemon, want one", len(pods.Items))
		}
		found = pods.Items[0]
		return nil
	})
	return found
}

func restartsOf(pod corev1.Pod) int32 { return pod.Status.ContainerStatuses[0].RestartCount }

// daemonEnded asks the node, since nobody else knows now.
func (f *faults) daemonEnded(ctx context.Context, pod corev1.Pod) error {
	tasks, err := f.lab.Command(ctx, "exec", "--", "ctr", "--namespace", "k8s.io", "tasks", "list", "--quiet").Output()
	if err != nil {
		return fmt.Errorf("asking containerd: %w", err)
	}
	id := strings.TrimPrefix(pod.Status.ContainerStatuses[0].ContainerID, "containerd://")
	if slices.Contains(strings.Fields(string(tasks)), id) {
		return errors.New("the daemon still runs")
	}
	return nil
}

// apiServerAnswers leaves an API server that works to whoever comes next.
func (f *faults) apiServerAnswers() {
	f.Helper()
	f.order("start", "kube-apiserver")
	brokertest.Eventually(f, within, func(ctx context.Context) error {
		return f.lab.Client.List(ctx, &corev1.NamespaceList{})
	})
}
