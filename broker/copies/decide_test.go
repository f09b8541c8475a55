package copies

import (
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// present is a copy as this installation makes it, of claim and Secret db.
func present(environmentUID string, own seal.KeyID, change ...func(*copied)) copied {
	made := copied{SealedBy: own.String(), Recipients: []seal.KeyID{own}, head: head{
		Environment: "prod", EnvironmentUID: environmentUID, Claim: "db", ClaimUID: "1",
		Secret: types.NamespacedName{Namespace: "pay", Name: "db"}, OnClaimDeleted: v1alpha1.DeleteTarget}}
	for _, change := range change {
		change(&made)
	}
	return made
}

func TestWhatIsRemovedAndWhatIsNot(t *testing.T) {
	key, err := seal.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	own := key.Public().ID()
	retain := func(c *copied) { c.OnClaimDeleted = v1alpha1.RetainTarget }
	name := types.NamespacedName{Namespace: "pay", Name: "db"}
	moved := wanted{head: present("e1", own).head, path: "new.yaml", ready: true}
	unready := moved
	unready.ready = false
	for _, row := range []struct {
		name    string
		copy    copied
		claim   map[types.NamespacedName]others
		wanted  []wanted
		lies    map[string]lying
		removed bool
	}{
		{name: "the claim is gone, and says Delete", copy: present("e1", own), removed: true},
		{name: "the claim is gone, and says Retain", copy: present("e1", own, retain)},
		{name: "made for the Environment of a cluster that is no more", copy: present("e0", own)},
		{name: "of another environment", copy: present("e1", own, func(c *copied) { c.Environment = "dev" })},
		{name: "the claim's values are lent", copy: present("e1", own, retain), claim: map[types.NamespacedName]others{name: leased}, removed: true},
		{name: "the claim is there, and wants none", copy: present("e1", own, retain), claim: map[types.NamespacedName]others{name: unwanted}, removed: true},
		{name: "the claim's namespace left", copy: present("e1", own), claim: map[types.NamespacedName]others{name: elsewhere}},
		{name: "the copy moves", copy: present("e1", own), wanted: []wanted{moved}, removed: true},
		{name: "the copy is to move, and its target is not there", copy: present("e1", own), wanted: []wanted{unready}},
		{name: "the copy is to move to where something else lies", copy: present("e1", own), wanted: []wanted{moved},
			lies: map[string]lying{"new.yaml": {there: true, err: errForeign}}},
	} {
		made := decide(facts{
			environment: &v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: "prod", UID: "e1"}, Spec: v1alpha1.EnvironmentSpec{Sealing: &v1alpha1.Sealing{}}},
			keys:        keys{own: key.Public(), known: []seal.KeyID{own}},
			wanted:      row.wanted, lies: row.lies, copies: map[string]copied{"old.yaml": row.copy}, others: row.claim,
		})
		if slices.Contains(made.remove, "old.yaml") != row.removed {
			t.Errorf("%s: removes %v", row.name, made.remove)
		}
	}
}

func TestACopyIsCurrentForTheRecipientsAndAnyKeyOfOurs(t *testing.T) {
	var made []*seal.PublicKey
	for range 4 {
		key, err := seal.GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, key.Public())
	}
	now, before, recovery, stranger := made[0], made[1], made[2], made[3]
	keys := keys{own: now, known: []seal.KeyID{now.ID(), before.ID()}, recipients: []*seal.PublicKey{recovery}}
	for name, row := range map[string]struct {
		sealed  []*seal.PublicKey
		current bool
	}{
		"to our newest key":         {[]*seal.PublicKey{now, recovery}, true},
		"to an older key of ours":   {[]*seal.PublicKey{before, recovery}, true},
		"without a recipient":       {[]*seal.PublicKey{now}, false},
		"with one that was removed": {[]*seal.PublicKey{now, recovery, stranger}, false},
		"to none of ours":           {[]*seal.PublicKey{recovery}, false},
		"to others alone":           {[]*seal.PublicKey{stranger}, false},
	} {
		var found copied
		for _, key := range row.sealed {
			found.Recipients = append(found.Recipients, key.ID())
		}
		if keys.current(found) != row.current {
			t.Errorf("%s: current is %v", name, !row.current)
		}
	}
	if keys.current(copied{}) {
		t.Error("items that differ in their recipients are current")
	}
}

func FuzzReadingACopyNeverPanics(f *testing.F) {
	f.Add([]byte("kind: SealedSecret\nmetadata: {annotations: {privyseal.io/standby: \"true\"}}\nspec: {encryptedData: {a: \"//8C\"}}\n"))
	f.Add([]byte("{"))
	f.Fuzz(func(_ *testing.T, content []byte) { _, _ = read(content) })
}
