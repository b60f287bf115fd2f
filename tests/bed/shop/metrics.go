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

// metrics counts the requests for /. Both codes are there from the start at 0: a series that appears
// only with the first error has no increase, and hides just that error.
type metrics struct {
	start float64

	mutex    sync.Mutex
	ok       uint64
	failed   uint64
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

func (m *metrics) observe(code int, took time.Duration) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if code == http.StatusOK {
		m.ok++
	} else {
		m.failed++
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
	fmt.Fprintln(w, "# HELP http_requests_total Requests for / by answer.")
	fmt.Fprintln(w, "# TYPE http_requests_total counter")
	fmt.Fprintf(w, "http_requests_total{code=\"200\"} %d\n", m.ok)
	fmt.Fprintf(w, "http_requests_total{code=\"500\"} %d\n", m.failed)
	fmt.Fprintln(w, "# HELP http_request_duration_seconds Time to answer /.")
	fmt.Fprintln(w, "# TYPE http_request_duration_seconds histogram")
	for i, bound := range buckets {
		fmt.Fprintf(w, "http_request_duration_seconds_bucket{le=\"%g\"} %d\n", bound, m.atMost[i])
	}
	fmt.Fprintf(w, "http_request_duration_seconds_bucket{le=\"+Inf\"} %d\n", m.ok+m.failed)
	fmt.Fprintf(w, "http_request_duration_seconds_sum %g\n", m.seconds)
	fmt.Fprintf(w, "http_request_duration_seconds_count %d\n", m.ok+m.failed)
	fmt.Fprintln(w, "# HELP process_start_time_seconds Start of the process since the Unix epoch.")
	fmt.Fprintln(w, "# TYPE process_start_time_seconds gauge")
	fmt.Fprintf(w, "process_start_time_seconds %.3f\n", m.start)
}
