package copies_test

import (
	"os"
	"testing"

	"github.com/privyseal/privyseal/broker/brokertest"
)

// TestMain shares one API server: each test works in namespaces and
// environments of its own.
func TestMain(m *testing.M) { os.Exit(shared.Run(m)) }

var shared brokertest.SharedAPIServer
