package lease

import "time"

// Do is what a loan needs done.
type Do string

// What can be done. Who is told to Keep does nothing.
const (
	Keep    Do = "keep"
	Renew   Do = "renew"
	Reissue Do = "reissue"
	Revoke  Do = "revoke"
	Forget  Do = "forget"
)

// Standing of a loan with its claim.
type Standing string

const (
	// Pending: its token is kept, and it is not known whether anything was made.
	Pending Standing = "pending"
	// Fresh: it was made, and the claim does not say that its Secret holds it.
	Fresh Standing = "fresh"
	// Current: the claim's Secret holds it.
	Current Standing = "current"
	// Old: another is in its place, or nothing is.
	Old Standing = "old"
)

// Facts about one loan.
type Facts struct {
	Now      time.Time
	Standing Standing
	// Held: pods may use it. It counts for Old ones alone.
	Held bool

	// Issued, and the end that no renewal moves; zero: there is none.
	Issued, Max time.Time
	// Life that it had at first, without a renewal.
	Life      time.Duration
	Renewable bool

	// Renewed is when this daemon last renewed it, and Expires what it was told
	// then; zero: it has not.
	Renewed, Expires time.Time
	// Failed is when it last tried in vain since then; zero: it has not.
	Failed time.Time
	// Gone: the store says that it is no more.
	Gone bool

	// Phase spreads what many loans need, and is always the same for one.
	Phase uint64
}

// Action is what to do, or when to look again.
type Action struct {
	Do Do
	// Again is when to look, if nothing happens before. It is after Now where Do
	// is Keep.
	Again time.Time
}

const (
	// retryMost and retryLeast bound how long is waited after a renewal that
	// failed.
	retryMost, retryLeast = 30 * time.Second, time.Second
	// lookMost is how often a loan is looked at that needs nothing: a machine's
	// clock may be put right meanwhile.
	lookMost = 10 * time.Minute
)

// Next says what a loan needs. The rules:
//
//   - One that pods may hold is never revoked, and is renewed for as long as that
//     goes, be it current or not.
//   - One whose token alone is known is revoked: nobody can use it.
//   - One in use is replaced at about two thirds of the time that it can have in
//     all, or when it is gone, or when the store gives less than half of the life
//     that it gave at first: then its end is nearer than was said.
//   - What is gone, and neither in use nor held, is forgotten.
func Next(f Facts) Action {
	inUse := f.Standing == Fresh || f.Standing == Current
	over := f.Gone || !f.Max.IsZero() && !f.Now.Before(f.Max)
	switch {
	case over && !inUse && f.Held: // pods hold what is no more, and that is told while they do
		return Action{Do: Keep, Again: f.Now.Add(lookMost)}
	case over && !inUse:
		return Action{Do: Forget}
	case f.Standing == Pending, f.Standing == Old && !f.Held:
		return Action{Do: Revoke}
	case inUse && (over || f.cutShort() || f.reached(f.reissueAt())):
		return Action{Do: Reissue}
	case f.reached(f.renewAt()):
		return Action{Do: Renew}
	}
	again := f.Now.Add(lookMost)
	for _, at := range []time.Time{f.renewAt(), f.reissueAt(), f.Max} {
		if at.After(f.Now) && at.Before(again) {
			again = at
		}
	}
	return Action{Do: Keep, Again: again}
}

func (f Facts) reached(at time.Time) bool { return !at.IsZero() && !f.Now.Before(at) }

// cutShort: the end is near, whatever was said when it was issued.
func (f Facts) cutShort() bool {
	return f.Renewable && !f.Renewed.IsZero() && f.Expires.Sub(f.Renewed) < f.Life/2
}

// reissueAt is when another is due; zero: not by itself.
func (f Facts) reissueAt() time.Time {
	if f.Max.IsZero() {
		return time.Time{}
	}
	return f.Issued.Add(f.part(f.Max.Sub(f.Issued)))
}

// renewAt is when a renewal is due; zero: never.
func (f Facts) renewAt() time.Time {
	switch {
	case !f.Renewable:
		return time.Time{}
	case !f.Failed.IsZero():
		left := f.Expires.Sub(f.Failed)
		if left <= 0 { // it is not known, or over: the store has the last word
			left = f.Life
		}
		return f.Failed.Add(max(retryLeast, min(retryMost, left/8)))
	case f.Renewed.IsZero():
		return f.Issued
	}
	return f.Renewed.Add(f.part(f.Expires.Sub(f.Renewed)))
}

// part is about two thirds of a time, and never more: those of many loans that
// began together are spread over an eighth of it.
func (f Facts) part(of time.Duration) time.Duration {
	const steps = 1 << 10
	spread := of / 8 / steps * time.Duration(f.Phase%steps)
	return of/3*2 - spread
}

// Expiring says that a loan in use nears an end that something keeps from being
// put off: less than a quarter of what there was is left.
func (f Facts) Expiring() (is bool, ends time.Time, renewal bool) {
	if f.Standing != Fresh && f.Standing != Current {
		return false, time.Time{}, false
	}
	if !f.Failed.IsZero() && !f.Expires.IsZero() && f.Expires.Sub(f.Now) < f.Life/4 {
		return true, f.Expires, true
	}
	if !f.Max.IsZero() && f.Max.Sub(f.Now) < f.Max.Sub(f.Issued)/4 {
		return true, f.Max, false
	}
	return false, time.Time{}, false
}
