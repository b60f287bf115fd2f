// Shop is the service that the bed's pods run, and what the bed needs around it: a load generator,
// the pause process of a pod, and a writer of the images.
package main

import (
	"fmt"
	"os"
)

const usage = `usage:
  shop serve                                        the service, on :8080; behaviour by environment
  shop load --url URL [--url URL] --rps N --seconds S  a bounded load, prints a summary as JSON
  shop images --into DIR                            writes DIR/images.tar (docker-archive, this binary)
  shop pause                                        does nothing but reap; the first process of a pod`

func main() {
	if len(os.Args) < 2 {
		fail(usage)
	}
	arguments := os.Args[2:]
	var err error
	switch os.Args[1] {
	case "serve":
		err = serve()
	case "load":
		err = load(arguments)
	case "images":
		err = images(arguments)
	case "pause":
		pause()
	default:
		fail(usage)
	}
	if err != nil {
		fail(err)
	}
}

func fail(why any) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(1)
}
