// Package rotate carries out what package rotation decides.
//
//	admit ─▶ gather ─▶ rotation.Plan.Next ─▶ write the state down, or act ─▶ again
//
// Each look at a SecretRotation begins with nothing remembered: its state is in its
// status, both values are sealed away in a Secret of the daemon's namespace, and
// all else is looked up where it is. A look writes the next state down, over the
// very version that was read, or does one action for the state that is written down
// already. So a daemon that is killed, or no longer leads, leaves nothing that the
// next one does not find.
//
// It writes at the store: claims bring the new values to Secrets, and restarts to
// pods, as they do for any other change. What else has to know them, the hooks of a
// rotation tell: Jobs that somebody else wrote, with the values in files.
package rotate
