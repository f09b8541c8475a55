// Package annotation reads what people write on a pod template under
// privyseal.io/:
//
//	privyseal.io/secret.db: "db"                 # a path as in a claim, or "claim:NAME"
//	privyseal.io/env.db: "password=PGPASSWORD"   # "*", "DB_*", or keys with the names they get
//	privyseal.io/volume.db: "/etc/secrets/db"    # files; the default where neither is given
//	privyseal.io/mode.db: "0440"                 # mode of those files
//	privyseal.io/template.db: "…"                # render one key, db, instead of copying
//	privyseal.io/containers: "app,migrate"       # which containers get them
//	privyseal.io/restart: "never"                # or auto
//
// It is apart from the webhook and from the controller that makes claims
// because both read the same lines and must mean the same by them: the webhook
// points the pod at the Secret of Request.ClaimName, without a look at whether
// it is there, and the controller makes the claim of that very name. So
// parsing is pure, and a template that one of them takes the other takes too.
//
// A misspelt annotation is an error, not a thing ignored: a pod that runs
// without the secret that its author meant to give it, or with the secret in
// containers that its author meant to spare, is found out too late.
package annotation
