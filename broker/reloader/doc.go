// Package reloader reads the annotations of Stakater's Reloader, so that
// workloads that carry them are restarted by Privyseal as they were by it.
//
// They say which Secrets and ConfigMaps a workload wants to be restarted for
// when they change: those that it refers to, those of some names, or those that
// are marked. What they mean is told by Reloader's documentation, and where that
// is silent by its code (ShouldReload in pkg/common/common.go); its oddities are
// kept, since people's annotations were written against them.
//
// The package is pure: annotations in, a verdict and the rule behind it out. It
// knows no cluster, and what a change is and what a restart is, package restart
// says.
package reloader
