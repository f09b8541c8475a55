package main

import (
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/privyseal/privyseal/broker/manifest"
	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/broker/sealingkey"
)

// privateKeys are those of some files: PEM, of both versions, or key Secrets as
// kubectl writes them, one or a List.
type privateKeys struct {
	rsa    []*seal.RSAKey
	hybrid []*seal.PrivateKey
}

func readPrivateKeys(names []string) (*seal.Keys, error) {
	var keys privateKeys
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("reading --private-key: %w", err)
		}
		if strings.Contains(string(text), "-----BEGIN ") {
			err = keys.addPEM(text)
		} else {
			err = keys.addSecrets(text)
		}
		clear(text)
		if err != nil {
			return nil, fmt.Errorf("reading --private-key %s: %w", name, err)
		}
	}
	return seal.NewKeys(keys.rsa, keys.hybrid), nil
}

func (k *privateKeys) addPEM(text []byte) error {
	found := false
	if strings.Contains(string(text), seal.PrivateKeyType) {
		keys, err := seal.ParsePrivateKeys(text)
		if err != nil {
			return err
		}
		k.hybrid, found = append(k.hybrid, keys...), true
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "RSA PRIVATE KEY" && block.Type != "PRIVATE KEY" {
			continue
		}
		one := pem.EncodeToMemory(block)
		key, err := seal.ParseRSAKey(one, nil)
		clear(one)
		clear(block.Bytes)
		if err != nil {
			return err
		}
		k.rsa, found = append(k.rsa, key), true
	}
	if !found {
		return errors.New("no private key in it")
	}
	return nil
}

func (k *privateKeys) addSecrets(text []byte) error {
	file, err := manifest.Parse(text)
	if err != nil {
		return err
	}
	found := false
	for _, object := range file.Objects {
		secret, err := object.Secret()
		if err != nil {
			return err
		}
		for _, field := range []string{"tls.key", sealingkey.PrivateV2} {
			if held := secret.Data[field]; len(held) > 0 {
				if err := k.addPEM(held); err != nil {
					return fmt.Errorf("%s, data %s: %w", object, field, err)
				}
				clear(held)
				found = true
			}
		}
	}
	if !found {
		return errors.New("neither PEM nor a key Secret; take tls.key or " + sealingkey.PrivateV2 + " of a backup")
	}
	return nil
}
