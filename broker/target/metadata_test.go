package target

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/privyseal/privyseal/broker/v1alpha1"
)

func TestMetadataLeavesWhatIsOfOthers(t *testing.T) {
	type pairs = map[string]string
	before := Metadata{Labels: pairs{"gone": "1", "taken": "1", "kept": "1"}}
	for _, row := range []struct {
		name              string
		record            string
		wants             Metadata
		labels, remaining pairs
	}{
		{"what is given no longer goes", before.String(), Metadata{Labels: pairs{"kept": "2"}},
			pairs{"gone": "1", "kept": "1", "theirs": "x"}, pairs{"kept": "2", "theirs": "x"}},
		{"unless somebody wrote another value over it", before.String(), Metadata{},
			pairs{"taken": "theirs", "kept": "1"}, pairs{"taken": "theirs"}},
		{"a record that somebody broke takes nothing off", "{", Metadata{Labels: pairs{"new": "1"}},
			pairs{"gone": "1"}, pairs{"gone": "1", "new": "1"}},
		{"without a record nothing is ours", "", Metadata{},
			pairs{"theirs": "x"}, pairs{"theirs": "x"}},
	} {
		meta := metav1.ObjectMeta{Labels: row.labels, Annotations: pairs{}}
		if row.record != "" {
			meta.Annotations[v1alpha1.AnnotationMetadata] = row.record
		}
		row.wants.put(&meta)
		if diff := cmp.Diff(row.remaining, meta.Labels); diff != "" {
			t.Errorf("%s:\n%s", row.name, diff)
		}
		if got := meta.Annotations[v1alpha1.AnnotationMetadata]; got != row.wants.String() || !row.wants.on(meta) {
			t.Errorf("%s: the record is %q", row.name, got)
		}
	}
}

func TestAForgedRecordTakesNoMarkOff(t *testing.T) {
	owner := Owner{Name: "db", UID: "uid-1", Retain: true}
	var meta metav1.ObjectMeta
	owner.marks(&meta, first("k1", digests{"a": "A"}, 0))
	meta.Annotations[v1alpha1.AnnotationMetadata] = Metadata{
		Labels:      map[string]string{v1alpha1.LabelClaimUID: "uid-1"},
		Annotations: map[string]string{v1alpha1.AnnotationClaim: "db"},
	}.String()
	// As the writer does it: the marks last.
	Metadata{}.put(&meta)
	owner.marks(&meta, first("k1", digests{"a": "A"}, 0))
	if !(Desired{Owner: owner}).marked(meta) {
		t.Errorf("the marks are gone: %v %v", meta.Labels, meta.Annotations)
	}
}
