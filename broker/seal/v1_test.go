package seal_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/providers"
)

func rsaOpens(keys ...*seal.RSAKey) *seal.Keys { return seal.NewKeys(keys, nil) }

func TestAnItemOfVersion1TellsWhichKeyOpenedIt(t *testing.T) {
	usual, other, large := rsaNamed(t, "usual"), rsaNamed(t, "other"), rsaNamed(t, "large")
	item := must(seal.SealV1(secret("correct horse"), password, usual.Public()))(t)
	for _, keys := range [][]*seal.RSAKey{{usual}, {other, usual}, {usual, other}, {large, other, usual}, {usual, usual}} {
		opened, err := rsaOpens(keys...).Open(item, password)
		if err != nil || reveal(opened) != "correct horse" || opened.Key != usual.Fingerprint() {
			t.Errorf("%v: got %v, %v", keys, opened, err)
		}
	}
}

func TestAKeyCanBePutFirst(t *testing.T) {
	usual, other, large := rsaNamed(t, "usual"), rsaNamed(t, "other"), rsaNamed(t, "large")
	keys := rsaOpens(other, large, usual)
	item := must(seal.SealV1(secret("x"), password, usual.Public()))(t)
	for _, fingerprint := range []string{usual.Fingerprint(), other.Fingerprint(), large.Fingerprint(), "SHA256:none", ""} {
		if opened, err := keys.First(fingerprint).Open(item, password); err != nil || opened.Key != usual.Fingerprint() {
			t.Errorf("%q first: got %v, %v", fingerprint, opened, err)
		}
	}
	// How many RSA operations it takes is only told by the time, but each makes
	// some ten allocations.
	operations := func(keys *seal.Keys) float64 {
		return testing.AllocsPerRun(3, func() { must(keys.Open(item, password))(t) })
	}
	last, first, alone := operations(keys), operations(keys.First(usual.Fingerprint())), operations(rsaOpens(usual))
	if first > alone+5 || last < first+5 {
		t.Errorf("allocations: %v with the key last, %v with it first, %v with no other", last, first, alone)
	}
}

func TestWithoutAKeyOfItsSizeVersion1SaysSo(t *testing.T) {
	item := must(seal.SealV1(secret("x"), password, rsaNamed(t, "usual").Public()))(t)
	_, err := rsaOpens(rsaNamed(t, "large"), rsaNamed(t, "small")).Open(item, password)
	if !errors.Is(err, seal.ErrNoKey) || !strings.Contains(err.Error(), "RSA key of 2048 bits, and none of the 2 here") {
		t.Errorf("got %v", err)
	}
	if _, err := rsaOpens().Open(item, password); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("with no key: got %v", err)
	}
}

func TestWithAnotherKeyOfItsSizeVersion1CannotKnow(t *testing.T) {
	item := must(seal.SealV1(secret("x"), password, rsaNamed(t, "usual").Public()))(t)
	renamed := password
	renamed.Name = "web"
	_, wrongKey := rsaOpens(rsaNamed(t, "other")).Open(item, password)
	_, wrongName := rsaOpens(rsaNamed(t, "usual")).Open(item, renamed)
	_, altered := rsaOpens(rsaNamed(t, "usual")).Open(flipped(item, len(item)-1), password)
	for _, err := range []error{wrongKey, wrongName, altered} {
		if !errors.Is(err, seal.ErrDecrypt) || err.Error() != wrongKey.Error() || !strings.Contains(err.Error(), "another key") {
			t.Errorf("got %v", err)
		}
	}
}

func TestVersion1HasNoRecipients(t *testing.T) {
	sealed := must(seal.Parse(must(seal.SealV1(secret("x"), password, rsaNamed(t, "usual").Public()))(t)))(t)
	if got := sealed.Recipients(); sealed.Version() != seal.V1 || len(got) != 0 {
		t.Errorf("got version %d, recipients %v", sealed.Version(), got)
	}
}

func TestVersion1DoesNotBindTheItemOrTheEnvironment(t *testing.T) {
	usual := rsaNamed(t, "usual")
	label := password
	item := must(seal.SealV1(secret("x"), label, usual.Public()))(t)
	label.Item, label.Environment = "renamed", ""
	if opened, err := rsaOpens(usual).Open(item, label); err != nil || reveal(opened) != "x" {
		t.Errorf("got %v, %v", opened, err)
	}
}

func TestNoByteOfAVersion1ItemCanBeChanged(t *testing.T) {
	small := rsaNamed(t, "small")
	item := must(seal.SealV1(secret("correct horse"), password, small.Public()))(t)
	for at := range item {
		if opened, err := rsaOpens(small).Open(flipped(item, at), password); err == nil {
			t.Errorf("it opens as %q with byte %d of %d changed", reveal(opened), at, len(item))
		}
	}
}

// What an old controller makes of an item of version 2 is in upstream_test.go;
// this is the other half: what begins like version 2 cannot be version 1.
func TestAnItemOfVersion1NeverBeginsLikeVersion2(t *testing.T) {
	for _, name := range []string{"small", "usual", "large"} {
		item := must(seal.SealV1(secret("x"), password, rsaNamed(t, name).Public()))(t)
		if length := binary.BigEndian.Uint16(item); int(length) != rsaPublic(t, rsaNamed(t, name)).Size() {
			t.Errorf("%s: the length is %d", name, length)
		}
	}
	// The whole of what an RSA key of 524,280 bits would make, with room to spare.
	item := slices.Concat([]byte{0xFF, 0xFF}, bytes.Repeat([]byte{0x55}, 65535+16))
	if _, err := seal.Parse(item); !errors.Is(err, seal.ErrVersion) {
		t.Errorf("got %v", err)
	}
}

func TestTheLargestItemOfVersion1(t *testing.T) {
	usual := rsaNamed(t, "usual")
	largest := make([]byte, 2<<20-2-256-16)
	item := must(seal.SealV1(providers.NewValue(largest), password, usual.Public()))(t)
	if opened, err := rsaOpens(usual).Open(item, password); err != nil || !bytes.Equal(opened.Value.Bytes(), largest) {
		t.Errorf("opening the largest item: %v", err)
	}
	if _, err := seal.SealV1(providers.NewValue(append(largest, 0)), password, usual.Public()); !errors.Is(err, seal.ErrTooLarge) {
		t.Errorf("one byte more: got %v", err)
	}
	if _, err := rsaOpens(usual).Open(append(item, 0), password); !errors.Is(err, seal.ErrTooLarge) {
		t.Errorf("an item with one byte more: got %v", err)
	}
}

func TestWhatIsOpenedIsNotPrinted(t *testing.T) {
	cluster := keyNamed(t, "cluster")
	opened := must(opens(cluster).Open(sealTo(t, "MARKER", password, cluster), password))(t)
	if reveal(opened) != "MARKER" {
		t.Fatalf("got %q", reveal(opened))
	}
	for _, shown := range printed(t, opened) {
		if strings.Contains(shown, "MARKER") || strings.Contains(shown, fmt.Sprintf("%x", "MARKER")) || strings.Contains(shown, "TUFSS0VS") {
			t.Errorf("it prints as %s", shown)
		}
	}
}
