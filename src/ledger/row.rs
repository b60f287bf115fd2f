//! An entry as a row of a table: its body as JSON, what people search by, and the digest that chains it to the row before. No SQL here.

use jiff::Timestamp;
use rollbackd_core::entry::Entry;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The largest body: 1 MiB, four times the largest artifact. A larger one is a fault of the daemon, not a fact.
pub(super) const LIMIT: usize = 1024 * 1024;

/// An entry, ready to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// The service it is about, if it is about one.
    pub service: Option<String>,
    /// Which fact it is: `rollback_planned`.
    pub kind: String,
    /// All of it, as JSON. May hold what an environment holds: never show it.
    pub body: String,
}

/// An entry that must not be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unwritable {
    /// It is larger than [`LIMIT`].
    #[error("the entry `{kind}` takes {size} bytes, more than {LIMIT}")]
    TooLarge {
        /// Which fact.
        kind: String,
        /// Of its body, in bytes.
        size: usize,
    },
    /// It would not be understood when it is read again, so it would lock the daemon out of its own ledger.
    #[error("the entry `{kind}` could not be read back: it holds something that JSON can't, such as an infinite number")]
    NotReadable {
        /// Which fact.
        kind: String,
    },
}

/// Makes a row of an entry, and says what the row will be read as. The two can differ in the last digits of a number; who goes on with the
/// second has after a restart exactly the state that it had before.
pub(super) fn encode(entry: &Entry) -> Result<(Row, Entry), Unwritable> {
    let value = serde_json::to_value(entry).unwrap_or(Value::Null);
    let kind = value.as_object().and_then(|fact| fact.keys().next()).cloned().unwrap_or_else(|| "unknown".to_owned());
    let service = entry.service().map(ToString::to_string);
    let body = value.to_string();
    if body.len() > LIMIT {
        return Err(Unwritable::TooLarge { kind, size: body.len() });
    }
    match decode(&body) {
        Some(read) => Ok((Row { service, kind, body }, read)),
        None => Err(Unwritable::NotReadable { kind }),
    }
}

/// Reads an entry. `None` when this version doesn't understand it; the parser's words are left out, as they may quote a secret.
pub(super) fn decode(body: &str) -> Option<Entry> {
    serde_json::from_str(body).ok()
}

/// The link of the chain that a row makes.
pub(super) type Digest = [u8; 32];

/// What the first row is chained to.
pub(super) const NO_DIGEST: Digest = [0; 32];

/// The digest of a row. Only the body, which comes last, can hold a line break, so no two rows are hashed as the same bytes.
pub(super) fn digest(before: &Digest, seq: u64, at: Timestamp, row: &Row) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update(before);
    hasher.update(format!("{seq}\n{at}\n{}\n{}\n", row.service.as_deref().unwrap_or_default(), row.kind));
    hasher.update(&row.body);
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use rollbackd_core::entry::{Actor, DeploymentId, Mark, MarkReason, Scope};
    use rollbackd_core::service::ServiceName;
    use rollbackd_core::version::VersionId;

    use super::*;

    fn checkout() -> ServiceName {
        ServiceName::try_from("checkout").expect("a good name")
    }

    #[test]
    fn a_row_says_its_kind_and_its_service() {
        let held = Entry::Held { scope: Scope::Service(checkout()), by: Actor::Daemon, reason: String::new(), until: None };
        let marked = Entry::Marked {
            service: checkout(),
            version: VersionId("v1".to_owned()),
            mark: Mark::Good,
            by: Actor::Operator("ann".to_owned()),
            reason: MarkReason::PassedWindow(DeploymentId(2)),
        };
        let of_all = Entry::Resumed { scope: Scope::All, by: Actor::Daemon };
        for (entry, kind, service) in [(held, "held", Some("checkout")), (marked, "marked", Some("checkout")), (of_all, "resumed", None)] {
            let (row, read) = encode(&entry).expect("a small entry");
            assert_eq!((row.kind.as_str(), row.service.as_deref()), (kind, service));
            assert_eq!(read, entry);
        }
    }

    #[test]
    fn what_could_not_be_read_back_is_not_written() {
        let entry = Entry::WindowPassed { service: checkout(), deployment: DeploymentId(2), log_evidence: f64::INFINITY };
        assert_eq!(encode(&entry), Err(Unwritable::NotReadable { kind: "window_passed".to_owned() }));
    }

    #[test]
    fn an_entry_may_take_a_mebibyte_and_no_more() {
        let of_size = |size: usize| Entry::LedgerBegun { ledger: "x".repeat(size) };
        let frame = encode(&of_size(0)).expect("a small entry").0.body.len();
        assert!(encode(&of_size(LIMIT - frame)).is_ok());
        assert_eq!(encode(&of_size(LIMIT - frame + 1)), Err(Unwritable::TooLarge { kind: "ledger_begun".to_owned(), size: LIMIT + 1 }));
    }

    #[test]
    fn a_digest_depends_on_every_part_of_its_row_and_on_the_row_before() {
        let row = Row { service: Some("a".to_owned()), kind: "b".to_owned(), body: "c".to_owned() };
        let at = Timestamp::UNIX_EPOCH;
        let digests = [
            digest(&NO_DIGEST, 1, at, &row),
            digest(&[1; 32], 1, at, &row),
            digest(&NO_DIGEST, 2, at, &row),
            digest(&NO_DIGEST, 1, Timestamp::MAX, &row),
            digest(&NO_DIGEST, 1, at, &Row { service: None, ..row.clone() }),
            digest(&NO_DIGEST, 1, at, &Row { kind: "d".to_owned(), ..row.clone() }),
            digest(&NO_DIGEST, 1, at, &Row { body: "d".to_owned(), ..row.clone() }),
        ];
        for (index, one) in digests.iter().enumerate() {
            assert!(digests[..index].iter().all(|other| other != one), "digest {index} is not its own");
        }
    }
}
