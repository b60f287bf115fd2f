//! Values that mean something outside the file: addresses, files, secrets, selectors. They are checked as far as that is possible without
//! asking anybody.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use url::Url;

use super::document::{Document, Problem};
use super::reader::{Table, Value, quoted};
use crate::secret::Secret;
use crate::signal::selector::Selector;

/// No address is longer. In bytes.
const LONGEST_URL: usize = 2048;

/// Files of certificates and keys are not longer. In bytes.
const LONGEST_PEM: u64 = 1024 * 1024;

/// An HTTP address without a password in it.
pub(super) fn http_url(value: &Value<'_>) -> Option<Url> {
    let url = url(value, &["http", "https"], "\"http://127.0.0.1:8080/healthz\"")?;
    if !url.username().is_empty() || url.password().is_some() {
        value.refuse(
            format!("`{}` has credentials inside the address", value.path),
            "take them out, and use `basic = { user = \"…\", password_file = \"…\" }`",
        );
        return None;
    }
    Some(url)
}

/// An address with one of some schemes and a host.
pub(super) fn url(value: &Value<'_>, schemes: &[&str], example: &str) -> Option<Url> {
    let text = value.text(LONGEST_URL, example)?;
    let begins = schemes.iter().map(|scheme| format!("{scheme}://")).collect::<Vec<_>>().join(" or ");
    let wrong = match Url::parse(text) {
        Ok(url) if !schemes.contains(&url.scheme()) => format!("does not begin with {begins}"),
        // The parser forgives `http:/host` and `http:host`; whoever wrote that meant something else.
        Ok(url) if !text.starts_with(&format!("{}://", url.scheme())) => format!("does not begin with {begins}"),
        Ok(url) if url.host_str().is_none_or(str::is_empty) => "has no host".to_owned(),
        Ok(url) if url.port() == Some(0) => "has port 0".to_owned(),
        Ok(url) => return Some(url),
        Err(url::ParseError::RelativeUrlWithoutBase) => format!("does not begin with {begins}"),
        Err(error) => format!("is not an address: {error}"),
    };
    value.refuse(format!("`{}` {wrong}", value.path), format!("for example {example}"));
    None
}

/// A path, relative to the file's directory unless it is absolute. It need not exist.
pub(super) fn path(value: &Value<'_>) -> Option<PathBuf> {
    value.text(4096, "\"/etc/rollbackd/…\"").map(|text| value.document.resolve(text))
}

/// A file that can be read.
pub(super) fn readable_file(value: &Value<'_>) -> Option<PathBuf> {
    let path = path(value)?;
    is_readable(value, &path).then_some(path)
}

/// It asks what a path is before it opens it: opening a pipe would wait for ever.
fn is_readable(value: &Value<'_>, path: &Path) -> bool {
    if value.document.environment.without_secrets {
        return true;
    }
    let opened =
        std::fs::metadata(path).and_then(|metadata| if metadata.is_file() { std::fs::File::open(path).map(Some) } else { Ok(None) });
    match &opened {
        Ok(Some(_)) => {}
        Ok(None) => value.refuse(format!("`{}` is not a file: {}", value.path, path.display()), "name a file"),
        Err(error) => unreadable(value, path, error),
    }
    matches!(opened, Ok(Some(_)))
}

fn unreadable(value: &Value<'_>, path: &Path, error: &std::io::Error) {
    let help = match error.kind() {
        std::io::ErrorKind::NotFound => "create the file, or correct its path",
        std::io::ErrorKind::PermissionDenied => "let the daemon's user read it",
        _ => "see to it that the daemon can read it",
    };
    let why = error.to_string();
    let why = why.split(" (os error").next().unwrap_or_default().to_lowercase();
    value.refuse(format!("`{}` can't be read: {}: {why}", value.path, path.display()), help);
}

/// A file of PEM blocks, at least one with `kind` in its name.
pub(super) fn pem_file(value: &Value<'_>, kind: &str) -> Option<PathBuf> {
    let path = readable_file(value)?;
    if value.document.environment.without_secrets {
        return Some(path);
    }
    let mut content = Vec::new();
    match std::fs::File::open(&path).and_then(|file| file.take(LONGEST_PEM + 1).read_to_end(&mut content)) {
        Err(error) => unreadable(value, &path, &error),
        Ok(_) if content.len() as u64 > LONGEST_PEM => {
            value.refuse(format!("`{}` is longer than 1 MiB: {}", value.path, path.display()), "name a PEM file");
        }
        Ok(_) => {
            let content = String::from_utf8_lossy(&content);
            if content.lines().any(|line| line.starts_with("-----BEGIN ") && line.contains(kind)) {
                return Some(path);
            }
            value.refuse(
                format!("`{}` holds no {}: {}", value.path, kind.to_lowercase(), path.display()),
                format!("name a PEM file with a `-----BEGIN {kind}-----`"),
            );
        }
    }
    None
}

/// A secret by one of two keys, `…_file` or `…_credential`, if either is there.
pub(super) fn secret(table: &Table<'_>, file: &'static str, credential: &'static str) -> Option<Secret> {
    let (in_file, in_credential) = (table.optional(file), table.optional(credential));
    if let (Some(_), Some(value)) = (&in_file, &in_credential) {
        let message = format!("`{}` has both `{file}` and `{credential}`", table.path);
        table.report(Problem::error(value.key_span(), message).help("keep one of the two"));
    }
    let in_file = in_file.map(|value| secret_in_file(&value));
    in_file.or(in_credential.map(|value| secret_in_credential(&value)))?
}

/// A secret in a file.
pub(super) fn secret_in_file(value: &Value<'_>) -> Option<Secret> {
    checked_secret(value, Secret::File(path(value)?))
}

/// A secret in a systemd credential.
pub(super) fn secret_in_credential(value: &Value<'_>) -> Option<Secret> {
    checked_secret(value, Secret::Credential(credential_path(value)?))
}

fn credential_path(value: &Value<'_>) -> Option<PathBuf> {
    let name = value.text(255, "\"smtp-password\"")?;
    if name.contains('/') || name.starts_with('.') {
        value.refuse(
            format!("`{}` is not the name of a credential: {}", value.path, quoted(name)),
            "write the name alone, as in `LoadCredential=NAME:PATH`",
        );
        return None;
    }
    if value.document.environment.without_secrets {
        return Some(PathBuf::from(name));
    }
    let Some(directory) = &value.document.environment.credentials_directory else {
        value.refuse(
            format!("`{}` asks for the credential {}, but there are none: $CREDENTIALS_DIRECTORY is not set", value.path, quoted(name)),
            format!("add `LoadCredential={name}:PATH` to the unit; to check by hand, set $CREDENTIALS_DIRECTORY"),
        );
        return None;
    };
    Some(directory.join(name))
}

/// Reads a secret once, so that a missing one is found now and not in the hour of need.
fn checked_secret(value: &Value<'_>, secret: Secret) -> Option<Secret> {
    use crate::secret::SecretError;
    if !is_readable(value, secret.path()) {
        return None;
    }
    if value.document.environment.without_secrets {
        return Some(secret);
    }
    match secret.read() {
        Ok(_) => return Some(secret),
        Err(SecretError::Unreadable { path, source }) => unreadable(value, &path, &source),
        Err(error @ SecretError::Absurd { .. }) => {
            value.refuse(format!("`{}`: {error}", value.path), "put the secret, and nothing else, into the file");
        }
    }
    None
}

/// Whether a secret was asked for by either key, well or not.
pub(super) fn asks_for_secret(table: &Table<'_>, file: &'static str, credential: &'static str) -> bool {
    table.optional(file).is_some() || table.optional(credential).is_some()
}

/// What a selector of counters may be, for whoever wrote something else.
const SELECTOR_FORM: &str = "name the raw counter with its matchers, such as 'http_requests_total{code=~\"5..\"}'; the daemon does rates and \
                             windows";

/// A plain instant vector selector, read as whoever asks for its series reads it, and its text.
pub(super) fn selector(value: &Value<'_>) -> Option<(String, Selector)> {
    let text = value.text(4096, "'http_requests_total{service=\"shop\"}'")?;
    match Selector::parse(text) {
        Ok(selector) => Some((text.to_owned(), selector)),
        Err(error) => {
            value.refuse(format!("`{}` is {error}", value.path), SELECTOR_FORM);
            None
        }
    }
}

/// What keeps a text from being an expression of PromQL, as far as quotes and brackets tell.
pub(super) fn query_fault(text: &str) -> Option<String> {
    let mut open = Vec::new();
    let mut signs = text.chars();
    while let Some(sign) = signs.next() {
        match sign {
            '"' | '\'' | '`' if !skip_quoted(&mut signs, sign) => return Some("a quote is not closed".to_owned()),
            '#' => drop(signs.by_ref().find(|end| *end == '\n')),
            '(' => open.push(')'),
            '[' => open.push(']'),
            '{' => open.push('}'),
            ')' | ']' | '}' if open.pop() != Some(sign) => return Some(format!("'{sign}' closes nothing")),
            _ => {}
        }
    }
    open.pop().map(|lacking| format!("a '{lacking}' is missing"))
}

/// Goes on behind the closing quote; false when there is none.
fn skip_quoted(signs: &mut std::str::Chars<'_>, quote: char) -> bool {
    while let Some(sign) = signs.next() {
        match sign {
            _ if sign == quote => return true,
            '\\' if quote != '`' => drop(signs.next()),
            _ => {}
        }
    }
    false
}

/// A list of HTTP addresses, or one; no two the same. Empty when one of them is wrong.
pub(super) fn http_urls(value: &Value<'_>, most: usize) -> Option<Vec<Url>> {
    let values = value.one_or_list(most)?;
    let mut urls: Vec<Url> = Vec::with_capacity(values.len());
    let mut all = true;
    for value in &values {
        match http_url(value) {
            Some(url) if urls.contains(&url) => {
                value.refuse(format!("`{}` has the same address twice", value.path), "remove one of the two");
            }
            Some(url) => urls.push(url),
            None => all = false,
        }
    }
    all.then_some(urls)
}

/// Whether an address is on this very machine.
pub(super) fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Keeps what follows the host of an address from being drawn: the path of a chat's webhook is its password.
pub(super) fn conceal_path(document: &Document<'_>, value: &Value<'_>) {
    document.conceal(document.path_of_address(value.span.clone()));
}
