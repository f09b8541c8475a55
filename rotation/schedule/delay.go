package schedule

import (
	"hash/fnv"
	"time"
)

// delay of a run, less than most: as long for the same run of the same thing
// whoever asks, so that a restart does not move it, and spread evenly over the
// things that run together.
func delay(name, run string, most time.Duration) time.Duration {
	if most <= 0 {
		return 0
	}
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(run + " " + name)) // a hash.Hash never returns an error
	return time.Duration(hash.Sum64() % uint64(most))
}
