package seal_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/providers"
)

func TestEachRecipientOpensAnItem(t *testing.T) {
	cluster, recovery := pair(t)
	item := sealTo(t, "correct horse", password, recovery, cluster)
	for _, key := range []*seal.PrivateKey{cluster, recovery} {
		opened, err := opens(key).Open(item, password)
		if err != nil || reveal(opened) != "correct horse" || opened.Key != key.Public().ID().String() {
			t.Errorf("%s: got %q by %s, %v", key, reveal(opened), opened.Key, err)
		}
	}
}

func TestWhoHasNoKeyIsToldWhichOnesThereAre(t *testing.T) {
	cluster, recovery := pair(t)
	item := sealTo(t, "correct horse", password, cluster, recovery)
	_, err := opens(keyNamed(t, "stranger")).Open(item, password)
	if !errors.Is(err, seal.ErrNoKey) {
		t.Fatalf("got %v", err)
	}
	for _, key := range []*seal.PrivateKey{cluster, recovery} {
		if !strings.Contains(err.Error(), key.Public().ID().String()) {
			t.Errorf("%v does not name %s", err, key)
		}
	}
}

func TestTheListOfRecipientsIsReadWithoutAKey(t *testing.T) {
	cluster, recovery := pair(t)
	want := []seal.KeyID{cluster.Public().ID(), recovery.Public().ID()}
	slices.SortFunc(want, func(a, b seal.KeyID) int { return bytes.Compare(a[:], b[:]) })
	sealed := must(seal.Parse(sealTo(t, "x", password, recovery, cluster)))(t)
	if got := sealed.Recipients(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if sealed.Version() != seal.V2 {
		t.Errorf("got version %d", sealed.Version())
	}
}

func TestNoByteOfAnItemCanBeChanged(t *testing.T) {
	cluster, recovery := pair(t)
	item := sealTo(t, "correct horse", password, cluster, recovery)
	keys := opens(cluster, recovery)
	for at := range item {
		if opened, err := keys.Open(flipped(item, at), password); err == nil {
			t.Errorf("it opens as %q with byte %d of %d changed", reveal(opened), at, len(item))
		}
	}
}

func TestNoPartOfAnItemCanBeCutOff(t *testing.T) {
	cluster, recovery := pair(t)
	item := sealTo(t, "correct horse", password, cluster, recovery)
	keys := opens(cluster, recovery)
	for at := range item {
		_, err := keys.Open(item[:at], password)
		want := seal.ErrMalformed
		if at >= prefix+1+2*stanza+28 {
			want = seal.ErrDecrypt
		}
		if !errors.Is(err, want) {
			t.Errorf("cut to %d of %d bytes: got %v, want %v", at, len(item), err, want)
		}
	}
}

func TestAllThatDoesNotOpenLooksAlike(t *testing.T) {
	cluster := keyNamed(t, "cluster")
	item := sealTo(t, "correct horse", password, cluster)
	renamed := password
	renamed.Item = "user"
	forged := makeByHand(t, password, []byte("x"), cluster)
	forged.stanzas[0] = stanzaByHand(t, cluster, forged.label, make([]byte, 32))
	for name, try := range map[string]struct {
		item  []byte
		label seal.Label
	}{
		"another label":       {item, renamed},
		"a changed key":       {flipped(item, prefix+1+10), password},
		"a changed value":     {flipped(item, len(item)-20), password},
		"another content key": {forged.item(t), password},
	} {
		opened, err := opens(cluster).Open(try.item, try.label)
		if !errors.Is(err, seal.ErrDecrypt) || err.Error() != seal.ErrDecrypt.Error() || opened.Value.Bytes() != nil || opened.Key != "" {
			t.Errorf("%s: got %v, %v", name, opened, err)
		}
	}
}

func TestAnItemMadeByTheWordsOfTheFormatOpens(t *testing.T) {
	cluster, recovery := pair(t)
	hand := makeByHand(t, password, []byte("by hand"), cluster, recovery)
	for _, key := range []*seal.PrivateKey{cluster, recovery} {
		opened, err := opens(key).Open(hand.item(t), password)
		if err != nil || reveal(opened) != "by hand" {
			t.Errorf("got %q, %v", reveal(opened), err)
		}
	}
	item := sealTo(t, "by hand", password, cluster, recovery)
	if len(item) != len(hand.item(t)) || len(item) != len("by hand")+1178*2+32 {
		t.Errorf("the item has %d bytes", len(item))
	}
}

func TestTwoSealingsHaveNothingSecretInCommon(t *testing.T) {
	cluster := keyNamed(t, "cluster")
	one, two := sealTo(t, "correct horse", password, cluster), sealTo(t, "correct horse", password, cluster)
	at := prefix + 1 + 10
	if !bytes.Equal(one[:at], two[:at]) {
		t.Error("the plain part differs")
	}
	for name, part := range map[string][2]int{
		"encapsulated key": {at, at + 1120}, "wrapped key": {at + 1120, at + 1168}, "nonce": {at + 1168, at + 1180}, "body": {at + 1180, len(one)},
	} {
		if bytes.Equal(one[part[0]:part[1]], two[part[0]:part[1]]) {
			t.Errorf("the %s is the same", name)
		}
	}
}

func TestOneToSixteenRecipientsCanBeSealedTo(t *testing.T) {
	var private []*seal.PrivateKey
	var public []*seal.PublicKey
	for range 17 {
		key := must(seal.GenerateKey())(t)
		private, public = append(private, key), append(public, key.Public())
	}
	for n := 1; n <= 16; n++ {
		item := must(seal.Seal(secret("x"), password, public[:n]...))(t)
		if opened, err := opens(private[n-1]).Open(item, password); err != nil || reveal(opened) != "x" {
			t.Errorf("%d recipients: got %q, %v", n, reveal(opened), err)
		}
	}
	for name, bad := range map[string][]*seal.PublicKey{
		"sealing to 0 recipients; give 1 to 16":                    nil,
		"sealing to 17 recipients; give 1 to 16":                   public,
		"recipient " + public[0].ID().String() + " is given twice": {public[0], public[1], public[0]},
	} {
		_, err := seal.Seal(secret("x"), password, bad...)
		if !errors.Is(err, seal.ErrKey) || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want it to mention %q", err, name)
		}
	}
}

func TestSealingLeavesTheCallersListAsItIs(t *testing.T) {
	var public []*seal.PublicKey
	for range 8 {
		public = append(public, must(seal.GenerateKey())(t).Public())
	}
	before := slices.Clone(public)
	must(seal.Seal(secret("x"), password, public...))(t)
	if !slices.Equal(before, public) {
		t.Error("the list was sorted in place")
	}
}

func TestTheLargestItemIsAMebibyte(t *testing.T) {
	cluster := keyNamed(t, "cluster")
	largest := make([]byte, 1<<20-1178-32)
	item := must(seal.Seal(providers.NewValue(largest), password, cluster.Public()))(t)
	if len(item) != 1<<20 {
		t.Errorf("the item has %d bytes", len(item))
	}
	if opened, err := opens(cluster).Open(item, password); err != nil || !bytes.Equal(opened.Value.Bytes(), largest) {
		t.Errorf("opening the largest item: %v", err)
	}
	_, err := seal.Seal(providers.NewValue(append(largest, 0)), password, cluster.Public())
	if !errors.Is(err, seal.ErrTooLarge) || !strings.Contains(err.Error(), fmt.Sprintf("a value can have %d bytes", len(largest))) {
		t.Errorf("one byte more: got %v", err)
	}
	if _, err := opens(cluster).Open(append(item, 0), password); !errors.Is(err, seal.ErrTooLarge) {
		t.Errorf("an item with one byte more: got %v", err)
	}
}

func TestAFallbackDoesNotHideABadStanza(t *testing.T) {
	cluster, recovery := pair(t)
	hand := makeByHand(t, password, []byte("x"), cluster, recovery)
	first, last := keyWithID(t, hand.stanzas[0].id), keyWithID(t, hand.stanzas[1].id)
	hand.stanzas[0] = stanzaByHand(t, first, hand.label, make([]byte, 32))
	if _, err := opens(first, last).Open(hand.item(t), password); !errors.Is(err, seal.ErrDecrypt) {
		t.Errorf("with both keys: got %v", err)
	}
	// The format cannot hinder a dishonest sealer, and its page says so.
	if opened, err := opens(last).Open(hand.item(t), password); err != nil || reveal(opened) != "x" {
		t.Errorf("with the good stanza's key: got %q, %v", reveal(opened), err)
	}
}

func TestVersionIsToldByTheFirstBytes(t *testing.T) {
	for _, row := range []struct {
		item    string
		version int
		err     error
	}{
		{"", 0, seal.ErrMalformed},
		{"\xFF", 0, seal.ErrMalformed},
		{"\x02\x00", 1, nil},
		{"\xFF\xFE\x02", 1, nil},
		{"\xFE\xFF\x02", 1, nil},
		{"\xFF\xFF", 0, seal.ErrMalformed},
		{"\xFF\xFF\x02", 2, nil},
		{"\xFF\xFF\x01", 0, seal.ErrVersion},
		{"\xFF\xFF\x03" + strings.Repeat("x", 70_000), 0, seal.ErrVersion},
	} {
		version, err := seal.Version([]byte(row.item))
		if version != row.version || !errors.Is(err, row.err) {
			t.Errorf("%.8q: got %d, %v", row.item, version, err)
		}
	}
}
