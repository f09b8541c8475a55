package seal

import (
	"bytes"
	"encoding/pem"
	"fmt"
)

// maxKeyText is room for a hundred public keys, and for any chain of
// certificates.
const maxKeyText = 1 << 18

// eachBlock calls do with each block of a PEM text. Package pem passes over a
// block that is cut off or altered without a word; here that is an error, or a
// key could go missing in copying and nobody would notice before it is needed.
func eachBlock(text []byte, do func(*pem.Block) error) error {
	if len(text) > maxKeyText {
		return fmt.Errorf("%w: the text is longer than %d bytes", ErrKey, maxKeyText)
	}
	begin := []byte("-----BEGIN ")
	for {
		block, rest := pem.Decode(text)
		whole := 0
		if block != nil {
			whole = 1
		}
		if bytes.Count(text[:len(text)-len(rest)], begin) != whole || block == nil && bytes.Contains(rest, begin) {
			if block != nil {
				clear(block.Bytes)
			}
			return fmt.Errorf("%w: a PEM block is cut off or altered; copy it whole, from its BEGIN line to its END line", ErrKey)
		}
		if block == nil {
			return nil
		}
		if err := do(block); err != nil {
			return err
		}
		text = rest
	}
}
