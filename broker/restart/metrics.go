package restart

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of restarts. Their labels are namespaces, kinds and a few words of
// ours, so that their number stays small whatever is restarted.
type metrics struct {
	restarts   *prometheus.CounterVec
	stale      *prometheus.Desc
	uninjected *prometheus.Desc
	of         *Controller
}

func newMetrics(of *Controller) *metrics {
	return &metrics{
		restarts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "privyseal_restarts_total",
			Help: "Pod templates patched to restart their workload, by kind.",
		}, []string{"kind"}),
		stale: prometheus.NewDesc("privyseal_stale_workloads",
			"Workloads with a live pod that holds an old content, by what becomes of it: "+
				"rolling, stuck, paused, on-delete, partition, workload-never or claim-never.",
			[]string{"namespace", "standing"}, nil),
		uninjected: prometheus.NewDesc("privyseal_pods_uninjected",
			"Live pods that run without a secret that their annotations ask for.",
			[]string{"namespace"}, nil),
		of: of,
	}
}

func (m *metrics) register(with prometheus.Registerer) error {
	if with == nil {
		return nil
	}
	return errors.Join(with.Register(m.restarts), with.Register(m))
}

// Describe implements prometheus.Collector for the gauges.
func (m *metrics) Describe(descs chan<- *prometheus.Desc) {
	descs <- m.stale
	descs <- m.uninjected
}

// Collect implements prometheus.Collector for the gauges.
func (m *metrics) Collect(samples chan<- prometheus.Metric) {
	for tally, count := range m.of.ledger.tallies() {
		samples <- prometheus.MustNewConstMetric(m.stale, prometheus.GaugeValue,
			float64(count), tally.namespace, string(tally.standing))
	}
	for namespace, count := range m.podsWithout() {
		samples <- prometheus.MustNewConstMetric(m.uninjected, prometheus.GaugeValue, float64(count), namespace)
	}
}

// podsWithout counts, by namespace, the pods that lack a secret. Before the
// caches are there it counts none, and keeps no scrape waiting for them.
func (m *metrics) podsWithout() map[string]int {
	if m.of.gather.cache == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	pods, err := m.of.gather.lackingPods(ctx, "", anyClaim)
	if err != nil {
		return nil
	}
	counts := map[string]int{}
	for i := range pods {
		counts[pods[i].Namespace]++
	}
	return counts
}
