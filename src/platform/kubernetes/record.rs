//! What a rollback writes on the object that it changes, and how that is read again. For the daemon: [`RECORD`], which lets a replica with
//! an empty ledger carry on from the object alone. For people who look at the object: the other annotations, never read back.

use std::collections::BTreeMap;

use rollbackd_core::plan::{Effect, EffectRecord};
use rollbackd_core::version::{ChangeKind, VersionId};

use super::words::{bounded, message};

/// JSON of an [`EffectRecord`].
pub(super) const RECORD: &str = "rollbackd.dev/record";
/// What kind of change the workload's author says it carries.
pub(super) const CHANGE: &str = "rollbackd.dev/change";
const PLAN: &str = "rollbackd.dev/plan";
const KNOWN_BAD: &str = "rollbackd.dev/known-bad";
const REASON: &str = "rollbackd.dev/reason";
/// Shown by `kubectl rollout history`.
const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";

/// A record that is longer is not ours: 20 known bad versions of 256 bytes fit.
const RECORD_LIMIT: usize = 8 * 1024;

/// The annotations of an effect that leaves the version `to` behind.
pub(super) fn annotations(effect: &Effect, to: &VersionId) -> BTreeMap<&'static str, String> {
    let record = bounded_record(effect, to);
    let known_bad: Vec<&str> = record.known_bad.iter().map(|id| id.0.as_str()).collect();
    let cause = format!("rollbackd: back to {} from {} ({}): {}", effect.to, effect.from, effect.plan, effect.reason);
    BTreeMap::from([
        (RECORD, json(&record)),
        (PLAN, bounded(&effect.plan, 256)),
        (KNOWN_BAD, known_bad.join(", ")),
        (REASON, message(&effect.reason)),
        (CHANGE_CAUSE, message(&cause)),
    ])
}

/// The record on an object. One that is absurd is none: it must not blind us to the object itself.
pub(super) fn read(annotations: &BTreeMap<String, String>) -> Option<EffectRecord> {
    let text = annotations.get(RECORD).filter(|text| text.len() <= RECORD_LIMIT)?;
    serde_json::from_str(text).ok()
}

/// What kind of change the object says it carries. A word that we don't know was still written to warn us, so it is taken for the one
/// that is never rolled back automatically; a missed rollback is told to people, a wrong one over a migration destroys data.
pub(super) fn change(annotations: &BTreeMap<String, String>) -> Option<ChangeKind> {
    let word = annotations.get(CHANGE)?.trim();
    match word {
        "" => None,
        "code" => Some(ChangeKind::Code),
        "configuration" => Some(ChangeKind::Configuration),
        "reversible-migration" => Some(ChangeKind::ReversibleMigration),
        "failed-migration" => Some(ChangeKind::FailedMigration),
        _ => Some(ChangeKind::IrreversibleMigration),
    }
}

/// The record without as many of the oldest known bad versions as it takes to be short enough.
fn bounded_record(effect: &Effect, to: &VersionId) -> EffectRecord {
    let mut record =
        EffectRecord { plan: effect.plan.clone(), from: effect.from.id.clone(), to: to.clone(), known_bad: effect.known_bad.clone() };
    while json(&record).len() > RECORD_LIMIT && !record.known_bad.is_empty() {
        record.known_bad.remove(0);
    }
    record
}

fn json(record: &EffectRecord) -> String {
    serde_json::to_string(record).expect("texts and lists of texts can always be written as JSON")
}

#[cfg(test)]
mod tests {
    use super::super::testing::effect;
    use super::*;

    fn on_object(effect: &Effect) -> BTreeMap<String, String> {
        annotations(effect, &effect.to.id).into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    #[test]
    fn what_was_written_is_read_again() {
        let mut effect = effect();
        effect.known_bad = vec![VersionId("bad1".to_owned()), VersionId("bad2".to_owned())];

        let record = read(&on_object(&effect)).expect("a record");

        assert_eq!(record, EffectRecord { plan: effect.plan.clone(), from: effect.from.id, to: effect.to.id, known_bad: effect.known_bad });
    }

    #[test]
    fn a_record_that_would_be_too_long_loses_its_oldest_bad_versions() {
        let mut effect = effect();
        effect.known_bad = (0..100).map(|number| VersionId(format!("{number:0>256}"))).collect();

        let record = read(&on_object(&effect)).expect("short enough to be read");

        assert!(record.known_bad.len() >= 20);
        assert_eq!(record.known_bad.last(), effect.known_bad.last());
    }

    #[test]
    fn an_absurd_record_is_none() {
        for text in ["", "{", "[]", "{\"plan\":7}", &"x".repeat(RECORD_LIMIT + 1)] {
            assert_eq!(read(&BTreeMap::from([(RECORD.to_owned(), text.to_owned())])), None);
        }
        assert_eq!(read(&BTreeMap::new()), None);
    }

    #[test]
    fn a_kind_of_change_that_nobody_knows_is_taken_for_the_most_careful_one() {
        let said = |word: &str| change(&BTreeMap::from([(CHANGE.to_owned(), word.to_owned())]));
        assert_eq!(said("code"), Some(ChangeKind::Code));
        assert_eq!(said(" reversible-migration "), Some(ChangeKind::ReversibleMigration));
        assert_eq!(said("irreversibel-migration"), Some(ChangeKind::IrreversibleMigration));
        assert_eq!(said(""), None);
        assert_eq!(change(&BTreeMap::new()), None);
    }
}
