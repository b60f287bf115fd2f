//! The text that metrics endpoints speak (Prometheus text format 0.0.4 and OpenMetrics 1.0), and selectors on it.
