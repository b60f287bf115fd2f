//! What is said of a name that does not exist: which names there are. Whether it exists is the daemon's word.

use std::collections::BTreeSet;

use rollbackd_core::command::{Answer, Command};
use rollbackd_core::service::ServiceName;
use rollbackd_core::view::DeploymentView;
use rollbackd_core::words;

use super::Stop;
use super::client::Client;
use super::status;

/// So many names are listed; who has more of them knows where to look.
const MOST: usize = 10;

/// As many rows as the daemon gives.
const ROWS: usize = 1000;

/// After the daemon's `words` that a service, or something of it, does not exist.
pub async fn service(asked: &ServiceName, words: String, client: &Client) -> Stop {
    let Ok(status) = status::ask(None, client).await else { return Stop::Usage(words) };
    let known: Vec<String> = status.services.iter().map(|service| service.service.to_string()).collect();
    if known.iter().any(|known| known == asked.as_str()) {
        return Stop::Usage(words);
    }
    Stop::Unknown { words: format!("no service is called {asked}{}", did_you_mean(asked.as_str(), &known)), known: listed(known) }
}

/// After the daemon's word that it never saw a version of the service that is called so.
pub async fn version(service: &ServiceName, asked: &str, client: &Client) -> Stop {
    let rows = history(Some(service), client).await.unwrap_or_default();
    let mut seen = BTreeSet::new();
    let newest: Vec<&DeploymentView> = rows.iter().filter(|row| seen.insert(&row.version.id)).collect();
    let known = newest.iter().map(|row| {
        let mark = words::mark(row.mark);
        format!("#{} {} ({}, marked {mark})", row.deployment, row.version, words::status(row.status))
    });
    let words = format!("{service} was never seen in a version {asked:?}; say its name, its image, its identity or its number");
    Stop::Unknown { words, known: listed(known.collect()) }
}

/// The newest deployment of what a person calls a version.
pub async fn deployment_of(service: &ServiceName, asked: &str, client: &Client) -> Result<DeploymentView, Stop> {
    match history(Some(service), client).await?.into_iter().find(|row| row.is_called(asked)) {
        Some(row) => Ok(row),
        None => Err(version(service, asked, client).await),
    }
}

/// For a history that has nothing of an environment: whether there is such an environment at all.
pub async fn environment(service: Option<&ServiceName>, asked: &str, client: &Client) -> Result<(), Stop> {
    let configured = status::ask(service.cloned(), client).await?.services.into_iter().map(|service| service.environment);
    let past = history(service, client).await?.into_iter().map(|row| row.environment);
    let known: BTreeSet<String> = configured.chain(past).collect();
    if known.contains(asked) {
        return Ok(());
    }
    let known: Vec<String> = known.into_iter().collect();
    let of = service.map_or_else(String::new, |service| format!(" of {service}"));
    Err(Stop::Unknown { words: format!("no environment{of} is called {asked}{}", did_you_mean(asked, &known)), known: listed(known) })
}

async fn history(service: Option<&ServiceName>, client: &Client) -> Result<Vec<DeploymentView>, Stop> {
    match client.ask(&Command::History { service: service.cloned(), environment: None, limit: ROWS }).await? {
        Answer::History(rows) => Ok(rows),
        other => Err(Stop::Failed(format!("the daemon answered something else: {other:?}"))),
    }
}

fn listed(mut known: Vec<String>) -> Vec<String> {
    let more = known.len().saturating_sub(MOST);
    known.truncate(MOST);
    if more > 0 {
        known.push(format!("and {more} more"));
    }
    known
}

/// At most a third of its letters are wrong.
fn did_you_mean(asked: &str, known: &[String]) -> String {
    let near = known.iter().map(|known| (strsim::damerau_levenshtein(asked, known), known));
    let nearest = near.filter(|(distance, known)| *distance <= (known.chars().count() / 3).max(1)).min();
    nearest.map_or_else(String::new, |(_, known)| format!(": did you mean {known}?"))
}
