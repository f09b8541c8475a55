package certs

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"slices"
	"time"
)

// lifetimes of what is issued.
type lifetimes struct {
	authority time.Duration
	leaf      time.Duration
	settle    time.Duration // how long API servers may take to see a new bundle
}

// step is what the keeper of the authority does next.
type step int

const (
	rest    step = iota
	create       // make an authority where none can sign
	prepare      // make the next one, for the bundle only
	promote      // let the next one sign
	drop         // trust the old ones no longer
)

// decide judges an authority. settled says that every API server trusts its
// next.
func decide(a authority, now time.Time, settled bool) step {
	switch {
	case !a.current.valid(now) && a.next.valid(now):
		return promote // late, but nothing else can sign
	case !a.current.valid(now):
		return create
	case a.next.valid(now) && settled:
		return promote
	case !a.next.valid(now) && dueForRenewal(a.current.cert, now):
		return prepare
	case len(a.old) > 0 && !now.Before(a.until):
		return drop
	}
	return rest
}

// take is the authority after a step. trusted is what the configuration's
// bundle holds; where an authority was lost, certificates that it signed are
// still served, so it stays trusted as an old one.
func (l lifetimes) take(s step, a authority, trusted []*x509.Certificate, now time.Time) (authority, error) {
	switch s {
	case rest:
	case create:
		made, err := newAuthorityPair(now, l.authority)
		if err != nil {
			return authority{}, err
		}
		a = l.retire(authority{current: made, old: a.old}, append(a.trusted(), trusted...), now)
	case prepare:
		made, err := newAuthorityPair(now, l.authority)
		if err != nil {
			return authority{}, err
		}
		a.next = made
	case promote:
		retired := a.current
		a.current, a.next = a.next, nil
		if retired != nil {
			a = l.retire(a, []*x509.Certificate{retired.cert}, now)
		}
	case drop:
		a.old, a.until = nil, time.Time{}
	}
	return a, nil
}

// retire adds old certificates, to be trusted until all that they signed is
// over. What a replica signs at this moment with the old key is over then too,
// since settle is longer than a request takes.
func (l lifetimes) retire(a authority, certs []*x509.Certificate, now time.Time) authority {
	old := slices.Clone(a.old)
	for _, cert := range certs {
		if now.Before(cert.NotAfter) && !trusts(old, cert) && !cert.Equal(a.current.cert) {
			old = append(old, cert)
		}
	}
	slices.SortStableFunc(old, func(a, b *x509.Certificate) int { return b.NotAfter.Compare(a.NotAfter) })
	a.old = old[:min(len(old), maxOld)] // the newest
	a.until = now.Add(l.leaf + l.settle)
	return a
}

// keeper judges for as long as one replica holds the Lease.
type keeper struct {
	lifetimes lifetimes

	// When the configuration was first seen to have which next authority. It
	// is not kept anywhere: the holder of the Lease after us waits once more.
	seen   *x509.Certificate
	seenAt time.Time
}

// judge says what the authority shall be, given what it is and what the
// configuration's bundle holds. It changes a at most by some steps that may be
// taken at once.
func (k *keeper) judge(a authority, trusted []*x509.Certificate, now time.Time) (_ authority, changed bool, err error) {
	if a.next == nil || !trusts(trusted, a.next.cert) {
		k.seen = nil
	} else if k.seen == nil || !k.seen.Equal(a.next.cert) {
		k.seen, k.seenAt = a.next.cert, now
	}
	settled := k.seen != nil && now.Sub(k.seenAt) >= k.lifetimes.settle
	s := decide(a, now, settled)
	if s == rest {
		return a, false, nil
	}
	a, err = k.lifetimes.take(s, a, trusted, now)
	return a, err == nil, err
}

// leaf is a replica's certificate, and the authority that signed it.
type leaf struct {
	pair

	issuer *x509.Certificate
}

// renewed returns the certificate to serve: the one there is for as long as it
// is young and its issuer trusted, else a new one, signed by the current
// authority. Without an authority that can sign, it is the one there is.
func (l lifetimes) renewed(old *leaf, a authority, hosts []string, now time.Time) (*leaf, error) {
	if !a.current.valid(now) {
		return old, nil
	}
	if old != nil && trusts(a.trusted(), old.issuer) {
		// An authority that had to be made in place of a lost one signs as
		// soon as it is there. Who can wait until it is trusted, waits.
		young := now.Before(a.current.cert.NotBefore.Add(backdate(l.authority) + l.settle))
		if !dueForRenewal(old.cert, now) || young && now.Before(old.cert.NotAfter) {
			return old, nil
		}
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: hosts[0]},
		NotBefore:   now.Add(-backdate(l.leaf)),
		NotAfter:    now.Add(l.leaf),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if template.NotAfter.After(a.current.cert.NotAfter) {
		template.NotAfter = a.current.cert.NotAfter
	}
	if template.NotBefore.Before(a.current.cert.NotBefore) {
		template.NotBefore = a.current.cert.NotBefore
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	made, err := sign(template, a.current)
	if err != nil {
		return old, err
	}
	return &leaf{pair: *made, issuer: a.current.cert}, nil
}
