// Command probe asks the addresses it is given, as a pod would, and fails
// unless each answers. One with a leading "!" must not.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

const account = "/var/run/secrets/kubernetes.io/serviceaccount/"

func main() {
	authority, err := os.ReadFile(account + "ca.crt")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	for _, address := range os.Args[1:] {
		if outside, no := strings.CutPrefix(address, "!"); no {
			connection, err := net.DialTimeout("tcp", outside, 10*time.Second)
			fmt.Println(outside, err)
			if err == nil {
				connection.Close()
				os.Exit(1)
			}
			continue
		}
		response, err := client.Get(address)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(address, response.Status)
		response.Body.Close()
	}
}
