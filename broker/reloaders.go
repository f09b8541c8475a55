package broker

import (
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/privyseal/privyseal/broker/foreign"
	"github.com/privyseal/privyseal/broker/installkey"
	"github.com/privyseal/privyseal/broker/reloader"
)

// Reloader says how the annotations of Stakater's Reloader are served.
type Reloader struct {
	// Enabled has workloads restarted as they ask.
	Enabled bool

	reloader.Options
}

// keeper remembers what is not ours; nil where nobody is restarted for it.
func (r Reloader) keeper(mgr manager.Manager, keys *installkey.Keeper, clock clock.PassiveClock) *foreign.Keeper {
	if !r.Enabled {
		return nil
	}
	return foreign.New(foreign.Config{Live: mgr.GetAPIReader(), Writer: mgr.GetClient(), Keys: keys, Clock: clock})
}
