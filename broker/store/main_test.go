package store_test

import (
	"os"
	"testing"

	"github.com/privyseal/privyseal/broker/brokertest"
)

// apiServer is one for all tests: each empties it first.
var apiServer brokertest.SharedAPIServer

func TestMain(m *testing.M) { os.Exit(apiServer.Run(m)) }
