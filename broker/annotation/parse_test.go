package annotation_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/broker/annotation"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// on makes annotations under privyseal.io/ of "key: value" lines.
func on(lines ...string) map[string]string {
	annotations := map[string]string{}
	for _, line := range lines {
		key, value, _ := strings.Cut(line, ": ")
		annotations[annotation.Prefix+key] = value
	}
	return annotations
}

func files(path string) *annotation.Volume { return &annotation.Volume{Path: path} }

func mode(path string, bits int32) *annotation.Volume {
	return &annotation.Volume{Path: path, Mode: &bits}
}

func keys(pairs ...string) *annotation.Env {
	env := &annotation.Env{}
	for i := 0; i < len(pairs); i += 2 {
		env.Keys = append(env.Keys, annotation.EnvKey{Key: pairs[i], Name: pairs[i+1]})
	}
	return env
}

func all(prefix string) *annotation.Env { return &annotation.Env{All: true, Prefix: prefix} }

func TestParseTakes(t *testing.T) {
	type requests = []annotation.Request
	for sentence, row := range map[string]struct {
		annotations map[string]string
		want        requests
	}{
		"a path alone is files under /etc/secrets": {
			on("secret.db: db"), requests{{Name: "db", Path: "db", Volume: files("/etc/secrets/db")}}},
		"a path may start at the store's root": {
			on("secret.ca: /kv/shared/ca"), requests{{Name: "ca", Path: "/kv/shared/ca", Volume: files("/etc/secrets/ca")}}},
		"claim: names an existing claim": {
			on("secret.db: claim:pay.db"), requests{{Name: "db", Claim: "pay.db", Volume: files("/etc/secrets/db")}}},
		"an absolute path may begin with claim:": {
			on("secret.db: /claim:db"), requests{{Name: "db", Path: "/claim:db", Volume: files("/etc/secrets/db")}}},
		"a star is every key, and then there are no files": {
			on("secret.db: db", "env.db: *"), requests{{Name: "db", Path: "db", Env: all("")}}},
		"a prefix and a star is every key with the prefix": {
			on("secret.db: db", "env.db: DB_*"), requests{{Name: "db", Path: "db", Env: all("DB_")}}},
		"a word is a key, never a prefix": {
			on("secret.db: db", "env.db: user"), requests{{Name: "db", Path: "db", Env: keys("user", "user")}}},
		"keys are renamed by =, and blanks between them do not count": {
			on("secret.db: db", "env.db: password=PGPASSWORD, user"),
			requests{{Name: "db", Path: "db", Env: keys("password", "PGPASSWORD", "user", "user")}}},
		"one key may fill two variables": {
			on("secret.db: db", "env.db: user=A,user=B"), requests{{Name: "db", Path: "db", Env: keys("user", "A", "user", "B")}}},
		"variables and files go together": {
			on("secret.db: db", "env.db: user", "volume.db: /run/db"),
			requests{{Name: "db", Path: "db", Env: keys("user", "user"), Volume: files("/run/db")}}},
		"a mode is octal, with the leading zero": {
			on("secret.db: db", "mode.db: 0440"), requests{{Name: "db", Path: "db", Volume: mode("/etc/secrets/db", 0o440)}}},
		"a mode is octal, without it too": {
			on("secret.db: db", "mode.db: 400"), requests{{Name: "db", Path: "db", Volume: mode("/etc/secrets/db", 0o400)}}},
		"a template renders one key of the request's name": {
			on("secret.dsn: db", "template.dsn: {{ .user }}", "env.dsn: dsn=DATABASE_URL"),
			requests{{Name: "dsn", Path: "db", Template: "{{ .user }}", Env: keys("dsn", "DATABASE_URL")}}},
		"requests are sorted by name": {
			on("secret.z: z", "secret.a: a"),
			requests{{Name: "a", Path: "a", Volume: files("/etc/secrets/a")}, {Name: "z", Path: "z", Volume: files("/etc/secrets/z")}}},
		"directories side by side are two": {
			on("secret.db: db", "secret.db2: db2"),
			requests{{Name: "db", Path: "db", Volume: files("/etc/secrets/db")}, {Name: "db2", Path: "db2", Volume: files("/etc/secrets/db2")}}},
		"annotations of others are passed over": {
			map[string]string{"example.com/secret.db": "x", "privyseal.io.evil/secret.db": "x"}, nil},
		"annotations that we write are passed over": {
			on("restarted-for: db=1", "started-with: db=1", "injected-containers: app", "revisions: {}"), nil},
	} {
		t.Run(sentence, func(t *testing.T) {
			parsed, err := annotation.Parse(row.annotations)
			if err != nil {
				t.Fatalf("refused: %v", err)
			}
			if !reflect.DeepEqual(parsed.Requests, row.want) {
				t.Errorf("got  %+v\nwant %+v", parsed.Requests, row.want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for sentence, row := range map[string]struct {
		annotations map[string]string
		says        string
	}{
		"an empty path":                                  {on("secret.db: "), `"privyseal.io/secret.db": malformed path: it is empty`},
		"a path that climbs":                             {on("secret.db: ../other"), `segment "." or ".."`},
		"a path with a doubled slash":                    {on("secret.db: //db"), "empty segment"},
		"a path that is too long":                        {on("secret.db: /" + strings.Repeat("a", 512)), "longer than 512 bytes"},
		"an upper-case name":                             {on("secret.DB: db"), `"privyseal.io/secret.DB": the part after "secret."`},
		"a name with a dot":                              {on("secret.a.b: db"), "lower-case letters"},
		"a name of 41 characters":                        {on("secret." + strings.Repeat("a", 41) + ": db"), "40 at most"},
		"no name":                                        {on("secret.: db"), "lower-case letters"},
		"a claim without a name":                         {on("secret.db: claim:"), `write "claim:db"`},
		"a claim in another namespace":                   {on("secret.db: claim:other/db"), "no name of a SecretClaim"},
		"a template for a claim that exists":             {on("secret.db: claim:db", "template.db: x"), "has its own spec.template"},
		"an empty template":                              {on("secret.db: db", "template.db: "), "it is empty"},
		"a template that is too long":                    {on("secret.db: db", "template.db: "+strings.Repeat("x", 65537)), "longer than 65536 bytes"},
		"a key that a template does not render":          {on("secret.db: db", "template.db: x", "env.db: user"), `write "db=NAME"`},
		"a template whose name cannot be a variable":     {on("secret.1db: db", "template.1db: x", "env.1db: *"), `write "1db=NAME"`},
		"an empty env":                                   {on("secret.db: db", "env.db: "), `write "*" for all keys`},
		"a prefix that cannot begin a variable":          {on("secret.db: db", "env.db: 9*"), "cannot begin a variable's name"},
		"a star among keys":                              {on("secret.db: db", "env.db: user,*"), "cannot begin a variable's name"},
		"a key that cannot be a variable":                {on("secret.db: db", "env.db: 9lives"), `write "9lives=NAME"`},
		"a rename to nothing":                            {on("secret.db: db", "env.db: user="), `"" cannot be a variable's name`},
		"a key with a slash":                             {on("secret.db: db", "env.db: a/b=A"), "no key of a Secret"},
		"a trailing comma":                               {on("secret.db: db", "env.db: user,"), `"" is no key`},
		"too many keys":                                  {on("secret.db: db", "env.db: "+strings.Repeat("a,", 128)+"a"), "more than 128 keys"},
		"one variable twice in one request":              {on("secret.db: db", "env.db: a=X,b=X"), `the variable "X" is already given by privyseal.io/env.db`},
		"one variable in two requests":                   {on("secret.a: a", "secret.b: b", "env.a: x=X", "env.b: y=X"), `"privyseal.io/env.b": the variable "X" is already given by privyseal.io/env.a`},
		"a template's variable in two requests":          {on("secret.a: a", "secret.b: b", "template.a: t", "env.a: X*", "env.b: y=Xa"), `the variable "Xa" is already given`},
		"a relative directory":                           {on("secret.db: db", "volume.db: secrets"), "does not begin with a slash"},
		"the root directory":                             {on("secret.db: db", "volume.db: /"), "hide the container's own files"},
		"a directory that climbs":                        {on("secret.db: db", "volume.db: /a/../b"), `segment "." or ".."`},
		"a directory with a trailing slash":              {on("secret.db: db", "volume.db: /a/"), "trailing slash"},
		"a directory with a colon":                       {on("secret.db: db", "volume.db: /a:b"), "a colon"},
		"one directory for two":                          {on("secret.a: a", "secret.b: b", "volume.a: /s", "volume.b: /s"), `"privyseal.io/volume.b": "/s" and "/s" of secret.a`},
		"a directory inside another":                     {on("secret.a: a", "secret.b: b", "volume.a: /s/x", "volume.b: /s"), "one inside the other"},
		"a decimal mode":                                 {on("secret.db: db", "mode.db: 288"), "three octal digits"},
		"a mode with the sticky bit":                     {on("secret.db: db", "mode.db: 1777"), "three octal digits"},
		"a mode with a sign":                             {on("secret.db: db", "mode.db: +44"), "three octal digits"},
		"a mode without files":                           {on("secret.db: db", "env.db: *", "mode.db: 0400"), "add privyseal.io/volume.db"},
		"an env of no secret":                            {on("secret.db: db", "env.bd: *"), `there is no "privyseal.io/secret.bd"`},
		"a template of no secret":                        {on("template.db: x"), `there is no "privyseal.io/secret.db"`},
		"a misspelt word":                                {on("secrets.db: db"), "there is no such annotation"},
		"a misspelt containers":                          {on("secret.db: db", "container: app"), "there is no such annotation"},
		"a restart that is neither":                      {on("secret.db: db", "restart: Never"), `neither "auto" nor "never"`},
		"no container":                                   {on("secret.db: db", "containers: "), "no container's name"},
		"a container twice":                              {on("secret.db: db", "containers: app,app"), "twice"},
		"a container's name that cannot be":              {on("secret.db: db", "containers: app;init"), "no container's name"},
		"the second of two mistakes too":                 {on("secret.db: db", "env.db: 9*", "restart: x"), `"privyseal.io/restart"`},
		"long values, without repeating all of them":     {on("secret.db: db", "env.db: "+strings.Repeat("/", 1000)), `…`},
		"a mistake in a name only once, with its others": {on("secret.DB: db", "env.DB: *"), "lower-case letters"},
	} {
		t.Run(sentence, func(t *testing.T) {
			parsed, err := annotation.Parse(row.annotations)
			if err == nil {
				t.Fatalf("taken: %+v", parsed)
			}
			if !strings.Contains(err.Error(), row.says) {
				t.Errorf("says %q, not %q", err, row.says)
			}
			if strings.Contains(sentence, "only once") && strings.Contains(err.Error(), "\n") {
				t.Errorf("says more than one thing: %v", err)
			}
		})
	}
}

func TestParseIsBounded(t *testing.T) {
	crowd := map[string]string{}
	for i := range 1000 {
		crowd[fmt.Sprintf("%s%d", annotation.SecretPrefix, i)] = ".."
		crowd[fmt.Sprintf("%s%d", annotation.EnvPrefix, i)] = strings.Repeat("=", 1000)
	}
	_, err := annotation.Parse(crowd)
	if err == nil {
		t.Fatal("taken")
	}
	if size := len(err.Error()); size > 16<<10 {
		t.Errorf("the error has %d bytes", size)
	}
	if !strings.Contains(err.Error(), "problems more") {
		t.Errorf("does not say that there is more: %v", err)
	}
}

func TestContainersAndRestartAreRead(t *testing.T) {
	parsed, err := annotation.Parse(on("containers: app, init", "restart: never"))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"app", "init"}; !reflect.DeepEqual(parsed.Containers, want) {
		t.Errorf("containers %q, not %q", parsed.Containers, want)
	}
	if parsed.Restart != v1alpha1.RestartNever {
		t.Errorf("restart %q", parsed.Restart)
	}
	for _, annotations := range []map[string]string{nil, on("restart: auto")} {
		if parsed, err := annotation.Parse(annotations); err != nil || parsed.Restart != v1alpha1.RestartAuto {
			t.Errorf("%v gives %q, %v", annotations, parsed.Restart, err)
		}
	}
}

func TestAsksSeesBadRequestsToo(t *testing.T) {
	if !annotation.Asks(on("secret.DB: ..")) || annotation.Asks(on("restart: never")) || annotation.Asks(nil) {
		t.Error("a pod asks if, and only if, it has a secret annotation")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("secret.db", "db", "env.db", "password=PGPASSWORD,user", "volume.db", "/etc/secrets/db")
	f.Add("secret.db", "claim:db", "mode.db", "0440", "containers", "app,init")
	f.Add("secret.db", "/kv/ca", "template.db", "{{ .x }}", "env.db", "DB_*")
	f.Add("secret.a", "a", "secret.b", "b", "restart", "never")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2, k3, v3 string) {
		annotations := map[string]string{
			annotation.Prefix + k1: v1, annotation.Prefix + k2: v2, annotation.Prefix + k3: v3,
		}
		parsed, err := annotation.Parse(annotations)
		if err != nil {
			if !reflect.DeepEqual(parsed, annotation.Parsed{}) {
				t.Errorf("refused, yet gives %+v", parsed)
			}
			if len(err.Error()) > 64<<10 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
			return
		}
		again, err := annotation.Parse(annotations)
		if err != nil || !reflect.DeepEqual(parsed, again) {
			t.Errorf("read twice, gives %+v and %+v (%v)", parsed, again, err)
		}
		if annotation.Asks(annotations) != (len(parsed.Requests) > 0) {
			t.Error("Asks and Parse differ")
		}
		for _, request := range parsed.Requests {
			switch {
			case (request.Path == "") == (request.Claim == ""):
				t.Errorf("not one of path and claim: %+v", request)
			case request.Env == nil && request.Volume == nil:
				t.Errorf("delivered nowhere: %+v", request)
			case len(request.ClaimName()) > 253:
				t.Errorf("no name of a claim: %q", request.ClaimName())
			}
		}
	})
}
