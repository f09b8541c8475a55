// Package brokertest gives tests the real parts: an API server of their own
// (APIServer), and the lab (Lab), a real cluster with running pods and a real
// Vault, into which the chart is installed as a user would.
//
// Mocks would agree with us. What Kubernetes, kubelet and Vault really do is
// the larger part of what can go wrong on the way of a secret, so tests meet
// them, and what they cannot meet they skip with the reason printed.
package brokertest
