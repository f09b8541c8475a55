package foreign_test

import (
	"os"
	"testing"

	"github.com/privyseal/privyseal/broker/brokertest"
)

// server is the API server of all tests, each of which has a namespace of its own.
var server brokertest.SharedAPIServer

func TestMain(m *testing.M) { os.Exit(server.Run(m)) }
