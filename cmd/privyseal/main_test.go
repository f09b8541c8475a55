package main

import (
	"context"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"privyseal": func() { os.Exit(run(context.Background())) },
	})
}

// TestStories runs each session of testdata: what somebody types, and what
// they get.
func TestStories(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata", Setup: setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"keys": makeKeys, "cluster": serveKubeseal, "edit": editFile, "without": without,
		},
	})
}
