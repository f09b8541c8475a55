// Package chart holds the tests of charts/privyseal and nothing else. They
// render it with Helm's own code, read the result as strictly as an API server
// does, and hold what the chart promises about rights and pods for every set of
// values that matters. They need no cluster; what only a cluster can show is
// shown in the lab.
package chart
