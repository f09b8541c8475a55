package copies_test

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/seal"
)

// journal keeps what is told, each time that it is, and tells the API server,
// which makes one event of many that are alike.
type journal struct {
	events.EventRecorder
	mu   sync.Mutex
	told []string
}

func (j *journal) Eventf(regarding, related runtime.Object, kind, reason, action, note string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.told = append(j.told, fmt.Sprintf("%s: %s %s: %s", regarding.(client.Object).GetName(), kind, reason, fmt.Sprintf(note, args...)))
	j.EventRecorder.Eventf(regarding, related, kind, reason, action, note, args...)
}

// told is what this daemon, and those before it, told.
func (s *story) told() []string {
	var all []string
	for _, one := range s.journals {
		one.mu.Lock()
		all = append(all, one.told...)
		one.mu.Unlock()
	}
	return all
}

// tells is how often a claim was told this, with this in the note.
func (s *story) tells(claim, what, mention string) int {
	return len(slices.DeleteFunc(s.told(), func(told string) bool {
		return !strings.HasPrefix(told, claim+": "+what+": ") || !strings.Contains(told, mention)
	}))
}

// without is an item of version 2 with one stanza less: see docs/sealed-format.md.
func without(item []byte, key seal.KeyID) []byte {
	const prefix, name = 3, len(seal.KeyID{})
	made := slices.Clone(item[:prefix+1])
	rest := item[prefix+1:]
	for range item[prefix] {
		length := name + 2 + int(binary.BigEndian.Uint16(rest[name:]))
		if seal.KeyID(rest[:name]) == key {
			made[prefix]--
		} else {
			made = append(made, rest[:length]...)
		}
		rest = rest[length:]
	}
	return append(made, rest...)
}

func encode(item []byte) string { return base64.StdEncoding.EncodeToString(item) }
