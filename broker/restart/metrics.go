package restart

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of restarts. Their labels are namespaces, kinds and a few words of
// ours, so that their number stays small whatever is restarted.
type metrics struct {
	restarts *prometheus.CounterVec
	stale    *prometheus.Desc
	ledger   *ledger
}

func newMetrics(ledger *ledger) *metrics {
	return &metrics{
		restarts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "privyseal_restarts_total",
			Help: "Pod templates patched to restart their workload, by kind.",
		}, []string{"kind"}),
		stale: prometheus.NewDesc("privyseal_stale_workloads",
			"Workloads with a live pod that holds an old content, by what becomes of it: "+
				"rolling, stuck, paused, on-delete, partition, workload-never or claim-never.",
			[]string{"namespace", "standing"}, nil),
		ledger: ledger,
	}
}

func (m *metrics) register(with prometheus.Registerer) error {
	if with == nil {
		return nil
	}
	return errors.Join(with.Register(m.restarts), with.Register(m))
}

// Describe implements prometheus.Collector for the gauge.
func (m *metrics) Describe(descs chan<- *prometheus.Desc) { descs <- m.stale }

// Collect implements prometheus.Collector for the gauge.
func (m *metrics) Collect(samples chan<- prometheus.Metric) {
	for tally, count := range m.ledger.tallies() {
		samples <- prometheus.MustNewConstMetric(m.stale, prometheus.GaugeValue,
			float64(count), tally.namespace, string(tally.standing))
	}
}
