package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// behaviour is how well or badly a version serves. Its zero value, apart from the name, is a good one.
type behaviour struct {
	version    string
	failRatio  float64       // share of requests answered with 500
	failRoute  string        // the route on which each request is answered with 500
	burst      burst         // a larger share now and then
	dependency string        // the address that each request asks first; 500 unless it is well
	latency    time.Duration // added to each request
	health     string        // of /healthz: ok, fail or slow
	ready      bool          // of /readyz
	crashAfter time.Duration // 0: never
}

// burst is a share of requests that fails for a while, again and again. It goes by the wall clock, so that all replicas have it at
// the same time, and all versions.
type burst struct {
	ratio float64
	lasts time.Duration
	every time.Duration // 0: never
}

// lingering is how long a server goes on after SIGTERM: kube-proxy needs 0.1 to 0.3 s to take it out.
const lingering = 500 * time.Millisecond

// slowHealth is longer than any timeout a probe in our tests has, and shorter than a test's patience.
const slowHealth = 10 * time.Second

func behaviourFromEnvironment() (behaviour, error) {
	b := behaviour{
		version:    environment("STUB_VERSION", "unnamed"),
		failRoute:  environment("FAIL_ROUTE", ""),
		dependency: environment("DEPENDENCY", ""),
		health:     environment("HEALTH", "ok"),
		ready:      environment("READY", "yes") == "yes",
	}
	var err error
	if b.failRatio, err = strconv.ParseFloat(environment("FAIL_RATIO", "0"), 64); err != nil {
		return b, fmt.Errorf("FAIL_RATIO: %w", err)
	}
	if b.burst, err = burstFromEnvironment(); err != nil {
		return b, err
	}
	if b.latency, err = time.ParseDuration(environment("LATENCY", "0s")); err != nil {
		return b, fmt.Errorf("LATENCY: %w", err)
	}
	seconds, err := strconv.ParseFloat(environment("CRASH_AFTER", "0"), 64)
	if err != nil {
		return b, fmt.Errorf("CRASH_AFTER: %w", err)
	}
	b.crashAfter = time.Duration(seconds * float64(time.Second))
	switch b.health {
	case "ok", "fail", "slow":
		return b, nil
	default:
		return b, fmt.Errorf("HEALTH: %q is none of ok, fail, slow", b.health)
	}
}

// burstFromEnvironment reads BURST=RATIO/LASTS/EVERY, as in 0.3/6s/20s.
func burstFromEnvironment() (burst, error) {
	var b burst
	text := environment("BURST", "")
	if text == "" {
		return b, nil
	}
	parts := strings.Split(text, "/")
	if len(parts) != 3 {
		return b, fmt.Errorf("BURST: %q is not RATIO/LASTS/EVERY", text)
	}
	var err error
	if b.ratio, err = strconv.ParseFloat(parts[0], 64); err != nil {
		return b, fmt.Errorf("BURST: %w", err)
	}
	if b.lasts, err = time.ParseDuration(parts[1]); err != nil {
		return b, fmt.Errorf("BURST: %w", err)
	}
	if b.every, err = time.ParseDuration(parts[2]); err != nil {
		return b, fmt.Errorf("BURST: %w", err)
	}
	if b.every <= 0 {
		return b, fmt.Errorf("BURST: %q comes too often", text)
	}
	return b, nil
}

// at is the share that fails then.
func (b burst) at(now time.Time) float64 {
	if b.every > 0 && time.Duration(now.UnixNano())%b.every < b.lasts {
		return b.ratio
	}
	return 0
}

func environment(name, otherwise string) string {
	if value, set := os.LookupEnv(name); set {
		return value
	}
	return otherwise
}

func serve() error {
	b, err := behaviourFromEnvironment()
	if err != nil {
		return err
	}
	if b.crashAfter > 0 {
		time.AfterFunc(b.crashAfter, func() { log.Fatalf("crash after %v, as told", b.crashAfter) })
	}
	server := &http.Server{Addr: environment("LISTEN", ":8080"), Handler: routes(b)}
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	go func() {
		<-stop.Done()
		// The Service's rules learn of a leaving pod a moment later; until then requests still come.
		time.Sleep(lingering)
		// What still runs then is a slow /healthz, which nobody waits for.
		soon, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = server.Shutdown(soon)
		os.Exit(0)
	}()
	log.Printf("version %s on %s", b.version, server.Addr)
	return server.ListenAndServe()
}

// code is the answer to the next request for a route.
func (b behaviour) code(ctx context.Context, m *metrics, route string) int {
	if route == b.failRoute || b.dependency != "" && !isWell(ctx, b.dependency) {
		return http.StatusInternalServerError
	}
	return m.nextCode(max(b.failRatio, b.burst.at(time.Now())))
}

// isWell asks a dependency.
func isWell(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode == http.StatusOK
}

func routes(b behaviour) http.Handler {
	m := newMetrics()
	mux := http.NewServeMux()
	for i, route := range served {
		pattern := route
		if route == "/" {
			pattern = "/{$}"
		}
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			begun := time.Now()
			time.Sleep(b.latency)
			code := b.code(r.Context(), m, route)
			m.observe(i, code, time.Since(begun))
			w.WriteHeader(code)
			fmt.Fprintf(w, "%s says %d\n", b.version, code)
		})
	}
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, r *http.Request) {
		switch b.health {
		case "fail":
			w.WriteHeader(http.StatusInternalServerError)
		case "slow":
			select {
			case <-time.After(slowHealth):
			case <-r.Context().Done():
			}
		}
		fmt.Fprintln(w, b.health)
	})
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !b.ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		fmt.Fprintln(w, b.ready)
	})
	mux.HandleFunc("/version", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, b.version) })
	mux.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		m.write(w)
	})
	return mux
}
