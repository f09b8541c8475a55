package sealingkey

import "github.com/prometheus/client_golang/prometheus"

// collector tells of the keys as they are when they are asked for.
type collector struct {
	keeper *Keeper
	count  *prometheus.Desc
	age    *prometheus.Desc
}

// Register has a registry tell of the keys.
func (k *Keeper) Register(registerer prometheus.Registerer) {
	registerer.MustRegister(&collector{
		keeper: k,
		count: prometheus.NewDesc("privyseal_sealing_keys",
			"Sealing keys, by kind (the version of what they open) and state.", []string{"kind", "state"}, nil),
		age: prometheus.NewDesc("privyseal_sealing_key_age_seconds",
			"Age of the key that new items are sealed to, by kind.", []string{"kind"}, nil),
	})
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	to <- c.count
	to <- c.age
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	c.keeper.mu.Lock()
	snapshot := c.keeper.current
	c.keeper.mu.Unlock()
	for _, kind := range []Kind{V1, V2} {
		counts := map[State]int{Sealing: 0, Opening: 0, Future: 0, Ignored: 0, Malformed: 0}
		for _, key := range snapshot.Keys {
			if key.Kind == kind {
				counts[key.State]++
			}
		}
		for state, count := range counts {
			to <- prometheus.MustNewConstMetric(c.count, prometheus.GaugeValue, float64(count), string(kind), string(state))
		}
		if key, found := snapshot.sealing(kind); found {
			age := c.keeper.config.Clock.Now().Sub(key.Since).Seconds()
			to <- prometheus.MustNewConstMetric(c.age, prometheus.GaugeValue, age, string(kind))
		}
	}
}
