package rotation_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/rotation"
)

var users = rotation.Users{Key: "user", Names: [2]string{"app-a", "app-b"}}

func of(pairs ...string) document {
	d := document{}
	for i := 0; i < len(pairs); i += 2 {
		d[pairs[i]] = text(pairs[i+1])
	}
	return d
}

// shown is a document as keys and values.
func shown(d document) string {
	var all []string
	for key := range d {
		all = append(all, key+"="+read(d, key))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func TestAStrategySaysWhatBecomesOfTheKeys(t *testing.T) {
	for name, row := range map[string]struct {
		strategy rotation.Strategy
		before   document
		after    string
	}{
		"the new in place of the old":     {rotation.Replace, of("user", "app-a", "password", "old", "host", "db"), "host=db password=new user=app-a"},
		"by default too":                  {"", of("password", "old"), "password=new"},
		"a key that was not there":        {rotation.Replace, of("host", "db"), "host=db password=new"},
		"the new beside the old":          {rotation.Overlap, of("password", "old"), "password=new password_previous=old"},
		"in place of the one before":      {rotation.Overlap, of("password", "old", "password_previous", "older"), "password=new password_previous=old"},
		"beside nothing":                  {rotation.Overlap, of("host", "db"), "host=db password=new"},
		"the other user":                  {rotation.AlternateUsers, of("user", "app-a", "password", "old"), "password=new user=app-b"},
		"and back":                        {rotation.AlternateUsers, of("user", "app-b", "password", "old", "host", "db"), "host=db password=new user=app-a"},
		"keys of others that end like it": {rotation.Replace, of("password", "old", "password_previous", "older"), "password=new password_previous=older"},
	} {
		t.Run(name, func(t *testing.T) {
			before := shown(row.before)
			change, err := rotation.Plan{Strategy: row.strategy}.Change(providers.Document{Values: row.before}, of("password", "new"), users)
			if err != nil {
				t.Fatal(err)
			}
			after := change.Forward(row.before)
			if shown(after) != row.after || shown(row.before) != before {
				t.Errorf("%s becomes %s, and is %s", before, shown(after), shown(row.before))
			}
			if back := shown(change.Back(after)); back != before {
				t.Errorf("back it is %s", back)
			}
			// Others write other keys meanwhile, which stay.
			after["note"], row.before["note"] = text("mine"), text("mine")
			if change.Held(after) != rotation.New || change.Held(row.before) != rotation.Old || shown(change.Back(after)) != shown(row.before) {
				t.Errorf("with another key: %s, %s", change.Held(after), change.Held(row.before))
			}
			after["password"] = text("another")
			if held := change.Held(after); held != rotation.Other {
				t.Errorf("of somebody else's value it says %s", held)
			}
			delete(after, "password")
			if held := change.Held(after); held == rotation.New {
				t.Errorf("of none it says %s", held)
			}
		})
	}
}

func TestKeysThatCannotBeRotatedAreRefused(t *testing.T) {
	for name, row := range map[string]struct {
		strategy rotation.Strategy
		document document
		values   document
		users    rotation.Users
		says     string
	}{
		"no key":                   {rotation.Replace, of("password", "old"), nil, users, "it makes no key"},
		"the previous one's place": {rotation.Overlap, of("password", "old"), of("password", "new", "password_previous", "new"), users, `key "password_previous"`},
		"the user's name":          {rotation.AlternateUsers, of("user", "app-a"), of("user", "new"), users, `key "user"`},
		"one user":                 {rotation.AlternateUsers, of("user", "app-a"), of("password", "new"), rotation.Users{Key: "user", Names: [2]string{"app-a", "app-a"}}, "users.names"},
		"a third user":             {rotation.AlternateUsers, of("user", "root"), of("password", "new"), users, `users.key "user"`},
		"no user":                  {rotation.AlternateUsers, of("password", "old"), of("password", "new"), users, `users.key "user"`},
	} {
		_, err := rotation.Plan{Strategy: row.strategy}.Change(providers.Document{Values: row.document}, row.values, row.users)
		if !errors.Is(err, rotation.ErrPlan) || !strings.Contains(fmt.Sprint(err), row.says) {
			t.Errorf("%s: it says %v", name, err)
		}
	}
}

func TestWhatIsNoTextInTheStoreIsPutBackAsItWas(t *testing.T) {
	before := providers.Document{Values: of("pin", "1234", "note", "x"), JSON: map[string]bool{"pin": true}}
	for strategy, kept := range map[rotation.Strategy][]string{rotation.Replace: nil, rotation.Overlap: {"pin_previous"}} {
		change, err := rotation.Plan{Strategy: strategy}.Change(before, of("pin", "5678", "note", "y"), users)
		if err != nil {
			t.Fatal(err)
		}
		if after := slices.Sorted(maps.Keys(change.JSONAfter)); !slices.Equal(after, kept) {
			t.Errorf("%s: of the new values %v are no text", strategy, after)
		}
		if back := slices.Sorted(maps.Keys(change.JSONBefore)); !slices.Equal(back, []string{"pin"}) {
			t.Errorf("%s: of the old values %v are no text", strategy, back)
		}
	}
}

func TestTheKeysOfValuesBeforeAreTold(t *testing.T) {
	change, err := rotation.Plan{Strategy: rotation.Overlap}.Change(providers.Document{Values: of("token", "old", "id_previous", "older")}, of("token", "new", "id", "new"), users)
	if err != nil {
		t.Fatal(err)
	}
	if kept := change.Previous(); !slices.Equal(kept, []string{"token_previous"}) {
		t.Errorf("they are %v", kept)
	}
	if rotation.IsPreviousKey("token") || !rotation.IsPreviousKey(rotation.PreviousKey("token")) {
		t.Error("a key is taken for another")
	}
}
