package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The load shares two cores with what it loads, and a forgotten one must end by itself.
const (
	mostRequestsPerSecond = 500
	mostSeconds           = 900
	mostInFlight          = 200
	requestTimeout        = 5 * time.Second
)

// summary is what load prints. Skipped are those not sent as too many were still under way.
type summary struct {
	Sent    int            `json:"sent"`
	Codes   map[string]int `json:"codes"`
	Errors  int            `json:"errors"`
	Skipped int            `json:"skipped"`
}

type addresses []string

func (a *addresses) String() string { return strings.Join(*a, " ") }

// Set takes only addresses of this machine and of private networks: the bed never loads a stranger.
func (a *addresses) Set(text string) error {
	parsed, err := url.Parse(text)
	if err != nil {
		return err
	}
	address := net.ParseIP(parsed.Hostname())
	if address == nil || !(address.IsLoopback() || address.IsPrivate()) {
		return fmt.Errorf("%q is no loopback or private address", parsed.Hostname())
	}
	*a = append(*a, text)
	return nil
}

func load(arguments []string) error {
	flags := flag.NewFlagSet("load", flag.ExitOnError)
	var urls addresses
	flags.Var(&urls, "url", "where to; several are taken in turn")
	rps := flags.Int("rps", 20, "requests per second")
	seconds := flags.Int("seconds", 10, "for how long")
	_ = flags.Parse(arguments)
	if len(urls) == 0 {
		return errors.New("load: no --url")
	}
	if *rps < 1 || *rps > mostRequestsPerSecond || *seconds < 1 || *seconds > mostSeconds {
		return fmt.Errorf("load: at most %d requests per second for at most %d s", mostRequestsPerSecond, mostSeconds)
	}
	return json.NewEncoder(os.Stdout).Encode(send(urls, *rps, *seconds))
}

func send(urls []string, rps, seconds int) summary {
	// A connection per request, so that a Service spreads them over its pods.
	client := &http.Client{Timeout: requestTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
	total := summary{Codes: map[string]int{}}
	var mutex sync.Mutex
	var running sync.WaitGroup
	places := make(chan struct{}, mostInFlight)
	ticker := time.NewTicker(time.Second / time.Duration(rps))
	defer ticker.Stop()
	for i := range rps * seconds {
		<-ticker.C
		select {
		case places <- struct{}{}:
		default:
			total.Skipped++
			continue
		}
		total.Sent++
		running.Go(func() {
			code, err := get(client, urls[i%len(urls)])
			<-places
			mutex.Lock()
			defer mutex.Unlock()
			if err != nil {
				total.Errors++
			} else {
				total.Codes[strconv.Itoa(code)]++
			}
		})
	}
	running.Wait()
	return total
}

func get(client *http.Client, url string) (int, error) {
	response, err := client.Get(url)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, err
}
