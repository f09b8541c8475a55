package seal_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/broker/seal"
)

func TestScopeIsReadFromTheAnnotationsAsUpstreamReadsThem(t *testing.T) {
	for _, row := range []struct {
		clusterWide, namespaceWide string
		want                       seal.Scope
	}{
		{"", "", seal.Strict},
		{"", "true", seal.NamespaceWide},
		{"true", "", seal.ClusterWide},
		{"true", "true", seal.ClusterWide},
		{"false", "true", seal.NamespaceWide},
		{"True", "yes", seal.Strict},
		{"1", "TRUE", seal.Strict},
		{"true ", " true", seal.Strict},
	} {
		if got := seal.ScopeOf(row.clusterWide, row.namespaceWide); got != row.want {
			t.Errorf("cluster-wide %q, namespace-wide %q: got %s, want %s", row.clusterWide, row.namespaceWide, got, row.want)
		}
	}
}

func TestScopeIsWrittenAsKubesealWritesIt(t *testing.T) {
	for text, want := range map[string]seal.Scope{
		"": seal.Strict, "strict": seal.Strict, "namespace-wide": seal.NamespaceWide, "cluster-wide": seal.ClusterWide,
	} {
		if got, err := seal.ParseScope(text); err != nil || got != want {
			t.Errorf("%q: got %s, %v", text, got, err)
		}
		if text != "" && want.String() != text {
			t.Errorf("%s is written as %q", text, want.String())
		}
	}
	for _, text := range []string{"Strict", "namespace", "cluster-wide ", "scope 7", strings.Repeat("x", 1000)} {
		_, err := seal.ParseScope(text)
		if !errors.Is(err, seal.ErrLabel) || !strings.Contains(err.Error(), "write strict, namespace-wide or cluster-wide") || len(err.Error()) > 200 {
			t.Errorf("%q: got %v", text, err)
		}
	}
}

func TestALabelThatLacksWhatItsScopeNeedsIsRefusedBothWays(t *testing.T) {
	cluster, usual := keyNamed(t, "cluster"), rsaNamed(t, "usual")
	keys := seal.NewKeys([]*seal.RSAKey{usual}, []*seal.PrivateKey{cluster})
	v1 := must(seal.SealV1(secret("x"), password, usual.Public()))(t)
	v2 := sealTo(t, "x", password, cluster)
	long := strings.Repeat("n", 254)
	for _, row := range []struct {
		name    string
		label   seal.Label
		mention string
		v2Only  bool
	}{
		{"a strict one without a namespace", seal.Label{Name: "db", Item: "k"}, "needs a namespace", false},
		{"a strict one without a name", seal.Label{Namespace: "pay", Item: "k"}, "needs the name of the Secret", false},
		{"a namespace-wide one without a namespace", seal.Label{Scope: seal.NamespaceWide, Name: "db", Item: "k"}, "needs a namespace", false},
		{"a namespace with a slash", seal.Label{Namespace: "a/b", Name: "c", Item: "k"}, "slash", false},
		{"a scope that does not exist", seal.Label{Scope: 3, Namespace: "pay", Name: "db", Item: "k"}, "no scope 3", false},
		{"a scope below the first", seal.Label{Scope: -1, Namespace: "pay", Name: "db", Item: "k"}, "no scope -1", false},
		{"one without an item", seal.Label{Namespace: "pay", Name: "db"}, "no key of the Secret", true},
		{"a cluster-wide one without an item", seal.Label{Scope: seal.ClusterWide}, "no key of the Secret", true},
		{"a name that is too long", seal.Label{Namespace: "pay", Name: long, Item: "k"}, "longer than 253 bytes", true},
		{"an item that is too long", seal.Label{Namespace: "pay", Name: "db", Item: long}, "longer than 253 bytes", true},
	} {
		check := func(doing string, err error) {
			t.Helper()
			if !errors.Is(err, seal.ErrLabel) || !strings.Contains(err.Error(), row.mention) {
				t.Errorf("%s %s: got %v, want it to mention %q", doing, row.name, err, row.mention)
			}
		}
		_, err := seal.Seal(secret("x"), row.label, cluster.Public())
		check("sealing with", err)
		_, err = keys.Open(v2, row.label)
		check("opening with", err)
		if row.v2Only {
			continue
		}
		_, err = seal.SealV1(secret("x"), row.label, usual.Public())
		check("sealing version 1 with", err)
		_, err = keys.Open(v1, row.label)
		check("opening version 1 with", err)
	}
}

func TestTheLongestNamesThatThereAreCanBeSealed(t *testing.T) {
	cluster := keyNamed(t, "cluster")
	long := strings.Repeat("n", 253)
	label := seal.Label{Environment: long, Namespace: long, Name: long, Item: long}
	if opened, err := opens(cluster).Open(sealTo(t, "x", label, cluster), label); err != nil || reveal(opened) != "x" {
		t.Errorf("got %q, %v", reveal(opened), err)
	}
}

func TestAnItemOpensUnderItsOwnLabelAlone(t *testing.T) {
	cluster := keyNamed(t, "cluster")
	other := seal.Label{Environment: "dev", Namespace: "orders", Name: "web", Item: "user"}
	fields := map[string]func(*seal.Label){
		"environment": func(l *seal.Label) { l.Environment = other.Environment },
		"namespace":   func(l *seal.Label) { l.Namespace = other.Namespace },
		"name":        func(l *seal.Label) { l.Name = other.Name },
		"item":        func(l *seal.Label) { l.Item = other.Item },
	}
	free := map[seal.Scope]string{seal.Strict: "", seal.NamespaceWide: "name", seal.ClusterWide: "environment namespace name"}
	for scope, unbound := range free {
		label := password
		label.Scope = scope
		item := sealTo(t, "x", label, cluster)
		for field, change := range fields {
			changed := label
			change(&changed)
			_, err := opens(cluster).Open(item, changed)
			if strings.Contains(" "+unbound+" ", " "+field+" ") {
				if err != nil {
					t.Errorf("%s with another %s: %v", scope, field, err)
				}
			} else if !errors.Is(err, seal.ErrDecrypt) {
				t.Errorf("%s with another %s: got %v", scope, field, err)
			}
		}
		for _, claimed := range []seal.Scope{seal.Strict, seal.NamespaceWide, seal.ClusterWide} {
			changed := label
			changed.Scope = claimed
			if _, err := opens(cluster).Open(item, changed); (err == nil) != (claimed == scope) {
				t.Errorf("%s read as %s: got %v", scope, claimed, err)
			}
		}
	}
}
