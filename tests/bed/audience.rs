//! The people who hear of a story: a webhook's receiver and a mailbox.

use std::collections::BTreeSet;
use std::fs;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::parts::{variable, wait_for};

/// Who is told.
#[derive(Debug)]
pub struct Audience {
    /// The name of the mailbox at example.org.
    pub mailbox: String,
    /// Everything that the webhook's receiver got, oldest first.
    pub hooks: Arc<Mutex<Vec<Value>>>,
    /// The webhook's address.
    pub webhook: String,
}

impl Audience {
    /// Nobody has heard of anything yet.
    pub async fn new(mailbox: String) -> Self {
        let hooks = Arc::new(Mutex::new(Vec::new()));
        let webhook = receive(hooks.clone()).await;
        Self { mailbox, hooks, webhook }
    }

    /// Waits until a notice of this kind arrived at the webhook.
    pub fn wait_for_notice(&self, kind: &str) {
        wait_for(&format!("a notice of kind {kind} arrived"), || self.notices().iter().any(|(known, _)| known == kind));
    }

    /// What arrived at the webhook: kind and id, each once, oldest first.
    pub fn notices(&self) -> Vec<(String, String)> {
        let hooks = self.hooks.lock().expect("no story panics with it");
        let mut ids = BTreeSet::new();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let all = hooks.iter().map(|hook| (text(&hook["kind"]), text(&hook["id"])));
        all.filter(|(_, id)| ids.insert(id.clone())).collect()
    }

    /// The kinds of notices that arrived at the webhook, oldest first, sorted by their entries.
    pub fn kinds(&self) -> Vec<String> {
        let mut notices = self.notices();
        notices.sort_by_key(|(_, id)| id.rsplit_once('-').and_then(|(_, number)| number.parse::<u64>().ok()));
        notices.into_iter().map(|(kind, _)| kind).collect()
    }

    /// The first notice of a kind.
    pub fn notice(&self, kind: &str) -> Value {
        let hooks = self.hooks.lock().expect("no story panics with it");
        hooks.iter().find(|hook| hook["kind"] == kind).cloned().unwrap_or_else(|| panic!("no notice of kind {kind} arrived"))
    }

    /// Every notice of a kind as text, oldest first.
    pub fn texts(&self, kind: &str) -> Vec<String> {
        let hooks = self.hooks.lock().expect("no story panics with it");
        hooks.iter().filter(|hook| hook["kind"] == kind).map(Value::to_string).collect()
    }

    /// The mails that the mail server took for us.
    pub fn mails(&self) -> Vec<Value> {
        let mails = fs::read_to_string(variable("BED_SMTP_MAILS")).unwrap_or_default();
        let mails = mails.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        mails.filter(|mail| mail["to"].to_string().contains(&format!("\"{}@example.org\"", self.mailbox))).collect()
    }

    /// Everybody heard of each turn once, by mail and by webhook.
    pub fn assert_heard_once(&self, kinds: &[&str]) {
        wait_for("every notice arrived", || self.kinds().len() >= kinds.len() && self.mails().len() >= kinds.len());
        assert_eq!(self.kinds(), kinds);
        assert_eq!(self.hooks.lock().expect("no story panics with it").len(), kinds.len(), "a webhook arrived more than once");
        assert_eq!(self.mails().len(), kinds.len(), "a mail arrived more than once");
    }
}

/// Receives webhooks and keeps their bodies.
async fn receive(hooks: Arc<Mutex<Vec<Value>>>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("it is bound"));
    let keep = move |axum::Json(body): axum::Json<Value>| async move {
        hooks.lock().expect("no story panics with it").push(body);
    };
    let router = axum::Router::new().route("/", axum::routing::post(keep));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}
