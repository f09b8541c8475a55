package installkey_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/broker/installkey"
)

func key(of byte) []byte { return bytes.Repeat([]byte{of}, 32) }

func ring(t *testing.T, keys map[string][]byte) *installkey.Keyring {
	t.Helper()
	made, err := installkey.NewKeyring(keys)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func TestAKeyIsNotTakenForAnotherOfItsName(t *testing.T) {
	lost, made := ring(t, map[string][]byte{"k1": key(1)}), ring(t, map[string][]byte{"k1": key(2)})
	if lost.Current() == made.Current() || made.Knows(lost.Current()) {
		t.Errorf("the key that was lost and the one made for it are both %s", made.Current())
	}
	if digest := made.Digest(lost.Current(), []byte("a")); digest != "" {
		t.Errorf("a digest under a lost key: %s", digest)
	}
	again := ring(t, map[string][]byte{"k1": key(1)})
	if again.Current() != lost.Current() || again.Digest(again.Current(), []byte("a")) != lost.Digest(lost.Current(), []byte("a")) {
		t.Error("the same key gives other digests")
	}
}

func TestTheHighestKeyIsInUseAndTheOthersAreKnown(t *testing.T) {
	one := ring(t, map[string][]byte{"k2": key(2)})
	both := ring(t, map[string][]byte{"k2": key(2), "k10": key(10), "k3": key(3)[:31], "k04": key(4), "note": key(5)})
	if !strings.HasPrefix(both.Current(), "k10-") || !both.Knows(one.Current()) {
		t.Errorf("in use is %s, and k2 is known: %t", both.Current(), both.Knows(one.Current()))
	}
	if _, err := installkey.NewKeyring(map[string][]byte{"k0": key(1), "key": key(1)}); !errors.Is(err, installkey.ErrNoKey) {
		t.Errorf("got %v", err)
	}
}

func TestADigestOfInputsIsNoneOfValues(t *testing.T) {
	keys := ring(t, map[string][]byte{"k1": key(1)})
	input := keys.Input(keys.Current(), []byte("a"))
	if input == "" || input == keys.Digest(keys.Current(), []byte("a")) || input != keys.Input(keys.Current(), []byte("a")) {
		t.Errorf("the digest of an input is %q", input)
	}
	if unknown := keys.Input("k1-00000000", []byte("a")); unknown != "" {
		t.Errorf("a digest under an unknown key: %s", unknown)
	}
}
