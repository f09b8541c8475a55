package restart

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// metrics of restarts. Their labels are namespaces, kinds and a few words of
// ours, so that their number stays small whatever is restarted.
type metrics struct {
	restarts   *prometheus.CounterVec
	early      prometheus.Counter
	stale      *prometheus.Desc
	uninjected *prometheus.Desc
	deferred   *prometheus.Desc
	oldest     *prometheus.Desc
	unusable   *prometheus.Desc
	of         *Controller
}

func newMetrics(of *Controller) *metrics {
	return &metrics{
		restarts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "privyseal_restarts_total",
			Help: "Pod templates patched to restart their workload, by kind.",
		}, []string{"kind"}),
		early: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "privyseal_restarts_before_expiry_total",
			Help: "Restarts that were made in spite of windows or turns, since what the pods hold ends.",
		}),
		stale: prometheus.NewDesc("privyseal_stale_workloads",
			"Workloads with a live pod that holds an old content, by what becomes of it: "+
				"rolling, stuck, window, turn, stopped, disruption, paused, on-delete, partition, workload-never or claim-never.",
			[]string{"namespace", "standing"}, nil),
		uninjected: prometheus.NewDesc("privyseal_pods_uninjected",
			"Live pods that run without a secret that their annotations ask for.",
			[]string{"namespace"}, nil),
		deferred: prometheus.NewDesc("privyseal_restarts_deferred",
			"Workloads that wait to be restarted, by what they wait for: "+
				"closed, unknown or never (windows), turn, disrupted or stopped (restarts). "+
				"The environment is empty where it is not known, and where the cluster's limit holds.",
			[]string{"environment", "cause"}, nil),
		oldest: prometheus.NewDesc("privyseal_restarts_deferred_oldest_seconds",
			"How long ago the oldest change came that one of them waits with.",
			[]string{"environment", "cause"}, nil),
		unusable: prometheus.NewDesc("privyseal_windows_unusable",
			"1 for an environment whose windows let nothing restart, now or later.",
			[]string{"environment"}, nil),
		of: of,
	}
}

func (m *metrics) register(with prometheus.Registerer) error {
	if with == nil {
		return nil
	}
	return errors.Join(with.Register(m.restarts), with.Register(m.early), with.Register(m))
}

// Describe implements prometheus.Collector for the gauges.
func (m *metrics) Describe(descs chan<- *prometheus.Desc) {
	descs <- m.stale
	descs <- m.uninjected
	descs <- m.deferred
	descs <- m.oldest
	descs <- m.unusable
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
	now := m.of.config.Clock.Now()
	for name, queue := range m.of.deferrals.queues() {
		samples <- prometheus.MustNewConstMetric(m.deferred, prometheus.GaugeValue, float64(queue.count), name.environment, string(name.cause))
		age := max(0, now.Unix()-queue.since)
		samples <- prometheus.MustNewConstMetric(m.oldest, prometheus.GaugeValue, float64(age), name.environment, string(name.cause))
	}
	for _, environment := range m.withoutTime(now) {
		samples <- prometheus.MustNewConstMetric(m.unusable, prometheus.GaugeValue, 1, environment)
	}
}

// withoutTime are the environments whose windows let nothing restart. Before
// the caches are there it finds none, and keeps no scrape waiting for them.
func (m *metrics) withoutTime(now time.Time) []string {
	if m.of.gather.cache == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	list := &v1alpha1.EnvironmentList{}
	if err := m.of.gather.cache.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
		return nil
	}
	var found []string
	for i := range list.Items {
		if m.of.calendars.unusable(&list.Items[i], now).Holds() {
			found = append(found, list.Items[i].Name)
		}
	}
	return found
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
