package lease

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of what is lent. A series a lease is as many as there are claims of
// leased sources.
type metrics struct {
	issued prometheus.Counter
	expiry *prometheus.Desc
	of     *Keeper
}

func newMetrics(of *Keeper) *metrics {
	return &metrics{
		issued: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "privyseal_leases_issued_total",
			Help: "Leases that were issued.",
		}),
		expiry: prometheus.NewDesc("privyseal_lease_expiry_timestamp_seconds",
			"When what claims use ends if nobody renews it or issues another, in Unix seconds.",
			[]string{"namespace", "claim", "source"}, nil),
		of: of,
	}
}

func (m *metrics) register(with prometheus.Registerer) error {
	if with == nil {
		return nil
	}
	return errors.Join(with.Register(m.issued), with.Register(m))
}

// Describe implements prometheus.Collector for the gauge.
func (m *metrics) Describe(descs chan<- *prometheus.Desc) { descs <- m.expiry }

// Collect implements prometheus.Collector for the gauge.
func (m *metrics) Collect(samples chan<- prometheus.Metric) {
	m.of.mu.Lock()
	defer m.of.mu.Unlock()
	latest := map[[3]string]time.Time{}
	for id, one := range m.of.memory {
		labels := [3]string{one.claim.Namespace, one.claim.Name, id.place.Path}
		if one.inUse && one.expires.After(latest[labels]) {
			latest[labels] = one.expires
		}
	}
	for labels, at := range latest {
		samples <- prometheus.MustNewConstMetric(m.expiry, prometheus.GaugeValue, float64(at.Unix()), labels[:]...)
	}
}
