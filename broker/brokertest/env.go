package brokertest

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Root is the checkout's folder: the one with the module's go.mod.
func Root(t testing.TB) string {
	t.Helper()
	folder, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(folder, "broker", "v1alpha1")); err == nil {
			return folder
		}
		if folder == filepath.Dir(folder) {
			t.Fatal("no checkout above the test's folder")
		}
		folder = filepath.Dir(folder)
	}
}

// skipWithout skips a test for want of a real part, with the reason. Under CI
// nothing may be wanting.
func skipWithout(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal("lab: " + reason)
	}
	t.Skip("lab: " + reason)
}

// labEnv reads what the lab says of itself.
func labEnv(t testing.TB) map[string]string {
	t.Helper()
	file, err := os.Open(filepath.Join(Root(t), ".lab", "env"))
	if err != nil {
		skipWithout(t, "none runs; start one with: make lab")
	}
	defer func() { _ = file.Close() }()
	env := map[string]string{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if key, value, found := strings.Cut(lines.Text(), "="); found {
			env[key] = value
		}
	}
	return env
}
