//! Rows of the matrix that nothing tells by itself: no mistake, but who relies on them should know. Services that lack the same are named
//! together.

use std::collections::{BTreeMap, BTreeSet};

use rollbackd_core::service::{Service, ServiceName, SignalPolicy};
use rollbackd_core::severity::Impact;
use serde::Serialize;

use crate::config::Config;

/// So many services are named in a line.
const NAMED: usize = 3;

/// Rows that no signal of some services tells.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unseen {
    /// The services.
    pub services: Vec<ServiceName>,
    /// The rows, worst first.
    pub impacts: Vec<Impact>,
}

/// What no signal tells, of every service; those of which everything is told are left out.
pub fn all(config: &Config) -> Vec<Unseen> {
    let mut grouped: BTreeMap<Vec<Impact>, Vec<ServiceName>> = BTreeMap::new();
    for (name, guarded) in &config.services {
        grouped.entry(of(&guarded.policy)).or_default().push(name.clone());
    }
    grouped.into_iter().filter(|(impacts, _)| !impacts.is_empty()).map(|(impacts, services)| Unseen { services, impacts }).collect()
}

fn of(service: &Service) -> Vec<Impact> {
    // The platform itself tells of a complete outage.
    let told: BTreeSet<Impact> = service.signals.values().flat_map(SignalPolicy::tells).chain([Impact::CompleteOutage]).collect();
    Impact::ALL.into_iter().filter(|impact| !told.contains(impact)).collect()
}

impl Unseen {
    /// `checkout, billing and 3 more: no signal tells data_corruption …`.
    pub fn in_words(&self) -> String {
        let named: Vec<&str> = self.services.iter().take(NAMED).map(ServiceName::as_str).collect();
        let more = match self.services.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let impacts: Vec<&str> = self.impacts.iter().map(|impact| impact.key()).collect();
        let lacks = |impact| self.impacts.contains(&impact);
        let mut remedies = Vec::new();
        if lacks(Impact::ErrorRatio) || lacks(Impact::FeatureBroken) {
            remedies.push("`errors`");
        }
        if lacks(Impact::Performance) {
            remedies.push("`latency`");
        }
        remedies.push("`impacts` (a query of your own)");
        format!(
            "{}{more}: no signal tells {}; add {}, or tell it by an alert or `rollbackd declare`",
            named.join(", "),
            impacts.join(", "),
            remedies.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, parse};

    fn config(services: &str) -> Config {
        let mail = "[notify.oncall.email]\nsmtp = \"smtps://mail\"\nfrom = \"a@example.org\"\nto = [\"b@example.org\"]\n";
        let prometheus = "[prometheus.main]\nurl = \"http://prometheus:9090\"\n";
        parse(&format!("{mail}{prometheus}{services}"), "x.toml", &Environment::default()).unwrap_or_else(|wrong| panic!("{wrong}"))
    }

    fn service(name: &str, signal: &str) -> String {
        format!("[services.{name}]\nplatform.command = {{ current = [\"{name}\"], deploy = [\"deploy\"] }}\n[services.{name}.{signal}\n")
    }

    const PROBE: &str = "probes.ready]\nhttp = \"http://checkout/healthz\"";
    const ERRORS: &str = "errors]\nprometheus = \"main\"\ntotal = 'r'\nfailed = 'r{code=\"500\"}'";

    #[test]
    fn services_that_lack_the_same_are_named_together() {
        let unseen = all(&config(&(service("a", PROBE) + &service("b", ERRORS) + &service("c", PROBE))));
        let names: Vec<Vec<&str>> = unseen.iter().map(|unseen| unseen.services.iter().map(ServiceName::as_str).collect()).collect();
        assert_eq!(names, [vec!["a", "c"], vec!["b"]]);
        let words: Vec<String> = unseen.iter().map(Unseen::in_words).collect();
        assert!(
            words[1].starts_with("b: no signal tells data_corruption, security_breach, performance, minor_fault; add `latency`"),
            "{words:?}"
        );
        assert!(words[0].contains("feature_broken") && words[0].contains("add `errors`, `latency`"), "{words:?}");
    }

    #[test]
    fn many_services_are_counted_and_not_all_named() {
        let many: String = ["a", "b", "c", "d", "e"].iter().map(|name| service(name, PROBE)).collect();
        assert!(all(&config(&many))[0].in_words().starts_with("a, b, c and 2 more: "));
    }
}
