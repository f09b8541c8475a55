package seal_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	upstream "github.com/bitnami-labs/sealed-secrets/pkg/crypto"

	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/providers"
)

var makeVectors = flag.Bool("make-vectors", false, "write those of testdata/v1.json and v2.json that are not there; a file that is there is frozen")

func TestMakeVectors(t *testing.T) {
	if !*makeVectors {
		t.Skip("the vectors are frozen; -make-vectors writes a file that is missing")
	}
	for name, make := range map[string]func(*testing.T) vectors{"v1.json": vectorsV1, "v2.json": vectorsV2} {
		path := filepath.Join("testdata", name)
		if _, err := os.Stat(path); err == nil {
			t.Logf("%s is there, and frozen", path)
			continue
		}
		var text bytes.Buffer
		encoder := json.NewEncoder(&text)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(make(t)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// cases collects vectors; add returns nothing so that a list of them reads as
// one.
type cases struct {
	list  []vector
	keys  []string
	label seal.Label
}

func (c *cases) add(v vector, label seal.Label, keys ...string) {
	v.Label = vectorLabel{
		Scope: label.Scope.String(), Environment: label.Environment, Namespace: label.Namespace, Name: label.Name, Item: label.Item,
	}
	v.Keys = keys
	c.list = append(c.list, v)
}

// good opens under the label.
func (c *cases) good(name string, item, value []byte, label seal.Label, keys ...string) {
	encoded := base64.StdEncoding.EncodeToString(value)
	c.add(formed(vector{Name: name, Item: item, Value: &encoded}), label, keys...)
}

// closed is well formed and does not open, with the usual keys and label.
func (c *cases) closed(name string, item []byte) {
	c.closedTo(name, item, "decrypt", c.label, c.keys...)
}

func (c *cases) closedTo(name string, item []byte, why string, label seal.Label, keys ...string) {
	c.add(formed(vector{Name: name, Item: item, Error: why}), label, keys...)
}

// formless is no item at all.
func (c *cases) formless(name string, item []byte, why string) {
	c.add(vector{Name: name, Item: item, Error: why}, c.label, c.keys...)
}

// formed notes what the plain bytes of an item say.
func formed(v vector) vector {
	v.Version = 1
	if bytes.HasPrefix(v.Item, []byte{0xFF, 0xFF, 2}) {
		v.Version = 2
		for one := range slices.Chunk(v.Item[prefix+1:prefix+1+int(v.Item[prefix])*stanza], stanza) {
			v.Recipients = append(v.Recipients, seal.KeyID(one).String())
		}
	}
	return v
}

func vectorsV2(t *testing.T) vectors {
	file := vectors{Comment: "Sealed items of version 2. Frozen; see docs/sealed-format.md. The keys open nothing else.", Keys: map[string]string{}}
	for _, name := range []string{"cluster", "recovery", "stranger"} {
		file.Keys[name] = string(must(keyNamed(t, name).PEM())(t))
	}
	c := &cases{keys: []string{"cluster", "recovery"}, label: password}
	goodV2(t, c)
	labelsV2(t, c)
	cutV2(t, c)
	formsV2(t, c)
	alteredV2(t, c)
	file.Cases = c.list
	return file
}

func pair(t *testing.T) (cluster, recovery *seal.PrivateKey) {
	return keyNamed(t, "cluster"), keyNamed(t, "recovery")
}

func sealTo(t testing.TB, value string, label seal.Label, keys ...*seal.PrivateKey) []byte {
	t.Helper()
	var public []*seal.PublicKey
	for _, key := range keys {
		public = append(public, key.Public())
	}
	return must(seal.Seal(secret(value), label, public...))(t)
}

func goodV2(t *testing.T, c *cases) {
	cluster, recovery := pair(t)
	item := sealTo(t, "correct horse", password, cluster, recovery)
	c.good("opens with the cluster's key", item, []byte("correct horse"), password, "cluster")
	c.good("opens with the recovery key", item, []byte("correct horse"), password, "recovery")
	c.good("opens with both, and one more", item, []byte("correct horse"), password, "stranger", "recovery", "cluster")
	c.good("made by hand", makeByHand(t, password, []byte("by hand"), cluster, recovery).item(t), []byte("by hand"), password, "cluster")
	c.good("one recipient", sealTo(t, "one", password, cluster), []byte("one"), password, "cluster")
	c.good("an empty value", sealTo(t, "", password, cluster), nil, password, "cluster")
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	c.good("a value of all bytes", sealTo(t, string(all), password, cluster), all, password, "cluster")
	many := []*seal.PrivateKey{cluster}
	for len(many) < 16 {
		many = append(many, must(seal.GenerateKey())(t))
	}
	c.good("sixteen recipients", sealTo(t, "many", password, many...), []byte("many"), password, "cluster")

	none := password
	none.Environment = ""
	c.good("outside environments", sealTo(t, "none", none, cluster), []byte("none"), none, "cluster")
	namespaceWide := password
	namespaceWide.Scope = seal.NamespaceWide
	item = sealTo(t, "wide", namespaceWide, cluster)
	c.good("namespace-wide", item, []byte("wide"), namespaceWide, "cluster")
	namespaceWide.Name = "other"
	c.good("namespace-wide under another name", item, []byte("wide"), namespaceWide, "cluster")
	namespaceWide.Namespace = "orders"
	c.closedTo("namespace-wide in another namespace", item, "decrypt", namespaceWide, "cluster")
	clusterWide := seal.Label{Scope: seal.ClusterWide, Item: "password"}
	item = sealTo(t, "wider", clusterWide, cluster)
	c.good("cluster-wide", item, []byte("wider"), clusterWide, "cluster")
	clusterWide.Environment, clusterWide.Namespace, clusterWide.Name = "dev", "orders", "other"
	c.good("cluster-wide in another environment, namespace and name", item, []byte("wider"), clusterWide, "cluster")
	clusterWide.Item = "user"
	c.closedTo("cluster-wide as another item", item, "decrypt", clusterWide, "cluster")
}

func labelsV2(t *testing.T, c *cases) {
	cluster, recovery := pair(t)
	item := sealTo(t, "correct horse", password, cluster, recovery)
	for _, name := range slices.Sorted(maps.Keys(changes)) {
		label := password
		changes[name](&label)
		c.closedTo(name, item, "decrypt", label, c.keys...)
	}
	label := password
	label.Environment, label.Namespace = "pro", "dpayments"
	c.closedTo("the border between two fields moved", item, "decrypt", label, c.keys...)
	label = password
	label.Item = ""
	c.closedTo("a label without an item", item, "label", label, c.keys...)
	c.closedTo("no key of its recipients", item, "no key", password, "stranger")
	c.closedTo("no key at all", item, "no key", password)
}

// changes to the label password, each of which must be noticed.
var changes = map[string]func(*seal.Label){
	"another scope":       func(l *seal.Label) { l.Scope = seal.NamespaceWide },
	"the widest scope":    func(l *seal.Label) { l.Scope = seal.ClusterWide },
	"another environment": func(l *seal.Label) { l.Environment = "dev" },
	"no environment":      func(l *seal.Label) { l.Environment = "" },
	"another namespace":   func(l *seal.Label) { l.Namespace = "pay" },
	"another name":        func(l *seal.Label) { l.Name = "db2" },
	"another item":        func(l *seal.Label) { l.Item = "user" },
}

func cutV2(t *testing.T, c *cases) {
	cluster, recovery := pair(t)
	item := sealTo(t, "correct horse", password, cluster, recovery)
	header := prefix + 1
	body := header + 2*stanza
	for _, cut := range []struct {
		name string
		at   int
	}{
		{"nothing", 0},
		{"cut inside the prefix", 1},
		{"cut before the version", 2},
		{"cut before the number of recipients", prefix},
		{"cut before the first stanza", header},
		{"cut inside a key id", header + 3},
		{"cut before a length", header + 8},
		{"cut inside a length", header + 9},
		{"cut before a wrapped key", header + 10},
		{"cut inside an encapsulated key", header + 500},
		{"cut inside a wrapped key", header + 10 + 1120 + 7},
		{"cut between two stanzas", header + stanza},
		{"cut inside the last stanza", body - 1},
		{"cut before the body", body},
		{"cut inside the nonce", body + 5},
		{"cut after the nonce", body + 12},
		{"cut one byte before the shortest body", body + 27},
	} {
		c.formless(cut.name, item[:cut.at], "malformed")
	}
	c.closed("cut after the shortest body", item[:body+28])
	c.closed("cut before the last byte", item[:len(item)-1])
	c.closed("one byte too many", append(slices.Clone(item), 0))
	c.closed("another item behind it", slices.Concat(item, item))
}

func formsV2(t *testing.T, c *cases) {
	cluster, recovery := pair(t)
	item := sealTo(t, "correct horse", password, cluster, recovery)
	for _, version := range []byte{0, 1, 3, 0xFF} {
		other := slices.Clone(item)
		other[2] = version
		c.formless(fmt.Sprintf("version %d", version), other, "version")
	}
	c.formless("a version without anything", []byte{0xFF, 0xFF, 3}, "version")

	long := vector{Name: "one byte longer than an item may be", Item: item, Zeros: seal.MaxItem + 1 - len(item), Error: "too large"}
	c.add(long, password, c.keys...)
	long = vector{Name: "as long as an item may be, and altered", Item: item, Zeros: seal.MaxItem - len(item), Error: "decrypt"}
	c.add(formed(long), password, c.keys...)

	for n, name := range map[byte]string{0: "no recipients", 17: "a number of 17 and two stanzas", 3: "a number of 3 and two stanzas", 255: "a number of 255"} {
		other := slices.Clone(item)
		other[prefix] = n
		c.formless(name, other, "malformed")
	}
	none := makeByHand(t, password, []byte("x"))
	c.formless("no recipients, and a body that fits", none.item(t), "malformed")
	many := []*seal.PrivateKey{cluster}
	for len(many) < 17 {
		many = append(many, must(seal.GenerateKey())(t))
	}
	c.formless("seventeen recipients", makeByHand(t, password, []byte("x"), many...).item(t), "malformed")
	few := slices.Clone(item)
	few[prefix] = 1
	c.closed("a number of 1 and two stanzas", few)

	hand := makeByHand(t, password, []byte("x"), cluster, recovery)
	hand.stanzas[0], hand.stanzas[1] = hand.stanzas[1], hand.stanzas[0]
	c.formless("stanzas that are not sorted", hand.item(t), "malformed")
	hand.stanzas[0] = hand.stanzas[1]
	c.formless("a stanza twice", hand.item(t), "malformed")
	hand.stanzas[0] = stanzaByHand(t, keyWithID(t, hand.stanzas[1].id), hand.label, hand.contentKey)
	c.formless("two stanzas for one key", hand.item(t), "malformed")
	for name, length := range map[string]uint16{"a length of one less": wrapped - 1, "a length of one more": wrapped + 1, "a length of 0": 0} {
		hand = makeByHand(t, password, []byte("x"), cluster, recovery)
		hand.stanzas[0].length = binary.BigEndian.AppendUint16(nil, length)
		c.formless(name, hand.item(t), "malformed")
	}
	hand = makeByHand(t, password, []byte("x"), cluster)
	hand.stanzas[0].length = binary.BigEndian.AppendUint16(nil, wrapped+1)
	hand.stanzas[0].wrapped = append(hand.stanzas[0].wrapped, 0)
	c.formless("a length of one more, and the byte", hand.item(t), "malformed")
}

func keyWithID(t *testing.T, id []byte) *seal.PrivateKey {
	t.Helper()
	for _, name := range []string{"cluster", "recovery"} {
		if key := keyNamed(t, name); bytes.Equal(idOf(key), id) {
			return key
		}
	}
	t.Fatal("no key has that id")
	return nil
}

func alteredV2(t *testing.T, c *cases) {
	cluster, recovery := pair(t)
	item := sealTo(t, "correct horse", password, cluster, recovery)
	again := sealTo(t, "correct horse", password, cluster, recovery)
	header, body := prefix+1, prefix+1+2*stanza
	c.closed("a bit of the first encapsulated key", flipped(item, header+10))
	c.closed("a bit of the first wrapped key", flipped(item, header+10+1120))
	c.closed("a bit of the last wrapped key", flipped(item, body-1))
	c.closed("a bit of the nonce", flipped(item, body))
	c.closed("a bit of the value", flipped(item, body+12))
	c.closed("a bit of the tag", flipped(item, len(item)-1))
	c.closed("the body of another item of this label", slices.Concat(item[:body], again[body:]))
	c.closed("a stanza of another item of this label", slices.Concat(item[:header], again[header:header+stanza], item[header+stanza:]))

	strip := func(name string, keep int) {
		hand := makeByHand(t, password, []byte("x"), cluster, recovery)
		whole := hand.item(t)
		hand.stanzas = hand.stanzas[keep : keep+1]
		c.closed(name, slices.Concat(whole[:prefix], hand.header(), whole[body:]))
	}
	strip("the last recipient taken off", 0)
	strip("the first recipient taken off", 1)
	one := makeByHand(t, password, []byte("x"), cluster)
	whole := one.item(t)
	two := makeByHand(t, password, []byte("x"), cluster, recovery)
	for i, s := range two.stanzas {
		if bytes.Equal(s.id, idOf(cluster)) {
			two.stanzas[i] = one.stanzas[0]
		}
	}
	c.closed("a recipient put on", slices.Concat(whole[:prefix], two.header(), whole[prefix+1+stanza:]))

	// The sealer's own work, so header and body fit each other.
	for i, name := range []string{"a first stanza with another content key", "a last stanza with another content key"} {
		hand := makeByHand(t, password, []byte("x"), cluster, recovery)
		key := keyWithID(t, hand.stanzas[i].id)
		keyName := map[*seal.PrivateKey]string{cluster: "cluster", recovery: "recovery"}[key]
		hand.stanzas[i] = stanzaByHand(t, key, hand.label, make([]byte, 32))
		c.closedTo(name, hand.item(t), "decrypt", password, keyName)
	}
	hand := makeByHand(t, password, []byte("x"), cluster, recovery)
	first := keyWithID(t, hand.stanzas[0].id)
	hand.stanzas[0] = stanzaByHand(t, first, hand.label, make([]byte, 32))
	c.closed("a bad first stanza and a good last one, with both keys", hand.item(t))
	hand = makeByHand(t, password, []byte("x"), cluster)
	hand.label = labelByHand(seal.Label{Scope: seal.Strict, Environment: "prod", Namespace: "payments", Name: "db", Item: "user"})
	c.closed("a body under another item's label", hand.item(t))
	short := stanzaByHand(t, cluster, hand.label, make([]byte, 31))
	hand = makeByHand(t, password, []byte("x"), cluster)
	hand.stanzas[0] = short
	c.formless("a content key of 31 bytes", hand.item(t), "malformed")
}

func vectorsV1(t *testing.T) vectors {
	file := vectors{Comment: "Sealed items of version 1, that of Sealed Secrets. Frozen; see docs/sealed-format.md. The keys open nothing else.", Keys: map[string]string{}}
	keys := map[string]*seal.RSAKey{}
	for name, bits := range map[string]int{"small": 1024, "usual": 2048, "other": 2048, "large": 4096} {
		keys[name] = must(seal.GenerateRSAKey(seal.RSAConfig{Bits: bits, Now: time.Unix(1_700_000_000, 0)}))(t)
		key, _ := keys[name].PEM()
		file.Keys[name] = string(key)
	}
	c := &cases{keys: []string{"usual", "large"}, label: seal.Label{Namespace: "payments", Name: "db", Item: "password"}}
	goodV1(t, c, keys)
	badV1(t, c, keys)
	file.Cases = c.list
	return file
}

func goodV1(t *testing.T, c *cases, keys map[string]*seal.RSAKey) {
	for _, name := range []string{"small", "usual", "large"} {
		item := must(seal.SealV1(secret(name), c.label, keys[name].Public()))(t)
		c.good("opens with the "+name+" key", item, []byte(name), c.label, name)
		c.good("opens with the "+name+" key among others", item, []byte(name), c.label, "other", "small", "large", "usual")
		theirs := must(upstream.HybridEncrypt(rand.Reader, rsaPublic(t, keys[name]), []byte(name), []byte("payments/db")))(t)
		c.good("made by upstream for the "+name+" key", theirs, []byte(name), c.label, name)
	}
	usual := keys["usual"].Public()
	c.good("an empty value", must(seal.SealV1(providers.Value{}, c.label, usual))(t), nil, c.label, "usual")
	blob := []byte(`{"kind":"Secret","apiVersion":"v1","metadata":{"name":"db","namespace":"payments"},"data":{"password":"aHVudGVyMg=="}}`)
	c.good("a whole Secret, as the deprecated field data has it", must(seal.SealV1(secret(string(blob)), c.label, usual))(t), blob, c.label, "usual")

	label := c.label
	label.Item = "user"
	item := must(seal.SealV1(secret("free"), c.label, usual))(t)
	c.good("as another item, which version 1 does not bind", item, []byte("free"), label, "usual")
	label.Environment = "prod"
	c.good("in an environment, which version 1 does not bind", item, []byte("free"), label, "usual")
	label = seal.Label{Scope: seal.NamespaceWide, Namespace: "payments", Name: "db"}
	item = must(seal.SealV1(secret("wide"), label, usual))(t)
	label.Name = "other"
	c.good("namespace-wide under another name", item, []byte("wide"), label, "usual")
	c.closedTo("namespace-wide taken for strict", item, "decrypt", c.label, "usual")
	label = seal.Label{Scope: seal.ClusterWide}
	item = must(seal.SealV1(secret("wider"), label, usual))(t)
	label.Namespace, label.Name = "orders", "other"
	c.good("cluster-wide in another namespace", item, []byte("wider"), label, "usual")
	c.closedTo("cluster-wide taken for strict", item, "decrypt", c.label, "usual")

	c.good("a session key of 16 bytes, which upstream opens", v1ByHand(t, keys["usual"], make([]byte, 16), "short"), []byte("short"), c.label, "usual")
	c.good("a zero left out at the front, which upstream opens", zeroLeftOut(t, keys["usual"]), []byte("zero"), c.label, "usual")
}

func badV1(t *testing.T, c *cases, keys map[string]*seal.RSAKey) {
	item := must(seal.SealV1(secret("correct horse"), c.label, keys["usual"].Public()))(t)
	for _, cut := range []struct {
		name string
		at   int
	}{
		{"nothing", 0}, {"cut inside the length", 1}, {"cut before the wrapped key", 2}, {"cut inside the wrapped key", 200},
		{"cut before the body", 258}, {"cut one byte before the shortest body", 258 + 15},
	} {
		c.formless(cut.name, item[:cut.at], "malformed")
	}
	c.closed("cut after the shortest body", item[:258+16])
	c.closed("cut before the last byte", item[:len(item)-1])
	c.closed("one byte too many", append(slices.Clone(item), 0))
	for name, length := range map[string]uint16{"a length of 0": 0, "a length that no key has": 2049, "a length one below the marker": 0xFFFE} {
		long := vector{Name: name, Item: binary.BigEndian.AppendUint16(nil, length), Zeros: 70_000, Error: "malformed"}
		c.add(long, c.label, c.keys...)
	}
	c.add(vector{Name: "a length of 65,535 and as many bytes", Item: []byte{0xFF, 0xFF}, Zeros: 70_000, Error: "version"}, c.label, c.keys...)
	c.add(vector{Name: "longer than an item may be", Item: item, Zeros: 2<<20 + 1 - len(item), Error: "too large"}, c.label, c.keys...)
	c.closedTo("a length of one less", slices.Concat([]byte{0, 255}, item[2:]), "no key", c.label, c.keys...)
	c.closedTo("a length of one more", slices.Concat([]byte{1, 1}, item[2:]), "no key", c.label, c.keys...)
	c.closed("a bit of the wrapped key", flipped(item, 2))
	c.closed("a bit of the value", flipped(item, 258))
	c.closed("a bit of the tag", flipped(item, len(item)-1))
	c.closed("a session key of 15 bytes", v1ByHand(t, keys["usual"], make([]byte, 15), "x"))

	for name, label := range map[string]seal.Label{
		"another name":      {Namespace: "payments", Name: "db2"},
		"another namespace": {Namespace: "orders", Name: "db"},
		"another scope":     {Scope: seal.NamespaceWide, Namespace: "payments", Name: "db"},
		"the widest scope":  {Scope: seal.ClusterWide, Namespace: "payments", Name: "db"},
		"the border moved":  {Namespace: "pay", Name: "ments/db"},
	} {
		c.closedTo(name, item, "decrypt", label, c.keys...)
	}
	c.closedTo("a namespace with a slash", item, "label", seal.Label{Scope: seal.NamespaceWide, Namespace: "payments/db"}, c.keys...)
	c.closedTo("a label without a name", item, "label", seal.Label{Namespace: "payments"}, c.keys...)
	c.closedTo("a label without a namespace", item, "label", seal.Label{Name: "db"}, c.keys...)
	c.closedTo("another key of the same size", item, "decrypt", c.label, "other")
	c.closedTo("only a smaller key", item, "no key", c.label, "small")
	c.closedTo("only a larger key", item, "no key", c.label, "large")
	c.closedTo("no key at all", item, "no key", c.label)
}

// v1ByHand is an item of version 1 for payments/db with a session key of any
// length; of a wrong one the body is noise.
func v1ByHand(t testing.TB, key *seal.RSAKey, sessionKey []byte, value string) []byte {
	t.Helper()
	wrapped := must(rsa.EncryptOAEP(sha256.New(), rand.Reader, rsaPublic(t, key), sessionKey, []byte("payments/db")))(t)
	return slices.Concat(binary.BigEndian.AppendUint16(nil, uint16(len(wrapped))), wrapped, v1Body(t, sessionKey, value))
}

// zeroLeftOut seals until a wrapped key begins with zero, and leaves that out.
func zeroLeftOut(t testing.TB, key *seal.RSAKey) []byte {
	t.Helper()
	for {
		item := v1ByHand(t, key, make([]byte, 32), "zero")
		if item[2] == 0 {
			return slices.Concat(binary.BigEndian.AppendUint16(nil, binary.BigEndian.Uint16(item)-1), item[3:])
		}
	}
}
