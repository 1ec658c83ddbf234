// Command hub is the municipality's side: logins, certificates, events and figures of all branches.
package main

import (
	"os"

	"sportello.example/sync/hub/server"
)

func main() { os.Exit(server.Main(os.Args[1:], server.Options{})) }
