package vault

import "time"

const (
	// maxAnswer bounds a response, in bytes. A Kubernetes Secret holds 1 MiB;
	// JSON and base64 make at most three of it.
	maxAnswer = 4 << 20

	// defaultConnections is Config.MaxConnections' default.
	defaultConnections = 16

	// defaultTimeout is Config.Timeout's default.
	defaultTimeout = 10 * time.Second

	// idleConnection is how long a connection is kept unused.
	idleConnection = 90 * time.Second

	// loginPause is the least time between a login that did not help and the
	// next one of the same session: after a refused login, and after a login
	// that was made because the token before was refused something. So an
	// identity that may not log in, or may not read what a thousand claims ask
	// it for, makes six logins a minute and not a thousand.
	loginPause = 10 * time.Second

	// mountTrust is how long what is known of a mount is believed against a
	// 404. A document that is not there costs one question for its mount in
	// this time, not one a read.
	mountTrust = time.Minute
)
