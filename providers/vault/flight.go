package vault

import (
	"context"
	"sync"
)

// flight makes one piece of work of all that are asked for under one key at
// the same time. It is golang.org/x/sync/singleflight with the two things that
// a secret needs: it knows the last to take an answer, who gets the original
// where the others get copies, so that all of it is cleared; and work that
// nobody waits for any longer is cancelled.
//
// Whoever joins gets the answer to a question that was asked before: by up to
// the time that the work takes.
type flight[V any] struct {
	clone func(V) V // nil: answers are shared as they are
	drop  func(V)   // nil: answers that nobody takes are left alone

	mu       sync.Mutex
	underway map[string]*work[V] // :: key → work that can be joined
}

type work[V any] struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when it has ended

	// Under the flight's lock:
	waiting int
	ended   bool
	value   V
	err     error
}

// do is the answer of f, or of the f that is under way for key already. Its
// error is f's, or ctx's if that ends first.
func (l *flight[V]) do(ctx context.Context, key string, f func(context.Context) (V, error)) (V, error) {
	w := l.join(ctx, key, f)
	select {
	case <-w.done:
		return l.take(w)
	case <-ctx.Done():
		l.leave(key, w)
		var none V
		return none, ctx.Err()
	}
}

func (l *flight[V]) join(ctx context.Context, key string, f func(context.Context) (V, error)) *work[V] {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w, ok := l.underway[key]; ok {
		w.waiting++
		return w
	}
	// The first caller's cancellation is not the others'.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	w := &work[V]{cancel: cancel, done: make(chan struct{}), waiting: 1}
	if l.underway == nil {
		l.underway = make(map[string]*work[V])
	}
	l.underway[key] = w
	go l.run(ctx, key, w, f)
	return w
}

func (l *flight[V]) run(ctx context.Context, key string, w *work[V], f func(context.Context) (V, error)) {
	defer close(w.done)
	defer w.cancel()
	value, err := f(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	w.value, w.err, w.ended = value, err, true
	l.forget(key, w)
	if w.waiting == 0 && l.drop != nil {
		l.drop(w.value)
	}
}

func (l *flight[V]) take(w *work[V]) (V, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w.waiting--
	if w.waiting == 0 || l.clone == nil || w.err != nil {
		return w.value, w.err
	}
	return l.clone(w.value), nil
}

func (l *flight[V]) leave(key string, w *work[V]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w.waiting--
	if w.waiting > 0 {
		return
	}
	w.cancel()
	l.forget(key, w)
	if w.ended && l.drop != nil {
		l.drop(w.value)
	}
}

// forget makes w impossible to join. The lock is held.
func (l *flight[V]) forget(key string, w *work[V]) {
	if l.underway[key] == w {
		delete(l.underway, key)
	}
}
