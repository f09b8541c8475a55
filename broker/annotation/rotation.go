package annotation

import "strings"

// RotateNow on a SecretRotation has a run begin at once, whatever its schedule and
// the windows of its environment say. Its value is a word, at most 64 bytes; a word
// is good for one run.
const RotateNow = Prefix + "rotate-now"

// RotationOrder on a SecretRotation that halted says how it goes on: Retry,
// RollBack or Accept. An order is obeyed once; to give the same again, put another
// word behind it: "Retry 2".
const RotationOrder = Prefix + "rotation-order"

// maxWord is what the status of a SecretRotation takes.
const maxWord = 64

// Word that an annotation gives, cut to 64 bytes; "" is none.
func Word(annotations map[string]string, name string) string {
	word := strings.TrimSpace(annotations[name])
	return strings.ToValidUTF8(word[:min(len(word), maxWord)], "")
}
