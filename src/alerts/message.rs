//! Alertmanager's message, version 4 (<https://prometheus.io/docs/alerting/latest/configuration/#webhook_config>), and what is made of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use rollbackd_core::alert::Alert;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// So many alerts are taken in one message.
const MOST: usize = 1000;
/// The longest name of an alert, in characters. It stands in headlines.
const NAME_LIMIT: usize = 100;
/// The longest reason, in characters. It stays in the ledger for ever and goes out in notices.
const REASON_LIMIT: usize = 500;
/// The longest fingerprint; Alertmanager's has 16 letters.
const FINGERPRINT_LIMIT: usize = 64;

/// Why a message can't be read, in words for whoever configures the sender.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It is none.
    Malformed(String),
    /// It has too many alerts.
    TooMany(String),
}

#[derive(Deserialize)]
struct Message {
    version: String,
    alerts: Vec<Delivered>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Delivered {
    status: Status,
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    starts_at: Timestamp,
    /// The year 1 while it is not known.
    #[serde(default)]
    ends_at: Option<Timestamp>,
    #[serde(default)]
    fingerprint: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Firing,
    Resolved,
}

/// Reads a message.
pub(super) fn read(body: &[u8]) -> Result<Vec<Alert>, Unreadable> {
    let malformed = |why: String| Unreadable::Malformed(format!("this is no message of Alertmanager's webhook: {why}"));
    let message: Message = serde_json::from_slice(body).map_err(|error| malformed(error.to_string()))?;
    if message.version != "4" {
        return Err(malformed(format!(
            "its version is {:?}, and only \"4\" is known",
            message.version.chars().take(20).collect::<String>()
        )));
    }
    if message.alerts.len() > MOST {
        let words = format!(
            "the message has {} alerts, and at most {MOST} are taken at once: set `max_alerts: {MOST}` in webhook_configs",
            message.alerts.len()
        );
        return Err(Unreadable::TooMany(words));
    }
    Ok(message.alerts.into_iter().map(alert).collect())
}

fn alert(delivered: Delivered) -> Alert {
    let Delivered { status, labels, annotations, starts_at, ends_at, fingerprint } = delivered;
    let name = labels.get("alertname").map_or_else(|| "without a name".to_owned(), |name| one_line(name, NAME_LIMIT));
    let says =
        ["summary", "description", "message"].into_iter().find_map(|key| annotations.get(key)).filter(|says| !says.trim().is_empty());
    let reason = says.map_or_else(|| one_line(&listed(&labels), REASON_LIMIT), |says| one_line(says, REASON_LIMIT));
    let usual = (1..=FINGERPRINT_LIMIT).contains(&fingerprint.len()) && fingerprint.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let fingerprint = if usual { fingerprint } else { fingerprint_of(&labels) };
    Alert {
        name,
        fingerprint,
        reason,
        labels,
        firing: status == Status::Firing,
        starts: starts_at,
        ends: ends_at.filter(|ends| *ends > starts_at),
    }
}

/// `severity=critical, …`, without the name.
fn listed(labels: &BTreeMap<String, String>) -> String {
    let others = labels.iter().filter(|(label, _)| *label != "alertname").map(|(label, value)| format!("{label}={value}"));
    others.collect::<Vec<_>>().join(", ")
}

/// Without line breaks or anything else that speaks to a screen, and no longer than the limit.
fn one_line(text: &str, limit: usize) -> String {
    let spaced: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    let line = spaced.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= limit {
        return line;
    }
    line.chars().take(limit - 1).chain(['…']).collect()
}

/// The same labels are the same alert.
fn fingerprint_of(labels: &BTreeMap<String, String>) -> String {
    let mut hasher = Sha256::new();
    for (label, value) in labels {
        hasher.update(format!("{}:{label}{}:{value}", label.len(), value.len()));
    }
    hasher.finalize().iter().take(8).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Alertmanager's documentation, with values.
    const MESSAGE: &str = r#"{
      "version": "4", "groupKey": "{}:{alertname=\"WrongTotals\"}", "truncatedAlerts": 0, "status": "firing", "receiver": "rollbackd",
      "groupLabels": {"alertname": "WrongTotals"}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://alertmanager:9093",
      "alerts": [{
        "status": "firing",
        "labels": {"alertname": "WrongTotals", "service": "checkout", "severity": "critical"},
        "annotations": {"summary": "totals\n don't add up"},
        "startsAt": "2026-11-21T03:04:05.678+01:00", "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus:9090/graph", "fingerprint": "a1b2c3d4e5f60718"
      }]
    }"#;

    fn with(from: &str, to: &str) -> Result<Vec<Alert>, Unreadable> {
        assert!(MESSAGE.contains(from));
        read(MESSAGE.replacen(from, to, 1).as_bytes())
    }

    #[test]
    fn a_message_is_read_as_alertmanager_documents_it() {
        let alerts = read(MESSAGE.as_bytes()).unwrap();
        let [alert] = alerts.as_slice() else { panic!("{alerts:?}") };
        assert_eq!((alert.name.as_str(), alert.fingerprint.as_str(), alert.firing), ("WrongTotals", "a1b2c3d4e5f60718", true));
        assert_eq!(alert.reason, "totals don't add up");
        assert_eq!((alert.starts.to_string().as_str(), alert.ends), ("2026-11-21T02:04:05.678Z", None));
    }

    #[test]
    fn the_end_of_a_resolved_alert_is_known() {
        let alerts = with("\"0001-01-01T00:00:00Z\"", "\"2026-11-21T02:10:00Z\"").unwrap();
        assert_eq!(alerts[0].ends.unwrap().to_string(), "2026-11-21T02:10:00Z");
    }

    #[test]
    fn an_alert_without_words_is_told_by_its_labels_and_without_a_fingerprint_known_by_them() {
        let alerts = with("\"summary\"", "\"runbook\"").unwrap();
        assert_eq!(alerts[0].reason, "service=checkout, severity=critical");
        let [one, other] =
            ["\"fingerprint\": \"\"", "\"fingerprint\": \"\\u0007 odd\""].map(|to| with("\"fingerprint\": \"a1b2c3d4e5f60718\"", to));
        let fingerprint = &one.unwrap()[0].fingerprint;
        assert_eq!((fingerprint.len(), fingerprint), (16, &other.unwrap()[0].fingerprint));
    }

    #[test]
    fn what_is_no_message_is_refused_with_its_reason() {
        for (from, to, expected) in [
            ("\"version\": \"4\"", "\"version\": \"3\"", "its version is \"3\""),
            ("\"version\": \"4\", ", "", "missing field `version`"),
            ("2026-11-21T03:04:05.678+01:00", "yesterday", "line 8 column"),
            ("\"status\": \"firing\",\n", "\"status\": \"burning\",\n", "burning"),
            ("\"checkout\"", "7", "expected a string"),
        ] {
            let Err(Unreadable::Malformed(words)) = with(from, to) else { panic!("{to}") };
            assert!(words.starts_with("this is no message of Alertmanager's webhook: ") && words.contains(expected), "{words}");
        }
        assert!(matches!(read(b"\xff\xfe"), Err(Unreadable::Malformed(_))));
    }

    #[test]
    fn a_thousand_alerts_are_taken_and_no_more() {
        let of = |count: usize| {
            let alert = r#"{"status": "firing", "labels": {}, "startsAt": "2026-11-21T02:10:00Z"}"#;
            read(format!(r#"{{"version": "4", "alerts": [{}]}}"#, vec![alert; count].join(",")).as_bytes())
        };
        assert_eq!(of(1000).unwrap().len(), 1000);
        assert!(matches!(of(1001), Err(Unreadable::TooMany(words)) if words.contains("max_alerts: 1000")));
    }
}
