package annotation

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// maxSequences bounds how many targets one annotation may list.
const maxSequences = 1024

// FormatSequences writes target → sequence as privyseal.io/started-with and
// privyseal.io/restarted-for hold it: "db=1763800000,tls=0", sorted, so that
// the same counters are always the same bytes.
func FormatSequences(sequences map[string]int64) string {
	items := make([]string, 0, len(sequences))
	for _, target := range slices.Sorted(maps.Keys(sequences)) {
		items = append(items, target+"="+strconv.FormatInt(sequences[target], 10))
	}
	return strings.Join(items, ",")
}

// ParseSequences reads what FormatSequences writes; the empty text is no
// target. Anybody may have edited the annotation, so it is as strict as a
// parser of input: no target twice, no sign, no blank.
func ParseSequences(text string) (map[string]int64, error) {
	sequences := map[string]int64{}
	if text == "" {
		return sequences, nil
	}
	items := strings.SplitN(text, ",", maxSequences+1)
	if len(items) > maxSequences {
		return nil, fmt.Errorf("reading sequences: more than %d targets", maxSequences)
	}
	for _, item := range items {
		target, digits, _ := strings.Cut(item, "=")
		sequence, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || strconv.FormatInt(sequence, 10) != digits || sequence < 0 {
			return nil, fmt.Errorf("reading sequences: %s is not target=number", show(item))
		}
		if !isTarget(target) {
			return nil, fmt.Errorf("reading sequences: %s is no name of a Secret", show(target))
		}
		if _, twice := sequences[target]; twice {
			return nil, fmt.Errorf("reading sequences: %s is there twice", target)
		}
		sequences[target] = sequence
	}
	return sequences, nil
}

// isTarget says whether a name is a Secret's, or that of something that is not
// ours with its kind before it: "configmap/settings".
func isTarget(target string) bool {
	kind, name, foreign := strings.Cut(target, "/")
	if !foreign {
		name = target
	}
	return len(validation.IsDNS1123Subdomain(name)) == 0 && (!foreign || kind == "secret" || kind == "configmap")
}
