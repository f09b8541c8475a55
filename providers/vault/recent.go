package vault

import (
	"sync"
	"time"

	"github.com/privyseal/privyseal/providers"
)

const (
	// keepAnswer is how long an answer is kept for others who want the same.
	// A thousand claims on one document are seen to in less, and need one read.
	keepAnswer = 5 * time.Second

	// Answers are kept where that is cheap: these bound what the answers of one
	// identity take, in number and in bytes of each.
	maxKept     = 128
	maxKeptSize = 16 << 10
)

// recent are the last answers that an identity was given. Each is kept for
// keepAnswer, then cleared.
type recent struct {
	mu      sync.Mutex
	answers map[string]kept
}

type kept struct {
	asked    time.Time
	document providers.Document
}

// get is a copy of an answer to a question that was asked at or after since.
func (r *recent) get(key string, since time.Time) (providers.Document, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	known, found := r.answers[key]
	if !found || since.IsZero() || known.asked.Before(since) {
		return providers.Document{}, false
	}
	return known.document.Clone(), true
}

// put keeps a copy of an answer, and says whether it did.
func (r *recent) put(key string, asked time.Time, document providers.Document) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	before, replaced := r.answers[key]
	if size(document) > maxKeptSize || !replaced && len(r.answers) >= maxKept {
		return false
	}
	before.document.Clear()
	if r.answers == nil {
		r.answers = map[string]kept{}
	}
	r.answers[key] = kept{asked: asked, document: document.Clone()}
	return true
}

// drop clears the answer to the question that was asked at this time.
func (r *recent) drop(key string, asked time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if known, found := r.answers[key]; found && known.asked.Equal(asked) {
		known.document.Clear()
		delete(r.answers, key)
	}
}

func size(document providers.Document) int {
	total := 0
	for key, value := range document.Values {
		total += len(key) + len(value.Bytes())
	}
	return total
}
