package broker

import (
	"slices"
	"testing"

	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/broker/sealingkey"
)

// A copy that is sealed to a key of ours which is not known as one would be taken
// for another installation's, and made anew at each look.
func TestCopiesKnowEveryKeyOfVersion2ThatOpens(t *testing.T) {
	var now sealingkey.Snapshot
	var want []seal.KeyID
	for _, row := range []struct {
		kind  sealingkey.Kind
		state sealingkey.State
		known bool
	}{
		{sealingkey.V2, sealingkey.Future, true},
		{sealingkey.V2, sealingkey.Sealing, true},
		{sealingkey.V2, sealingkey.Opening, true},
		{sealingkey.V2, sealingkey.Ignored, false},
		{sealingkey.V2, sealingkey.Malformed, false},
		{sealingkey.V1, sealingkey.Sealing, false},
	} {
		key, err := seal.GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		id := key.Public().ID()
		now.Keys = append(now.Keys, sealingkey.Key{Kind: row.kind, State: row.state, ID: id.String()})
		if row.known {
			want = append(want, id)
		}
		now.Hybrid = key
	}
	got, err := copyKeysOf(now)
	if err != nil || !slices.Equal(got.Known, want) {
		t.Errorf("known are %v, want %v (%v)", got.Known, want, err)
	}
}
