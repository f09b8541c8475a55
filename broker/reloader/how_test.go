package reloader_test

import (
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/broker/reloader"
)

func TestAPauseIsReadOffTheDeployment(t *testing.T) {
	since := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for _, row := range []struct {
		says     string
		period   string
		pausedAt string
		period0  time.Duration
		until    time.Time
		paused   bool
		wrong    bool
	}{
		{says: "no period, no pause"},
		{says: "a period", period: "5m", period0: 5 * time.Minute},
		{says: "under way", period: "5m", pausedAt: "2026-05-01T12:00:00Z", period0: 5 * time.Minute, until: since.Add(5 * time.Minute), paused: true},
		{says: "in a zone", period: "5m", pausedAt: "2026-05-01T14:00:00+02:00", period0: 5 * time.Minute, until: since.Add(5 * time.Minute), paused: true},
		{says: "whose period was taken away is over", pausedAt: "2026-05-01T12:00:00Z", until: since, paused: true},
		{says: "whose time is garbled is over", period: "5m", pausedAt: "noon", period0: 5 * time.Minute, paused: true},
		{says: "whose period is garbled is over", period: "soon", pausedAt: "2026-05-01T12:00:00Z", paused: true, wrong: true},
		{says: "backwards is no period", period: "-5m", wrong: true},
	} {
		annotations := notes{}
		if row.period != "" {
			annotations[reloader.PausePeriod] = row.period
		}
		if row.pausedAt != "" {
			annotations[reloader.PausedAt] = row.pausedAt
		}
		period, err := reloader.PauseOf(annotations)
		if period != row.period0 || (err != nil) != row.wrong {
			t.Errorf("%s: got %s, %v", row.says, period, err)
		}
		if err != nil && !strings.Contains(err.Error(), "annotation "+reloader.PausePeriod) {
			t.Errorf("%s: the error names no annotation: %v", row.says, err)
		}
		until, paused := reloader.PausedUntil(annotations)
		if !until.Equal(row.until) || paused != row.paused {
			t.Errorf("%s: until %s, %v", row.says, until, paused)
		}
	}
}

func TestARolloutIsRestartedByItsStrategy(t *testing.T) {
	for value, want := range map[string]reloader.Strategy{
		"": reloader.ByTemplate, "rollout": reloader.ByTemplate, "restart": reloader.ByRestartAt, "both": reloader.ByTemplate,
	} {
		got, err := reloader.StrategyOf(notes{reloader.RolloutStrategy: value})
		if got != want || (err != nil) != (value == "both") {
			t.Errorf("%q: got %s, %v", value, got, err)
		}
	}
}
