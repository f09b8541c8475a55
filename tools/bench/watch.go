package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
)

// sightings are when each of some objects first was what the bench waits for.
type sightings struct {
	mu sync.Mutex
	at map[string]time.Time // namespace/name → when

	stop func()
}

// times are the first and last sighting, and how many there are.
func (s *sightings) times() (first, last time.Time, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, at := range s.at {
		if first.IsZero() || at.Before(first) {
			first = at
		}
		if at.After(last) {
			last = at
		}
	}
	return first, last, len(s.at)
}

// wait until n were seen; it gives the first and the n-th.
func (s *sightings) wait(ctx context.Context, n int, within time.Duration) (first, last time.Time, err error) {
	err = until(ctx, within, 20*time.Millisecond, func(context.Context) (string, error) {
		var seen int
		if first, last, seen = s.times(); seen < n {
			return fmt.Sprintf("%d of %d were seen", seen, n), nil
		}
		return "", nil
	})
	return first, last, err
}

// follow notes the objects of a watch that are of the bench's namespaces and
// which the condition holds for.
func follow(w watch.Interface, holds func(watch.Event) bool) *sightings {
	s := &sightings{at: map[string]time.Time{}, stop: w.Stop}
	go func() {
		for event := range w.ResultChan() {
			at := time.Now()
			object, ok := event.Object.(metav1.Object)
			if !ok || !strings.HasPrefix(object.GetNamespace(), "bench-") || !holds(event) {
				continue
			}
			name := object.GetNamespace() + "/" + object.GetName()
			s.mu.Lock()
			if _, seen := s.at[name]; !seen {
				s.at[name] = at
			}
			s.mu.Unlock()
		}
	}()
	return s
}

// secretsThat are added or modified from now on.
func (c *cluster) secretsThat(ctx context.Context, are watch.EventType) (*sightings, error) {
	from, err := c.now(ctx, secrets())
	if err != nil {
		return nil, err
	}
	w, err := c.metadata.Resource(secrets()).Watch(ctx, metav1.ListOptions{ResourceVersion: from})
	if err != nil {
		return nil, fmt.Errorf("watching Secrets: %w", err)
	}
	return follow(w, func(event watch.Event) bool { return event.Type == are }), nil
}

// claimsReady from now on.
func (c *cluster) claimsReady(ctx context.Context) (*sightings, error) {
	from, err := c.now(ctx, claims())
	if err != nil {
		return nil, err
	}
	w, err := c.objects.Resource(claims()).Watch(ctx, metav1.ListOptions{ResourceVersion: from})
	if err != nil {
		return nil, fmt.Errorf("watching claims: %w", err)
	}
	return follow(w, func(event watch.Event) bool {
		claim, ok := event.Object.(*unstructured.Unstructured)
		return ok && readyNow(claim)
	}), nil
}
