package generate

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/privyseal/privyseal/providers"
)

const (
	defaultBytes = 32
	maxBytes     = 1024
)

// Bytes are random bytes, in a text.
type Bytes struct {
	// Length in bytes, 8 to 1024; 0 is 32.
	Length int
}

func (b *Bytes) length() int { return cmp.Or(b.Length, defaultBytes) }

func (b *Bytes) check(field string) error {
	if n := b.length(); n*8 < MinEntropy || n > maxBytes {
		return fmt.Errorf("%s.length %d: %w: want %d to %d bytes", field, b.Length, ErrSpec, MinEntropy/8, maxBytes)
	}
	return nil
}

func (b *Bytes) entropy() float64 { return float64(b.length() * 8) }

// encoded is random bytes as a text, without leaving them anywhere else.
func encoded(random io.Reader, length int, encode func(to, random []byte) []byte) (Made, error) {
	raw := make([]byte, length)
	defer clear(raw)
	if _, err := io.ReadFull(random, raw); err != nil {
		return Made{}, fmt.Errorf("reading random bytes: %w", err)
	}
	return Made{Secret: providers.NewValue(encode(nil, raw))}, nil
}

type hexBytes struct{ *Bytes }

func (h hexBytes) generate(from source) (Made, error) {
	return encoded(from.random, h.length(), hex.AppendEncode)
}

type base64Bytes struct{ *Bytes }

func (b base64Bytes) generate(from source) (Made, error) {
	return encoded(from.random, b.length(), base64.StdEncoding.AppendEncode)
}

// UUID is a random UUID: RFC 9562, version 4.
type UUID struct{}

func (*UUID) check(string) error { return nil }

// entropy is less by what says that it is a random one: the version and the
// variant.
func (*UUID) entropy() float64 { return 128 - 4 - 2 }

func (*UUID) generate(from source) (Made, error) {
	return encoded(from.random, 16, func(to, random []byte) []byte {
		random[6] = random[6]&0x0f | 0x40
		random[8] = random[8]&0x3f | 0x80
		for i, group := range [][]byte{random[:4], random[4:6], random[6:8], random[8:10], random[10:]} {
			if i > 0 {
				to = append(to, '-')
			}
			to = hex.AppendEncode(to, group)
		}
		return to
	})
}
