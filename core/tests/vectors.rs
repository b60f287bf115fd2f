//! The exact vectors of the decision procedure: whoever changes the arithmetic has to change them knowingly.

use rollbackd_core::statistics::dispersion::{Counts, dispersion};
use rollbackd_core::statistics::kl_upper::kl_upper;
use rollbackd_core::statistics::mixture::{Mixture, ONE_SAMPLE, Pair, TWO_SAMPLE, one_sample, two_sample};
use rollbackd_core::statistics::wellness::log_wellness;
use serde_json::Value;

const TOLERANCE: f64 = 1e-10;

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors/decision.json")).expect("the vectors are JSON")
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

#[track_caller]
fn assert_close(is: f64, should: f64) {
    assert!((is - should).abs() <= TOLERANCE, "{is} instead of {should}");
}

fn restart_weight(step: usize, others: f64) -> f64 {
    if step == 0 { 0.5 } else { 0.5 / others }
}

#[test]
fn v1_upper_limits() {
    let vectors = vectors();
    for case in list(&vectors["kl_upper"]) {
        assert_close(kl_upper(number(&case["x"]), number(&case["n"]), number(&case["level"])), number(&case["u"]));
    }
}

#[test]
fn v2_one_sample_against_a_boundary() {
    let vectors = vectors();
    for case in list(&vectors["sr_one_sample"]) {
        let mut mixture = Mixture::new(&ONE_SAMPLE);
        for (step, (counts, expected)) in list(&case["seq"]).iter().zip(list(&case["logE"])).enumerate() {
            mixture.step(restart_weight(step, 115.0), step, |tilt| {
                one_sample(tilt, number(&counts[1]), number(&counts[0]), number(&case["q"]), number(&case["C"]))
            });
            assert_close(mixture.log_evidence(), number(expected));
        }
    }
}

#[test]
fn v3_the_new_version_against_the_old_one() {
    let vectors = vectors();
    for case in list(&vectors["sr_two_sample"]) {
        let mut mixture = Mixture::new(&TWO_SAMPLE);
        for (step, (counts, expected)) in list(&case["seq_nc_xc_nb_xb"]).iter().zip(list(&case["logE"])).enumerate() {
            let pair = Pair {
                new_count: number(&counts[0]),
                new_failed: number(&counts[1]),
                old_count: number(&counts[2]),
                old_failed: number(&counts[3]),
            };
            mixture.step(restart_weight(step, 115.0), step, |tilt| two_sample(tilt, pair, number(&case["rho"]), number(&case["C"])));
            assert_close(mixture.log_evidence(), number(expected));
        }
    }
}

#[test]
fn v5_rounds_in_which_all_probes_fail() {
    let vectors = vectors();
    let case = &vectors["probes"];
    let cluster = number(&case["C"]);
    let upper = kl_upper(number(&case["all_fail_rounds"]) / cluster, number(&case["history_rounds"]) / cluster, 1e-4);
    assert_close(upper, number(&case["kl_upper"]));
    let mut mixture = Mixture::new(&ONE_SAMPLE);
    for (step, expected) in list(&case["logE_after_k_all_fail_rounds"]).iter().enumerate() {
        mixture.step(restart_weight(step, 359.0), step, |tilt| one_sample(tilt, 1.0, 1.0, upper.max(0.02), cluster));
        assert_close(mixture.log_evidence(), number(expected));
    }
}

#[test]
fn v6_proof_of_health() {
    let vectors = vectors();
    for case in list(&vectors["promotion"]) {
        let log_wellness = log_wellness(number(&case["x"]), number(&case["n"]), number(&case["b"]), number(&case["C"]));
        assert_close(log_wellness, number(&case["logE"]));
        assert_eq!(log_wellness >= 20.0_f64.ln(), case["promote"].as_bool().expect("yes or no"));
    }
}

#[test]
fn v7_index_of_dispersion() {
    let vectors = vectors();
    let case = &vectors["dispersion"];
    let history: Vec<Counts> =
        list(&case["x"]).iter().zip(list(&case["n"])).map(|(x, n)| Counts { count: number(n), failed: number(x) }).collect();
    for scale in [1, 2, 4] {
        assert_close(dispersion(&history, number(&case["phi0"]), &[scale]), number(&case["per_scale"][scale.to_string()]));
    }
    assert_close(dispersion(&history, number(&case["phi0"]), &[1, 2, 4]), number(&case["C"]));
}
