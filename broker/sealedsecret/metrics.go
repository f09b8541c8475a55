package sealedsecret

import (
	"sync"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// upstreamPrefix begins the names of upstream's metrics, which dashboards and
// alerts of those who come from there ask for.
const upstreamPrefix = "sealed_secrets_controller"

// metrics are upstream's, by its names, and our own.
type metrics struct {
	requests   prometheus.Counter
	errors     *prometheus.CounterVec
	conditions *prometheus.GaugeVec
	unsealed   *prometheus.CounterVec

	mu     sync.Mutex
	labels map[types.NamespacedName]prometheus.Labels
}

func newMetrics(registerer prometheus.Registerer, revision string) *metrics {
	m := &metrics{
		requests: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: upstreamPrefix, Name: "unseal_requests_total",
			Help: "Runs that decrypted a SealedSecret, or tried to.",
		}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: upstreamPrefix, Name: "unseal_errors_total",
			Help: "SealedSecrets that could not be seen to, by what it was that failed.",
		}, []string{"reason", "namespace"}),
		conditions: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: upstreamPrefix, Name: "condition_info",
			Help: "Condition of each SealedSecret: -1 is False, 0 unknown, 1 True. None on a daemon that does not lead.",
		}, []string{"namespace", "name", "condition", "ss_app_kubernetes_io_instance"}),
		unsealed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "privyseal_unsealed_total",
			Help: "SealedSecrets that were decrypted, by what that came to for their Secret.",
		}, []string{"outcome"}),
		labels: map[types.NamespacedName]prometheus.Labels{},
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: upstreamPrefix, Name: "build_info", Help: "Build of the program.",
		ConstLabels: prometheus.Labels{"revision": revision},
	})
	build.Set(1)
	if registerer != nil {
		registerer.MustRegister(m.requests, m.errors, m.conditions, m.unsealed, build)
	}
	return m
}

func (m *metrics) failed(reason, namespace string) { m.errors.WithLabelValues(reason, namespace).Inc() }

// observe tells of a SealedSecret's condition.
func (m *metrics) observe(sealed *ssv1alpha1.SealedSecret) {
	is := conditionOf(sealed.Status)
	if is == nil {
		return
	}
	labels := prometheus.Labels{
		"namespace": sealed.Namespace, "name": sealed.Name, "condition": string(is.Type),
		"ss_app_kubernetes_io_instance": sealed.Labels["app.kubernetes.io/instance"],
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	name := client.ObjectKeyFromObject(sealed)
	if before, told := m.labels[name]; told {
		m.conditions.Delete(before)
	}
	m.labels[name] = labels
	m.conditions.With(labels).Set(map[corev1.ConditionStatus]float64{corev1.ConditionTrue: 1, corev1.ConditionFalse: -1}[is.Status])
}

func (m *metrics) forget(name types.NamespacedName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if before, told := m.labels[name]; told {
		m.conditions.Delete(before)
		delete(m.labels, name)
	}
}
