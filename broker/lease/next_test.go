package lease_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/privyseal/privyseal/broker/lease"
)

func noon() time.Time { return time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC) }

// current is a loan of an hour that can become a day old, renewed at noon.
func current(change func(*lease.Facts)) lease.Facts {
	f := lease.Facts{
		Now: noon(), Standing: lease.Current, Issued: noon(), Max: noon().Add(24 * time.Hour),
		Life: time.Hour, Renewable: true, Renewed: noon(), Expires: noon().Add(time.Hour),
	}
	if change != nil {
		change(&f)
	}
	return f
}

func TestWhatALeaseNeeds(t *testing.T) {
	for name, row := range map[string]struct {
		change func(*lease.Facts)
		want   lease.Do
	}{
		"nothing, when it was just renewed": {nil, lease.Keep},
		"nothing, at half of its life":      {func(f *lease.Facts) { f.Now = noon().Add(30 * time.Minute) }, lease.Keep},
		"a renewal, at two thirds":          {func(f *lease.Facts) { f.Now = noon().Add(40 * time.Minute) }, lease.Renew},
		"a renewal, when the daemon does not know how it stands": {func(f *lease.Facts) {
			f.Renewed, f.Expires = time.Time{}, time.Time{}
		}, lease.Renew},
		"patience, after a renewal that failed": {func(f *lease.Facts) {
			f.Failed = noon().Add(40 * time.Minute)
			f.Now = f.Failed.Add(29 * time.Second)
		}, lease.Keep},
		"another try, after that": {func(f *lease.Facts) {
			f.Failed = noon().Add(40 * time.Minute)
			f.Now = f.Failed.Add(30 * time.Second)
		}, lease.Renew},
		"another, at two thirds of a day": {func(f *lease.Facts) {
			f.Now = noon().Add(16 * time.Hour)
			f.Renewed, f.Expires = f.Now, f.Now.Add(time.Hour)
		}, lease.Reissue},
		"another, when it is gone": {func(f *lease.Facts) { f.Gone = true }, lease.Reissue},
		"another, when its end shows in a renewal": {func(f *lease.Facts) {
			f.Expires = noon().Add(29 * time.Minute)
		}, lease.Reissue},
		"another, when it ended while nobody looked": {func(f *lease.Facts) { f.Now = noon().Add(30 * time.Hour) }, lease.Reissue},
		"no renewal, when it has no end and cannot be renewed": {func(f *lease.Facts) {
			f.Max, f.Renewable, f.Now = time.Time{}, false, noon().Add(50*time.Minute)
		}, lease.Keep},
		"another, when it cannot be renewed": {func(f *lease.Facts) {
			f.Max, f.Renewable, f.Now = noon().Add(time.Hour), false, noon().Add(40*time.Minute)
		}, lease.Reissue},
		"an old one that pods hold: a renewal": {func(f *lease.Facts) {
			f.Standing, f.Held, f.Now = lease.Old, true, noon().Add(40*time.Minute)
		}, lease.Renew},
		"an old one that pods hold: nothing, past two thirds of a day": {func(f *lease.Facts) {
			f.Standing, f.Held, f.Now = lease.Old, true, noon().Add(20*time.Hour)
			f.Renewed, f.Expires = f.Now, f.Now.Add(time.Hour)
		}, lease.Keep},
		"an old one that nobody holds: its end":        {func(f *lease.Facts) { f.Standing = lease.Old }, lease.Revoke},
		"an old one that is gone: nothing more":        {func(f *lease.Facts) { f.Standing, f.Gone = lease.Old, true }, lease.Forget},
		"one that is gone while pods hold it: a place": {func(f *lease.Facts) { f.Standing, f.Held, f.Gone = lease.Old, true, true }, lease.Keep},
		"one of which the token alone is known":        {func(f *lease.Facts) { f.Standing = lease.Pending }, lease.Revoke},
	} {
		if got := lease.Next(current(row.change)); got.Do != row.want {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestManyLeasesAreNotRenewedTogether(t *testing.T) {
	earliest, latest := noon().Add(time.Hour), noon()
	for phase := range uint64(1 << 10) {
		at := lease.Next(current(func(f *lease.Facts) { f.Phase = phase * 7919 })).Again
		if at.Before(earliest) {
			earliest = at
		}
		if at.After(latest) {
			latest = at
		}
	}
	if latest.After(noon().Add(10*time.Minute)) || !earliest.After(noon()) {
		t.Errorf("they are looked at between %s and %s", earliest, latest)
	}
	renewed := map[lease.Do]int{}
	for phase := range uint64(1 << 10) {
		renewed[lease.Next(current(func(f *lease.Facts) { f.Phase = phase; f.Now = noon().Add(36 * time.Minute) })).Do]++
	}
	if renewed[lease.Renew] < 300 || renewed[lease.Keep] < 300 {
		t.Errorf("between the first renewal and the last: %v", renewed)
	}
}

func TestAnEndThatComesNearIsToldWhileThereIsTime(t *testing.T) {
	for name, row := range map[string]struct {
		change  func(*lease.Facts)
		is      bool
		renewal bool
	}{
		"all is well": {nil, false, false},
		"one renewal failed, and there is time": {func(f *lease.Facts) {
			f.Failed, f.Now = noon().Add(40*time.Minute), noon().Add(41*time.Minute)
		}, false, false},
		"renewals have failed for some time": {func(f *lease.Facts) {
			f.Failed, f.Now = noon().Add(46*time.Minute), noon().Add(46*time.Minute)
		}, true, true},
		"no other was issued for some time": {func(f *lease.Facts) {
			f.Now = noon().Add(19 * time.Hour)
			f.Renewed, f.Expires = f.Now, f.Now.Add(time.Hour)
		}, true, false},
		"an old one is to end": {func(f *lease.Facts) { f.Standing, f.Now = lease.Old, noon().Add(23*time.Hour) }, false, false},
	} {
		if is, _, renewal := current(row.change).Expiring(); is != row.is || renewal != row.renewal {
			t.Errorf("%s: %t, %t", name, is, renewal)
		}
	}
}

// world is a store with one loan, pods, and a daemon that may be killed, at random.
type world struct {
	*rand.Rand
	facts   lease.Facts
	expires time.Time // what the store knows
	up      bool
	gone    bool
}

func newWorld(seed uint64) *world {
	w := &world{Rand: rand.New(rand.NewPCG(seed, 1)), up: true}
	life := time.Duration(1+w.IntN(3600)) * time.Second
	w.facts = lease.Facts{
		Now: noon(), Standing: lease.Current, Issued: noon(), Life: life, Renewable: w.IntN(5) > 0,
		Renewed: noon(), Expires: noon().Add(life), Phase: w.Uint64(),
	}
	if w.IntN(4) > 0 || !w.facts.Renewable {
		w.facts.Max = noon().Add(life * time.Duration(1+w.IntN(30)))
	}
	if !w.facts.Renewable {
		w.facts.Max = noon().Add(life)
	}
	w.expires = w.facts.Expires
	return w
}

// happen has something happen that nobody asked for.
func (w *world) happen() {
	switch w.IntN(12) {
	case 0:
		w.up = !w.up
	case 1: // killed
		w.facts.Renewed, w.facts.Expires, w.facts.Failed = time.Time{}, time.Time{}, time.Time{}
	case 2:
		if w.facts.Standing == lease.Current {
			w.facts.Standing, w.facts.Held = lease.Old, true
		}
	case 3:
		w.facts.Held = false
	}
}

func (w *world) renew() {
	now := w.facts.Now
	w.gone = w.gone || now.After(w.expires)
	switch {
	case !w.up:
		w.facts.Failed = now
	case w.gone:
		w.facts.Gone = true
	default:
		w.expires = now.Add(w.facts.Life)
		if !w.facts.Max.IsZero() && w.expires.After(w.facts.Max) {
			w.expires = w.facts.Max
		}
		w.facts.Renewed, w.facts.Expires, w.facts.Failed = now, w.expires, time.Time{}
	}
}

// However outages, deaths and rollouts fall, a loan that pods may use is never
// given back, one that is in use is not let end while the store answers, and every
// look ends, with the next one to come.
func TestWhateverHappensNobodyIsLeftWithoutACredential(t *testing.T) {
	for seed := range uint64(2000) {
		w := newWorld(seed)
		for range 300 {
			w.happen()
			wasUp := w.up
			action := lease.Next(w.facts)
			switch action.Do {
			case lease.Keep:
				if !action.Again.After(w.facts.Now) {
					t.Fatalf("seed %d: look again at %s, and it is %s: %+v", seed, action.Again, w.facts.Now, w.facts)
				}
				wait := action.Again.Sub(w.facts.Now)
				w.facts.Now = action.Again
				if wasUp && w.facts.Standing == lease.Current && !w.facts.Renewed.IsZero() && w.facts.Failed.IsZero() && w.facts.Now.After(w.expires) {
					t.Fatalf("seed %d: after %s it has ended unrenewed: %+v", seed, wait, w.facts)
				}
				continue
			case lease.Renew:
				if !w.facts.Renewable {
					t.Fatalf("seed %d: what cannot be renewed is: %+v", seed, w.facts)
				}
				w.renew()
				continue
			case lease.Reissue:
				if w.facts.Standing != lease.Current {
					t.Fatalf("seed %d: %s is replaced", seed, w.facts.Standing)
				}
			case lease.Revoke:
				if w.facts.Standing != lease.Old || w.facts.Held {
					t.Fatalf("seed %d: %+v is given back", seed, w.facts)
				}
			case lease.Forget:
				if w.facts.Standing == lease.Current || !w.facts.Gone && w.facts.Now.Before(w.facts.Max) {
					t.Fatalf("seed %d: %+v is forgotten", seed, w.facts)
				}
			}
			break
		}
	}
}
