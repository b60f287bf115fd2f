//! What is deployed: a version, by an identity that outlives names and tags.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The identity of a version: equal exactly when the same thing would run. On Kubernetes a digest of the pod template, elsewhere what
/// the platform calls the version. At most 256 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VersionId(pub String);

impl fmt::Display for VersionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A version: its identity and the name people know it by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version {
    /// Its identity.
    pub id: VersionId,
    /// What people call it: `shop:v2`, `revision 7`, a commit. At most 512 bytes; never parsed.
    pub name: String,
}

impl Version {
    /// Whether a person who says this means it: its name, its image (what stands before ` #` in the name), or its identity.
    #[must_use]
    pub fn is_called(&self, asked: &str) -> bool {
        self.id.0 == asked || self.name == asked || self.name.split(" #").next() == Some(asked)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name)
    }
}

/// The ledger's own copy of what a version is, in the platform's own form: a pod template as JSON, a version's name for a command.
/// It may hold what an environment holds, so it never shows in a log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Artifact(pub String);

impl Artifact {
    /// Larger ones are not kept: 256 KiB, a quarter of what etcd takes for a whole object.
    pub const LIMIT: usize = 256 * 1024;
}

impl fmt::Debug for Artifact {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Artifact({} bytes)", self.0.len())
    }
}

/// What kind of change a deployment carried; it picks the way back (PRODUCT section 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// Code only: the last known good version is redeployed.
    #[default]
    Code,
    /// Configuration or infrastructure: as code.
    Configuration,
    /// A migration that can be reversed, by a person as long as no hook is configured.
    ReversibleMigration,
    /// A migration that can't: never automatically.
    IrreversibleMigration,
    /// A migration that failed half way: never automatically.
    FailedMigration,
}
