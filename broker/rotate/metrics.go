package rotate

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/rotation"
)

// metrics of rotations. No label says which.
type metrics struct {
	ended  *prometheus.CounterVec
	halted prometheus.GaugeFunc
}

func newMetrics(cache client.Reader) *metrics {
	return &metrics{
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "privyseal_rotations_total",
			Help: "Rotations that ended or halted, by outcome: done, rolled_back, halted, accepted or missed.",
		}, []string{"outcome"}),
		halted: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "privyseal_rotations_halted",
			Help: "Rotations that halted, and wait for somebody to say how they go on.",
		}, func() float64 { return halted(cache) }),
	}
}

func halted(cache client.Reader) float64 {
	var all v1alpha1.SecretRotationList
	if err := cache.List(context.Background(), &all, client.UnsafeDisableDeepCopy); err != nil {
		return 0 // the cache is not there yet
	}
	count := 0
	for i := range all.Items {
		if all.Items[i].Status.Phase == string(rotation.Halted) {
			count++
		}
	}
	return float64(count)
}

// count how a rotation ended, if it did.
func (m *metrics) count(phase rotation.Phase) {
	outcome, ended := map[rotation.Phase]string{
		rotation.Done: "done", rotation.RolledBack: "rolled_back", rotation.Halted: "halted", rotation.Accepted: "accepted",
	}[phase]
	if ended {
		m.ended.WithLabelValues(outcome).Inc()
	}
}
