package target_test

import (
	"os"
	"testing"

	"github.com/privyseal/privyseal/broker/brokertest"
)

// apiServer is one for all tests: each has namespaces of its own.
var apiServer brokertest.SharedAPIServer

func TestMain(m *testing.M) { os.Exit(apiServer.Run(m)) }
