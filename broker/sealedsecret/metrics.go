package sealedsecret

import (
	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
)

// metrics have upstream's names and labels, since people have alerts on them.
type metrics struct {
	requests  prometheus.Counter
	errors    *prometheus.CounterVec
	condition *prometheus.GaugeVec
}

// Reasons of errors, as upstream's metric has them.
const (
	errorUnseal    = "unseal"
	errorUnmanaged = "unmanaged"
	errorUpdate    = "update"
	errorStatus    = "status"
)

func newMetrics(registerer prometheus.Registerer) *metrics {
	const prefix = "sealed_secrets_controller_"
	m := &metrics{
		requests: prometheus.NewCounter(prometheus.CounterOpts{
			Name: prefix + "unseal_requests_total", Help: "SealedSecrets that were opened.",
		}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "unseal_errors_total", Help: "SealedSecrets that could not be made Secrets of, by reason.",
		}, []string{"reason", "namespace"}),
		condition: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: prefix + "condition_info", Help: "Conditions of SealedSecrets: 1 true, -1 false, 0 unknown.",
		}, []string{"namespace", "name", "condition", "ss_app_kubernetes_io_instance"}),
	}
	if registerer != nil {
		registerer.MustRegister(m.requests, m.errors, m.condition)
	}
	return m
}

func (m *metrics) tell(sealed *ssv1alpha1.SealedSecret, status corev1.ConditionStatus) {
	m.forget(sealed.Namespace, sealed.Name) // it may have had another instance label
	m.condition.WithLabelValues(sealed.Namespace, sealed.Name, string(ssv1alpha1.SealedSecretSynced), sealed.Labels["app.kubernetes.io/instance"]).
		Set(map[corev1.ConditionStatus]float64{corev1.ConditionTrue: 1, corev1.ConditionFalse: -1}[status])
}

func (m *metrics) forget(namespace, name string) {
	m.condition.DeletePartialMatch(prometheus.Labels{"namespace": namespace, "name": name})
}
