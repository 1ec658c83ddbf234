// Command appliance is the box of a branch: it serves the kiosk's pages, finds the printer, and reports to the
// municipality's hub when there is a line. "appliance -h" says how to configure it.
package main

import (
	"os"

	"sportello.example/appliance/box"
)

func main() { os.Exit(box.Main(os.Args[1:], box.Options{})) }
