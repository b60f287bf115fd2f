package main

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"sync"
	"time"
)

// Prometheus' own default buckets, in seconds.
var buckets = [...]float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// served are the routes that count.
var served = [...]string{"/", "/cart"}

// answers are those of one route by code.
type answers struct{ ok, failed uint64 }

// metrics counts the requests. Both codes of each route are there from the start at 0: a series that appears
// only with the first error has no increase, and hides just that error.
type metrics struct {
	start float64

	mutex    sync.Mutex
	routes   [len(served)]answers
	seconds  float64
	atMost   [len(buckets)]uint64
	answered uint64 // codes given out so far, for nextCode
}

func newMetrics() *metrics { return &metrics{start: float64(time.Now().UnixMilli()) / 1000} }

// nextCode spreads the failures evenly instead of drawing lots: after n requests the number of
// failures is n times the ratio, rounded down, so a test that counts never has bad luck.
func (m *metrics) nextCode(failRatio float64) int {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	before := math.Floor(float64(m.answered) * failRatio)
	m.answered++
	if math.Floor(float64(m.answered)*failRatio) > before {
		return http.StatusInternalServerError
	}
	return http.StatusOK
}

func (m *metrics) observe(route, code int, took time.Duration) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if code == http.StatusOK {
		m.routes[route].ok++
	} else {
		m.routes[route].failed++
	}
	m.seconds += took.Seconds()
	for i, bound := range buckets {
		if took.Seconds() <= bound {
			m.atMost[i]++
		}
	}
}

// write gives the text format 0.0.4.
func (m *metrics) write(w io.Writer) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	fmt.Fprintln(w, "# HELP http_requests_total Requests by answer.")
	fmt.Fprintln(w, "# TYPE http_requests_total counter")
	var all uint64
	for i, route := range served {
		fmt.Fprintf(w, "http_requests_total{code=\"200\",route=%q} %d\n", route, m.routes[i].ok)
		fmt.Fprintf(w, "http_requests_total{code=\"500\",route=%q} %d\n", route, m.routes[i].failed)
		all += m.routes[i].ok + m.routes[i].failed
	}
	fmt.Fprintln(w, "# HELP http_request_duration_seconds Time to answer.")
	fmt.Fprintln(w, "# TYPE http_request_duration_seconds histogram")
	for i, bound := range buckets {
		fmt.Fprintf(w, "http_request_duration_seconds_bucket{le=\"%g\"} %d\n", bound, m.atMost[i])
	}
	fmt.Fprintf(w, "http_request_duration_seconds_bucket{le=\"+Inf\"} %d\n", all)
	fmt.Fprintf(w, "http_request_duration_seconds_sum %g\n", m.seconds)
	fmt.Fprintf(w, "http_request_duration_seconds_count %d\n", all)
	fmt.Fprintln(w, "# HELP process_start_time_seconds Start of the process since the Unix epoch.")
	fmt.Fprintln(w, "# TYPE process_start_time_seconds gauge")
	fmt.Fprintf(w, "process_start_time_seconds %.3f\n", m.start)
}
