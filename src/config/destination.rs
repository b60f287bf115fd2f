//! `[notify.NAME]`: who is told, and how.

use std::collections::{BTreeMap, BTreeSet};

use rollbackd_core::severity::Severity;

use super::document::Problem;
use super::policy::SEVERITIES;
use super::reader::{Table, Value, quoted};
use super::signal::required_secret;
use super::value::{asks_for_secret, conceal_path, http_url, is_loopback, pem_file, secret, secret_in_credential, secret_in_file, url};
use super::{Destination, NotifierSettings};
use crate::notify::{email, webhook};
use crate::secret::Secret;

/// `[notify.NAME]`.
pub(super) fn destinations(root: &Table<'_>) -> BTreeMap<String, Destination> {
    let tables = root.named_tables("notify", 64);
    tables.into_iter().filter_map(|(name, table)| Some((name.to_string(), destination(table)?))).collect()
}

fn destination(table: Table<'_>) -> Option<Destination> {
    let kinds = table.exactly_one(&["email", "webhook"]);
    table.finish();
    let mut destinations: Vec<_> = kinds.iter().map(|(kind, value)| destination_of(kind, value)).collect();
    destinations.pop()?
}

fn destination_of(kind: &str, value: &Value<'_>) -> Option<Destination> {
    let table = value.table()?;
    let severities = table.optional("severities").map_or_else(BTreeSet::new, |value| severities(&value));
    let notifier = match kind {
        "email" => email(table).map(NotifierSettings::Email),
        _ => webhook(table).map(NotifierSettings::Webhook),
    };
    Some(Destination { notifier: notifier?, severities })
}

fn severities(value: &Value<'_>) -> BTreeSet<Severity> {
    let mut severities = BTreeSet::new();
    for value in value.list(16, "[\"P0\", \"P1\"]").unwrap_or_default() {
        let severity = value.choice(&SEVERITIES);
        if severity.is_some_and(|severity| !severities.insert(severity)) {
            value.report(Problem::error(value.span.clone(), format!("`{}` names it twice", value.path)).help("remove one of the two"));
        }
    }
    severities
}

fn email(table: Table<'_>) -> Option<email::Settings> {
    let server = table.required("smtp", "smtp = \"smtps://mail.example.org\"").and_then(|value| Some((mail_server(&value)?, value)));
    let ca_file = table.optional("ca_file").and_then(|value| pem_file(&value, "CERTIFICATE"));
    let login = login(&table);
    let from = table.required("from", "from = \"rollbackd@example.org\"").and_then(|value| mailbox(&value));
    let to = table.required("to", "to = [\"oncall@example.org\"]").and_then(|value| recipients(&value));
    if let Some(((host, _, email::Encryption::None), value)) = &server {
        if login.is_some() {
            value.refuse("a password is never sent over a connection that is not encrypted", "use smtps:// or smtp://, or remove `user`");
        } else if !is_loopback(host) {
            let problem = Problem::warning(value.span.clone(), "mail leaves this machine without encryption");
            value.report(problem.help("use smtps:// or smtp:// (STARTTLS)"));
        }
    }
    table.finish();
    let ((host, port, encryption), _) = server?;
    Some(email::Settings { host, port, encryption, ca_file, login, from: from?, to: to? })
}

fn mail_server(value: &Value<'_>) -> Option<(String, u16, email::Encryption)> {
    let url = url(value, &["smtps", "smtp", "smtp+plain"], "\"smtps://mail.example.org\"")?;
    if !url.username().is_empty() || url.password().is_some() {
        value.refuse(format!("`{}` has credentials inside the address", value.path), "take them out, and use `user` and `password_file`");
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() {
        value.refuse(format!("`{}` has more than a host and a port", value.path), "for example \"smtps://mail.example.org:465\"");
    }
    let (encryption, port) = match url.scheme() {
        "smtps" => (email::Encryption::Tls, 465),
        "smtp" => (email::Encryption::StartTls, 587),
        _ => (email::Encryption::None, 25),
    };
    Some((url.host_str()?.to_owned(), url.port().unwrap_or(port), encryption))
}

fn login(table: &Table<'_>) -> Option<(String, Secret)> {
    let Some(user) = table.optional("user") else {
        if asks_for_secret(table, "password_file", "password_credential") {
            table.lack(&["user"], "for example `user = \"rollbackd\"`".to_owned());
        }
        secret(table, "password_file", "password_credential");
        return None;
    };
    let user = user.text(256, "\"rollbackd\"").map(str::to_owned);
    let password = required_secret(table, "password_file", "password_credential");
    user.zip(password)
}

fn recipients(value: &Value<'_>) -> Option<Vec<String>> {
    let mut recipients = Vec::new();
    for value in value.list(100, "[\"oncall@example.org\"]")? {
        match mailbox(&value) {
            Some(mailbox) if recipients.contains(&mailbox) => {
                value.refuse(format!("`{}` names {} twice", value.path, quoted(&mailbox)), "remove one of the two");
            }
            Some(mailbox) => recipients.push(mailbox),
            None => {}
        }
    }
    Some(recipients)
}

/// `name@host`, or `Some Name <name@host>`, as far as can be told without the mail library.
fn mailbox(value: &Value<'_>) -> Option<String> {
    let text = value.text(320, "\"rollbackd@example.org\"")?;
    let address = match text.split_once('<') {
        Some((_, rest)) => rest.strip_suffix('>').unwrap_or_default(),
        None => text,
    };
    let good = |part: &str| !part.is_empty() && !part.contains([' ', '@', '<', '>', ',', ';', '"']);
    if address.split_once('@').is_some_and(|(user, host)| good(user) && good(host)) {
        return Some(text.to_owned());
    }
    value.refuse(
        format!("`{}` is not a mail address: {}", value.path, quoted(text)),
        "write \"name@example.org\" or \"Name <name@example.org>\"",
    );
    None
}

fn webhook(table: Table<'_>) -> Option<webhook::Settings> {
    let format =
        table.optional("format").and_then(|value| value.choice(&[("json", webhook::Format::Json), ("slack", webhook::Format::Slack)]));
    let format = format.unwrap_or(webhook::Format::Json);
    let url = address(&table, format);
    let secret = secret(&table, "secret_file", "secret_credential");
    let ca_file = table.optional("ca_file").and_then(|value| pem_file(&value, "CERTIFICATE"));
    table.finish();
    Some(webhook::Settings { url: url?, format, secret, ca_file })
}

fn address(table: &Table<'_>, format: webhook::Format) -> Option<webhook::Address> {
    if let Some(value) = table.optional("url") {
        conceal_path(table.document, &value);
    }
    let given = table.exactly_one(&["url", "url_file", "url_credential"]);
    let plain = given.iter().find(|(key, _)| *key == "url").map(|(_, value)| plain_address(value, format));
    let file = given.iter().find(|(key, _)| *key == "url_file").map(|(_, value)| secret_in_file(value));
    let credential = given.iter().find(|(key, _)| *key == "url_credential").map(|(_, value)| secret_in_credential(value));
    plain.or_else(|| Some(file.or(credential)?.map(webhook::Address::Secret)))?
}

fn plain_address(value: &Value<'_>, format: webhook::Format) -> Option<webhook::Address> {
    let url = http_url(value)?;
    if format == webhook::Format::Slack && !url.host_str().is_some_and(is_loopback) {
        let problem = Problem::warning(value.span.clone(), "the address of a chat's webhook is a secret, and stands in the open");
        value.report(problem.help("keep it in a file or a systemd credential: `url_file` or `url_credential`"));
    }
    Some(webhook::Address::Plain(url))
}
