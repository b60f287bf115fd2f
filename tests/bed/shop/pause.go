package main

import (
	"os"
	"os/signal"
	"syscall"
)

// pause is a first process: of a pod's sandbox, and of the bed's own process namespace. Orphans become
// its children there, so it reaps them; it ends on SIGTERM, which the kernel would not do for it.
func pause() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGCHLD, syscall.SIGTERM, syscall.SIGINT)
	for received := range signals {
		if received != syscall.SIGCHLD {
			return
		}
		for {
			pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
			if pid <= 0 || err != nil {
				break
			}
		}
	}
}
