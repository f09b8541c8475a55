// Package generate makes new secret values.
//
// Rotating a secret is only worth its risk if nobody can guess the new value, so
// a generator refuses to be set up for less than MinEntropy. Every value that it
// can make is as likely as any other: no remainder of a division favours some
// characters, and a password that must have a digit is drawn from all passwords
// that have one, rather than given a digit at a place that could be known.
//
// How many bits of entropy a value has, which Spec.Entropy computes:
//
//	password  log2 of the number of passwords that meet the minimums; by
//	          default, 32 letters and digits: 190
//	hex       8 a byte; by default, 32 bytes: 256
//	base64    8 a byte; by default, 32 bytes: 256
//	uuid      122 (RFC 9562, version 4)
//	keys      the security of the algorithm (NIST SP 800-57, part 1, table 2):
//	          RSA-3072, P-256 and Ed25519 128, RSA-2048 112, P-384 and RSA-4096
//	          more
//
// The package is pure: randomness and time come in. Only keys take their
// randomness from Go itself, whose functions for them ignore any other.
package generate
