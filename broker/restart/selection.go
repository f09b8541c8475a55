package restart

import (
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"github.com/privyseal/privyseal/broker/foreign"
	"github.com/privyseal/privyseal/broker/reloader"
)

// maxSelected is how many objects of others a workload is restarted for. Each
// that changes is in the template's restarted-for from then on.
const maxSelected = 256

// selection is what a workload's annotations of Reloader's select.
type selection struct {
	rules reloader.Rules
	// reads is what the template refers to, which is what Reloader goes by.
	reads Reads
	// problem is what cannot be used of the annotations; nil: all can.
	problem error
}

func selectionOf(s shape, options reloader.Options) selection {
	rules, err := reloader.Parse(s.GetAnnotations(), s.template.Annotations, options)
	return selection{rules: rules, reads: ReadsOf(&s.template.Spec), problem: err}
}

// judge says whether a change of an object restarts the workload.
func (s selection) judge(of foreign.Object, annotations map[string]string) reloader.Verdict {
	_, referenced := s.reads[readName(of.Kind, of.Name)]
	return s.rules.Judge(reloader.Resource{Kind: of.Kind, Name: of.Name, Annotations: annotations, Referenced: referenced})
}

// readName is what Reads has an object under.
func readName(kind reloader.Kind, name string) string {
	if kind == reloader.Secret {
		return name
	}
	return foreign.Target(kind, name)
}

// selections remember what the annotations of each workload select, since every
// change in a namespace asks all its workloads. Nothing is lost with them.
type selections struct {
	options reloader.Options

	mu    sync.Mutex
	known map[Workload]versioned
	told  map[Workload]string
}

type versioned struct {
	selection
	uid     types.UID
	version string
}

func newSelections(options reloader.Options) *selections {
	return &selections{options: options, known: map[Workload]versioned{}, told: map[Workload]string{}}
}

func (s *selections) of(w Workload, is shape) selection {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, met := s.known[w]
	if !met || known.uid != is.GetUID() || known.version != is.GetResourceVersion() {
		known = versioned{selectionOf(is, s.options), is.GetUID(), is.GetResourceVersion()}
		s.known[w] = known
	}
	return known.selection
}

// forget a workload that is gone.
func (s *selections) forget(w Workload) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, w)
	delete(s.told, w)
}

// news is a problem of a workload that was not told of; "" for none.
func (s *selections) news(w Workload, problem error) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := ""
	if problem != nil {
		text = problem.Error()
	}
	if s.told[w] == text {
		return ""
	}
	s.told[w] = text
	return text
}

// errSelected: the annotations select more than is watched.
func errSelected(count int) error {
	return fmt.Errorf("%d Secrets and ConfigMaps are selected, and only the first %d are watched; name fewer in annotation %s or %s, or exclude some with %s or %s",
		count, maxSelected, reloader.Secret.Reload(), reloader.ConfigMap.Reload(), reloader.Secret.Exclude(), reloader.ConfigMap.Exclude())
}
