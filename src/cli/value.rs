//! Values of arguments: names, moments and lengths of time as people type them.

use clap::ValueEnum;
use jiff::{SignedDuration, Timestamp};
use rollbackd_core::entry::{DeploymentId, Scope};
use rollbackd_core::service::{NotAName, ServiceName};
use rollbackd_core::severity::Impact;
use rollbackd_core::version::ChangeKind;

use super::Stop;

/// The name of a service.
pub fn service(text: &str) -> Result<ServiceName, NotAName> {
    ServiceName::try_from(text)
}

/// A row of the matrix, as the configuration or as people write it: `data_corruption`, `data-corruption`, `data corruption`.
pub fn impact(text: &str) -> Result<Impact, String> {
    let said = text.trim().to_lowercase().replace(['-', ' '], "_");
    let known = Impact::ALL.map(Impact::key);
    if let Some(impact) = Impact::ALL.into_iter().find(|impact| impact.key() == said) {
        return Ok(impact);
    }
    let near = known.into_iter().map(|known| (strsim::damerau_levenshtein(&said, known), known));
    // One word of it is enough to be understood, but not to be taken at it.
    let near = near.filter(|(distance, known)| *distance <= known.len() / 3 || known.split('_').any(|word| said.contains(word))).min();
    let near = near.map(|(_, near)| near).or_else(|| meant(&said));
    let hint = near.map_or_else(String::new, |near| format!("did you mean {near}? "));
    let what = if matches!(said.as_str(), "p0" | "p1" | "p2" | "p3") {
        "that is a severity, which follows from what is wrong"
    } else {
        "no impact is called so"
    };
    Err(format!("{what}; {hint}there are: {}", known.join(", ")))
}

/// What people call it who don't know the names.
fn meant(said: &str) -> Option<&'static str> {
    let words = [
        ("slow", Impact::Performance),
        ("latency", Impact::Performance),
        ("down", Impact::CompleteOutage),
        ("unavailable", Impact::CompleteOutage),
        ("leak", Impact::SecurityBreach),
        ("5xx", Impact::ErrorRatio),
        ("lost", Impact::DataCorruption),
    ];
    words.into_iter().find(|(word, _)| said.contains(word)).map(|(_, impact)| impact.key())
}

/// The number of a deployment, `12` or `#12`.
pub fn deployment(text: &str) -> Result<DeploymentId, String> {
    let number = text.strip_prefix('#').unwrap_or(text);
    number.parse().map(DeploymentId).map_err(|_| "not the number of a deployment, as in `rollbackd history`".to_owned())
}

/// A length of time: `90s`, `2h 30m`.
pub fn length(text: &str) -> Result<SignedDuration, String> {
    let length = humantime::parse_duration(text).map_err(|error| format!("{error} (as in 90s, 15m or 2h)"))?;
    match SignedDuration::try_from(length) {
        Ok(length) if length.is_positive() => Ok(length),
        Ok(_) => Err("must be longer than nothing".to_owned()),
        Err(_) => Err("is too long".to_owned()),
    }
}

/// A moment in the past: `5m` or `5m ago`, or a time with its zone.
pub fn moment(text: &str) -> Result<Timestamp, String> {
    before(text, Timestamp::now())
}

fn before(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let moment = if let Ok(moment) = text.parse::<Timestamp>() {
        moment
    } else {
        let ago = length(text.trim_end_matches("ago").trim_end())
            .map_err(|_| "neither a length of time ago (5m) nor a time with its zone (2026-11-21T03:04:05Z)".to_owned())?;
        now.checked_sub(ago).map_err(|_| "is too long ago".to_owned())?
    };
    if moment > now { Err("is in the future".to_owned()) } else { Ok(moment) }
}

/// A reason: something that can be read later.
pub fn reason(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("must say something".to_owned()),
        long if long.len() > 1000 => Err("must be at most 1000 bytes".to_owned()),
        reason => Ok(reason.to_owned()),
    }
}

/// One service or all of them.
#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Which {
    /// The service.
    #[arg(value_parser = service)]
    service: Option<ServiceName>,
    /// All services.
    #[arg(long)]
    all: bool,
}

impl Which {
    /// As the daemon calls it.
    pub fn scope(self) -> Result<Scope, Stop> {
        match (self.service, self.all) {
            (Some(service), false) => Ok(Scope::Service(service)),
            (None, true) => Ok(Scope::All),
            (None, false) | (Some(_), true) => Err(Stop::Usage("say a service or --all".to_owned())),
        }
    }
}

/// What a deployment carries.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Change {
    /// Code only.
    Code,
    /// Configuration or infrastructure.
    Configuration,
    /// A migration that can be reversed, by a person.
    ReversibleMigration,
    /// A migration that can't: never rolled back by itself.
    IrreversibleMigration,
    /// A migration that failed half way: never rolled back by itself.
    FailedMigration,
}

impl From<Change> for ChangeKind {
    fn from(change: Change) -> Self {
        match change {
            Change::Code => Self::Code,
            Change::Configuration => Self::Configuration,
            Change::ReversibleMigration => Self::ReversibleMigration,
            Change::IrreversibleMigration => Self::IrreversibleMigration,
            Change::FailedMigration => Self::FailedMigration,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_said_as_people_say_it_and_never_lies_in_the_future() {
        let now: Timestamp = "2026-11-21T03:10:00Z".parse().unwrap();
        let five_past = "2026-11-21T03:05:00Z".parse();
        for text in ["5m", "5m ago", "5m  ago", "2026-11-21T03:05:00Z", "2026-11-21T04:05:00+01:00", "300s"] {
            assert_eq!(before(text, now).ok(), five_past.as_ref().ok().copied(), "{text}");
        }
        for text in ["", "ago", "yesterday", "0s", "2026-11-21T03:11:00Z", "-5m", "99999999999y"] {
            assert!(before(text, now).is_err(), "{text}");
        }
    }

    #[test]
    fn an_impact_is_called_as_people_write_it_and_a_wrong_one_is_told_what_it_may_have_meant() {
        for text in ["data_corruption", "data-corruption", "Data Corruption"] {
            assert_eq!(impact(text), Ok(Impact::DataCorruption));
        }
        for (text, near) in [
            ("data_coruption", "data_corruption"),
            ("corruption", "data_corruption"),
            ("breach", "security_breach"),
            ("feature", "feature_broken"),
            ("slow", "performance"),
            ("data-loss, orders lost", "data_corruption"),
            ("it's down", "complete_outage"),
        ] {
            let words = impact(text).unwrap_err();
            assert!(words.contains(&format!("did you mean {near}?")), "{text}: {words}");
        }
        assert!(impact("doom").unwrap_err().starts_with("no impact is called so; there are: complete_outage, "));
        assert!(impact("P0").unwrap_err().starts_with("that is a severity, which follows from what is wrong; there are: "));
    }

    #[test]
    fn a_length_is_longer_than_nothing() {
        assert_eq!(length("2h 30m"), Ok(SignedDuration::from_mins(150)));
        for text in ["", "0s", "2", "-1h", "forever"] {
            assert!(length(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_deployment_is_named_by_its_number_with_or_without_a_hash() {
        assert_eq!(deployment("12"), Ok(DeploymentId(12)));
        assert_eq!(deployment("#12"), Ok(DeploymentId(12)));
        assert!(deployment("v12").is_err());
    }
}
