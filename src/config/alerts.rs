//! `[api]` and `[alerts]`: whether alerts are listened for, and which of them stands for which impact of which service.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use rollbackd_core::alert::{IMPACT_LABEL, Rule, Rules};
use rollbackd_core::service::ServiceName;
use rollbackd_core::severity::Impact;

use super::document::Problem;
use super::policy::{HOUR, MINUTE};
use super::reader::{Table, Value, nearest, quoted};
use super::signal::required_secret;
use crate::alerts::Settings;

/// More kinds of alerts than anybody tells apart.
const MOST_RULES: usize = 500;

/// `[api]`.
pub(super) fn api(table: Option<Table<'_>>) -> Option<Settings> {
    let table = table?;
    let listen = table.required("listen", EXAMPLE).and_then(|value| address(&value));
    let token = required_secret(&table, "token_file", "token_credential");
    table.finish();
    Some(Settings { listen: listen?, token: token? })
}

const EXAMPLE: &str = "listen = \"127.0.0.1:9470\"";

/// An address of this machine, as numbers: a name may mean another one tomorrow.
fn address(value: &Value<'_>) -> Option<SocketAddr> {
    let text = value.text(64, "\"127.0.0.1:9470\"")?;
    let wrong = match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => "has port 0".to_owned(),
        Ok(address) => {
            if !address.ip().is_loopback() {
                let problem = Problem::warning(value.span.clone(), "the token comes over the network without encryption");
                value.report(problem.help("listen at 127.0.0.1, or let only a trusted network or a proxy with TLS reach it"));
            }
            return Some(address);
        }
        Err(_) => format!("is not an address and a port: {}", quoted(text)),
    };
    value.refuse(format!("`{}` {wrong}", value.path), format!("for example `{EXAMPLE}`, or \"[::1]:9470\""));
    None
}

/// `[alerts]`. `listens` says whether anybody can deliver any.
pub(super) fn alerts(root: &Table<'_>, listens: bool) -> Rules {
    let mut rules = Rules::default();
    let Some(table) = root.table("alerts") else { return rules };
    if !listens {
        let problem = Problem::warning(table.span.clone(), "alerts are given a meaning, but nothing listens for them");
        table.report(problem.help("add `[api]` with `listen` and `token_file`"));
    }
    if let Some(label) = table.optional("service_label").and_then(|value| label_of(&value, value.text(128, "\"service\"")?)) {
        rules.service_label = label;
    }
    if let Some(pending) = table.optional("for").and_then(|value| value.signed_duration(std::time::Duration::ZERO..=24 * HOUR)) {
        rules.pending = pending;
    }
    if let Some(life) = table.optional("forgotten_after").and_then(|value| value.signed_duration(MINUTE..=7 * 24 * HOUR)) {
        rules.forgotten_after = life;
    }
    let services = services(root);
    let given = table
        .optional("rules")
        .and_then(|value| value.list(MOST_RULES, "[{ match = { severity = \"critical\" }, impact = \"data_corruption\" }]"));
    for value in given.unwrap_or_default() {
        let Some(rule) = value.table().and_then(|table| rule(table, &services)) else { continue };
        let hidden =
            rules.rules.iter().any(|earlier: &Rule| earlier.labels.iter().all(|(label, wanted)| rule.labels.get(label) == Some(wanted)));
        if hidden {
            let problem = Problem::warning(value.span.clone(), "no alert ever comes to this rule: one before it matches all of them");
            value.report(problem.help("put the rule with more labels first"));
        }
        rules.rules.push(rule);
    }
    table.finish();
    rules
}

/// The services that the file names, well or not.
fn services<'a>(root: &Table<'a>) -> Vec<&'a str> {
    let table = root.optional("services").filter(Value::is_table).and_then(|value| value.table());
    table.map(|table| table.values().into_iter().map(|(name, _)| name).collect()).unwrap_or_default()
}

fn rule(table: Table<'_>, services: &[&str]) -> Option<Rule> {
    let labels = table.required("match", "match = { severity = \"critical\", kind = \"corruption\" }").and_then(|value| labels(&value));
    let impacts = Impact::ALL.map(|impact| (impact.key(), impact));
    let impact = table.required("impact", "impact = \"data_corruption\"").and_then(|value| value.choice(&impacts));
    let service = table.optional("service").map(|value| service(&value, services));
    let pending = table.optional("for").and_then(|value| value.signed_duration(std::time::Duration::ZERO..=24 * HOUR));
    table.finish();
    let service = match service {
        None => None,
        Some(service) => Some(service?),
    };
    Some(Rule { labels: labels?, impact: impact?, service, pending })
}

/// Labels with their values. Without any it would match every alert there is.
fn labels(value: &Value<'_>) -> Option<BTreeMap<String, String>> {
    if value.is_empty_table() {
        value.refuse(format!("`{}` is empty, so that every alert would match", value.path), "name at least one label");
        return None;
    }
    let table = value.table()?;
    let read = |(label, wanted): (&str, Value<'_>)| {
        let label = label_of(&wanted, label);
        let text = wanted.text(1000, "\"critical\"")?;
        Some((label?, text.to_owned()))
    };
    let labels: Vec<_> = table.values().into_iter().map(read).collect();
    labels.into_iter().collect()
}

/// The name of a label, as Prometheus has them.
fn label_of(value: &Value<'_>, name: &str) -> Option<String> {
    let begins_well = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    if begins_well && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') && name != IMPACT_LABEL {
        return Some(name.to_owned());
    }
    let (wrong, help) = if name == IMPACT_LABEL {
        (format!("the label {IMPACT_LABEL} says by itself what an alert stands for"), "it needs no rule: remove it")
    } else {
        (format!("{} is not the name of a label", quoted(name)), "use letters, digits and `_`, not beginning with a digit")
    };
    value.refuse(wrong, help);
    None
}

fn service(value: &Value<'_>, services: &[&str]) -> Option<ServiceName> {
    let name = value.text(63, "\"checkout\"")?;
    if services.contains(&name) {
        return ServiceName::try_from(name).ok();
    }
    let help = match nearest(name, services) {
        Some(near) => format!("did you mean {}?", quoted(near)),
        None => format!("its alerts would be about nothing; there are: {}", services.join(", ")),
    };
    value.refuse(format!("no service is called {}", quoted(name)), help);
    None
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::super::{Config, Diagnostics, Environment, parse};
    use super::*;

    const SERVICE: &str = "[services.checkout]\nplatform.command = { current = [\"v\"], deploy = [\"d\"] }\n\
                           probes.ready.http = \"http://127.0.0.1:9/\"\n\
                           [notify.chat.webhook]\nurl = \"http://127.0.0.1:9/\"\n";
    const API: &str = "[api]\nlisten = \"127.0.0.1:9470\"\ntoken_credential = \"token\"\n";

    fn read(text: &str) -> Result<Config, Diagnostics> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("token"), "correct-horse").unwrap();
        let environment = Environment { credentials_directory: Some(directory.path().to_owned()), ..Environment::default() };
        parse(&format!("{SERVICE}{text}"), "rollbackd.toml", &environment)
    }

    #[test]
    fn nothing_listens_unless_it_is_configured() {
        let config = read("").unwrap();
        assert_eq!((config.api, config.alerts), (None, Rules::default()));
    }

    #[test]
    fn a_rule_says_what_an_alert_stands_for() {
        let text = "[alerts]\nservice_label = \"app\"\nfor = \"1m\"\nforgotten_after = \"2h\"\n\
                    [[alerts.rules]]\nmatch = { severity = \"critical\", kind = \"corruption\" }\nimpact = \"data_corruption\"\n\
                    [[alerts.rules]]\nmatch.severity = \"critical\"\nimpact = \"feature_broken\"\nservice = \"checkout\"\nfor = \"10m\"\n";
        let config = read(&format!("{API}{text}")).unwrap();
        assert!(config.warnings.is_empty(), "{}", config.warnings);
        assert_eq!(config.api.unwrap().listen, "127.0.0.1:9470".parse().unwrap());
        let rules = config.alerts;
        assert_eq!(
            (rules.service_label.as_str(), rules.pending, rules.forgotten_after),
            ("app", SignedDuration::from_mins(1), SignedDuration::from_hours(2))
        );
        let [first, second] = rules.rules.as_slice() else { panic!("{rules:?}") };
        assert_eq!((first.labels.len(), first.impact, &first.service, first.pending), (2, Impact::DataCorruption, &None, None));
        let checkout = ServiceName::try_from("checkout").unwrap();
        assert_eq!(
            (second.impact, &second.service, second.pending),
            (Impact::FeatureBroken, &Some(checkout), Some(SignedDuration::from_mins(10)))
        );
    }

    #[test]
    fn mistakes_are_told_with_words_that_help() {
        let rule = |lines: &str| format!("{API}[[alerts.rules]]\n{lines}\n");
        for (text, message, help) in [
            ("[api]\ntoken_credential = \"token\"\n".to_owned(), "`api` needs `listen`", "listen = \"127.0.0.1:9470\""),
            ("[api]\nlisten = \"127.0.0.1:9470\"\n".to_owned(), "`api` needs `token_file` or `token_credential`", ""),
            (
                "[api]\nlisten = \"localhost\"\ntoken_credential = \"token\"\n".to_owned(),
                "is not an address and a port: \"localhost\"",
                "[::1]:9470",
            ),
            ("[api]\nlisten = \"127.0.0.1:0\"\ntoken_credential = \"token\"\n".to_owned(), "has port 0", "127.0.0.1:9470"),
            (
                "[api]\nlisten = \"127.0.0.1:9470\"\ntoken = \"hunter2\"\n".to_owned(),
                "`token` would put a secret in the open",
                "token_credential",
            ),
            (rule("impact = \"data_corruption\""), "`alerts.rules` needs `match`", "match = {"),
            (rule("match = { severity = \"critical\" }"), "`alerts.rules` needs `impact`", "impact = "),
            (rule("match = {}\nimpact = \"data_corruption\""), "is empty, so that every alert would match", "at least one label"),
            (rule("match = { severity = 3 }\nimpact = \"data_corruption\""), "must be a text, not a number", ""),
            (rule("match = { \"a-b\" = \"c\" }\nimpact = \"data_corruption\""), "\"a-b\" is not the name of a label", "letters, digits"),
            (
                rule("match = { rollbackd_impact = \"c\" }\nimpact = \"data_corruption\""),
                "says by itself what an alert stands for",
                "remove it",
            ),
            (
                rule("match = { a = \"b\" }\nimpact = \"data_coruption\""),
                "can't be \"data_coruption\"",
                "did you mean \"data_corruption\"?",
            ),
            (
                rule("match = { a = \"b\" }\nimpact = \"data_corruption\"\nservice = \"chekout\""),
                "no service is called \"chekout\"",
                "did you mean \"checkout\"?",
            ),
            (rule("match = { a = \"b\" }\nimpact = \"data_corruption\"\nfor = \"10\""), "is not a duration", ""),
            (rule("mach = { a = \"b\" }\nimpact = \"data_corruption\""), "`mach` is not a key of `alerts.rules`", "did you mean `match`?"),
            (format!("{API}[alerts]\nrules = \"all\"\n"), "must be a list, not a text", ""),
        ] {
            let wrong = read(&text).expect_err(&text);
            let said = wrong
                .diagnostics
                .iter()
                .any(|said| said.message.contains(message) && said.help.as_deref().unwrap_or_default().contains(help));
            assert!(said && wrong.diagnostics.len() == 1, "{text}\n{wrong}");
            assert!(!wrong.to_string().contains("hunter2"), "{wrong}");
        }
    }

    #[test]
    fn what_was_hardly_meant_is_a_warning() {
        let rule = |labels: &str| format!("[[alerts.rules]]\nmatch = {{ {labels} }}\nimpact = \"data_corruption\"\n");
        for (text, expected) in [
            (rule("a = \"b\""), "nothing listens for them"),
            (format!("{API}{}{}", rule("a = \"b\""), rule("a = \"b\", c = \"d\"")), "no alert ever comes to this rule"),
            (API.replace("127.0.0.1", "0.0.0.0"), "without encryption"),
            ("[matrix.error_ratio]\nanswer_within = \"1h\"\n".to_owned(), "nobody is asked here"),
        ] {
            let config = read(&text).unwrap_or_else(|wrong| panic!("{wrong}"));
            assert_eq!(config.warnings.diagnostics.len(), 1, "{}", config.warnings);
            assert!(config.warnings.to_string().contains(expected), "{}", config.warnings);
        }
    }

    #[test]
    fn the_matrix_says_how_long_an_answer_is_waited_for_and_what_comes_then() {
        use rollbackd_core::severity::Choice;
        let config =
            read("[services.checkout.matrix.error_ratio]\nresponse = \"ask\"\nanswer_within = \"5m\"\nanswer_default = \"roll_back\"\n")
                .unwrap();
        assert!(config.warnings.is_empty(), "{}", config.warnings);
        let matrix = &config.services.values().next().unwrap().policy.matrix;
        assert_eq!((matrix.error_ratio.answer_within, matrix.error_ratio.answer_default), (SignedDuration::from_mins(5), Choice::RollBack));
        assert_eq!(
            (matrix.feature_broken.answer_within, matrix.feature_broken.answer_default),
            (SignedDuration::from_mins(30), Choice::Keep)
        );
    }
}
