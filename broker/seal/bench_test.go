package seal_test

import (
	"testing"
	"time"

	"github.com/privyseal/privyseal/broker/seal"
)

func BenchmarkV2Open(b *testing.B) {
	cluster, recovery := keyNamed(b, "cluster"), keyNamed(b, "recovery")
	item := sealTo(b, "correct horse battery staple", password, cluster, recovery)
	keys := opens(cluster)
	for b.Loop() {
		must(keys.Open(item, password))(b)
	}
}

func BenchmarkV2SealToTwo(b *testing.B) {
	cluster, recovery := keyNamed(b, "cluster"), keyNamed(b, "recovery")
	for b.Loop() {
		sealTo(b, "correct horse battery staple", password, cluster, recovery)
	}
}

func BenchmarkV2GenerateKey(b *testing.B) {
	for b.Loop() {
		must(seal.GenerateKey())(b)
	}
}

func BenchmarkV1Open4096(b *testing.B) { benchmarkV1Open(b, rsaOpens(rsaNamed(b, "large"))) }

// With twelve keys, of which the right one is put first.
func BenchmarkV1Open4096OfTwelve(b *testing.B) {
	keys := []*seal.RSAKey{}
	for range 11 {
		keys = append(keys, must(seal.GenerateRSAKey(seal.RSAConfig{Now: day, Bits: 4096}))(b))
	}
	large := rsaNamed(b, "large")
	benchmarkV1Open(b, rsaOpens(append(keys, large)...).First(large.Fingerprint()))
}

func benchmarkV1Open(b *testing.B, keys *seal.Keys) {
	b.Helper()
	item := must(seal.SealV1(secret("correct horse battery staple"), password, rsaNamed(b, "large").Public()))(b)
	for b.Loop() {
		must(keys.Open(item, password))(b)
	}
}

func BenchmarkV1GenerateKey4096(b *testing.B) {
	for b.Loop() {
		must(seal.GenerateRSAKey(seal.RSAConfig{Now: time.Unix(1_700_000_000, 0)}))(b)
	}
}
