package vault

// Waiting is how many wait for reads under way, for tests that have to know
// that all are there before they let one go on.
func (s *Session) Waiting() int {
	s.reads.mu.Lock()
	defer s.reads.mu.Unlock()
	n := 0
	for _, w := range s.reads.underway {
		n += w.waiting
	}
	return n
}
