package sealingkey_test

import (
	"os"
	"testing"

	"github.com/privyseal/privyseal/broker/brokertest"
)

// apiServer is shared by the tests, each of which has namespaces of its own.
var apiServer brokertest.SharedAPIServer

func TestMain(m *testing.M) { os.Exit(apiServer.Run(m)) }
