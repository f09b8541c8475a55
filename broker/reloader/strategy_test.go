package reloader_test

import (
	"strings"
	"testing"

	"github.com/privyseal/privyseal/broker/reloader"
)

func TestAStrategyThatIsNoneIsToldOf(t *testing.T) {
	for says, wrong := range map[string]bool{"rollout": false, "restart": false, "Rollout": true, "": true} {
		err := reloader.CheckStrategy(map[string]string{reloader.Strategy: says})
		if (err != nil) != wrong {
			t.Errorf("%q: %v", says, err)
		}
		if wrong && !strings.Contains(err.Error(), "annotation "+reloader.Strategy) {
			t.Errorf("%q: the error names no annotation: %v", says, err)
		}
	}
	if err := reloader.CheckStrategy(map[string]string{reloader.Auto: "true"}); err != nil {
		t.Error("without the annotation:", err)
	}
}
