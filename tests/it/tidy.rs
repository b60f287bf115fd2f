//! Who may import whom, and that no file names a place of somebody's machine. The rules are data, at the top; the reading of Rust below
//! is by text, and knows no more than paths: what a file says outside comments, strings and tests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The roles and the trait that makes a type an adapter.
const ROLES: [(&str, &str); 4] = [("ledger", "Ledger"), ("platform", "Platform"), ("signal", "Signal"), ("notify", "Notifier")];

/// What the core must not name; the compiler keeps crates away that its manifest doesn't list, clippy.toml keeps the rest.
const NOT_IN_THE_CORE: [&str; 16] = [
    "tokio",
    "kube",
    "k8s_openapi",
    "futures",
    "reqwest",
    "axum",
    "rusqlite",
    "rustix",
    "tracing",
    "rollbackd",
    "std::time::SystemTime",
    "std::time::Instant",
    "std::env",
    "std::fs",
    "std::net",
    "std::process",
];

/// What the loop and the executor may name of this package.
const FOR_THE_DAEMON: [&str; 9] = ["clock", "daemon", "executor", "history", "secret", "ledger", "platform", "signal", "notify"];

/// Where the parts are put together.
const COMPOSERS: [&str; 4] = ["app", "cli", "main", "lib"];

/// A path as it stands in the code, resolved: `crate::ledger::sqlite::Sqlite`, `std::env::var`.
type Name = Vec<String>;

#[test]
fn who_may_import_whom() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources: BTreeMap<PathBuf, String> = ["src", "core/src"]
        .iter()
        .flat_map(|folder| files_in(&root.join(folder)))
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| (path.strip_prefix(root).expect("is inside").to_owned(), std::fs::read_to_string(&path).expect("is text")))
        .collect();
    assert!(sources.contains_key(Path::new("src/ledger/sqlite.rs")) && sources.contains_key(Path::new("core/src/entry.rs")));
    let broken = broken_rules(&sources);
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn no_file_names_a_place_of_somebodys_machine() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = places_of(root);
    let found: Vec<String> = files_in(root)
        .into_iter()
        .flat_map(|path| {
            let text = String::from_utf8_lossy(&std::fs::read(&path).expect("can be read")).into_owned();
            let named: Vec<String> = places.iter().filter(|place| names_place(&text, place)).cloned().collect();
            named.into_iter().map(move |place| format!("{} names {place}, which is only on somebody's machine", path.display()))
        })
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The homes of people, and the folder at the top that holds this checkout, unless every machine has that one.
fn places_of(root: &Path) -> Vec<String> {
    let everywhere = ["bin", "boot", "dev", "etc", "lib", "media", "mnt", "opt", "proc", "run", "srv", "sys", "tmp", "usr", "var"];
    let top = root.components().nth(1).map(|top| top.as_os_str().to_string_lossy().into_owned());
    let mut places: Vec<String> = ["root", "home", "Users"].map(|home| format!("/{home}/")).to_vec();
    places.extend(top.filter(|top| !everywhere.contains(&top.as_str())).map(|top| format!("/{top}/")));
    places
}

/// Whether the place stands in the text as the beginning of a path, not in the middle of a longer one.
fn names_place(text: &str, place: &str) -> bool {
    let is_beginning = |at: usize| !text[..at].ends_with(|before: char| before.is_alphanumeric() || "_-.}/~".contains(before));
    text.match_indices(place).any(|(at, _)| is_beginning(at))
}

/// All files in a folder and below, but for what the tools make.
fn files_in(folder: &Path) -> Vec<PathBuf> {
    let made = ["target", ".git", "mutants.out", "node_modules", "__pycache__"];
    let entries = std::fs::read_dir(folder).expect("can be listed").map(|entry| entry.expect("can be listed"));
    let mut files = Vec::new();
    for entry in entries.filter(|entry| !made.iter().any(|name| entry.file_name() == *name)) {
        let kind = entry.file_type().expect("has a kind");
        if kind.is_dir() {
            files.extend(files_in(&entry.path()));
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    files
}

/// One sentence for each name that stands where it may not.
fn broken_rules(sources: &BTreeMap<PathBuf, String>) -> Vec<String> {
    let tests = test_files(sources);
    let shipped: BTreeMap<&PathBuf, BTreeSet<Name>> = sources
        .iter()
        .filter(|(path, _)| !tests.iter().any(|test| path.starts_with(test) || **path == test.with_extension("rs")))
        .map(|(path, text)| (path, names(path, text)))
        .collect();
    let adapters = adapters(sources);
    let modules: BTreeSet<Name> = sources.keys().map(|path| module_of(path)).collect();
    let mut broken = Vec::new();
    for (path, names) in &shipped {
        for name in names {
            if let Some(rule) = broken_rule(path, name, &modules, &adapters) {
                broken.push(format!("{} names {}: {rule}", path.display(), name.join("::")));
            }
        }
    }
    broken
}

/// The rule that a name breaks in a file.
fn broken_rule(path: &Path, name: &Name, modules: &BTreeSet<Name>, adapters: &BTreeSet<Name>) -> Option<&'static str> {
    if path.starts_with("core") {
        let is_banned = NOT_IN_THE_CORE.iter().any(|banned| begins_with(name, banned));
        return is_banned.then_some("the core imports nothing of the rest, no clock, no environment and no system");
    }
    let own = module_of(path).get(1).cloned().unwrap_or_else(|| "lib".to_owned());
    let own = if path == Path::new("src/main.rs") { "main".to_owned() } else { own };
    if COMPOSERS.contains(&own.as_str()) {
        return None;
    }
    let first = name.get(1).filter(|_| name[0] == "crate")?;
    let is_role = |module: &str| ROLES.iter().any(|(role, _)| *role == module);
    if is_role(&own) {
        let is_allowed = *first == own || first == "secret";
        return (!is_allowed).then_some("a role imports the core and `crate::secret`, never another role nor what stands above it");
    }
    let names_adapter = adapters.iter().any(|adapter| name.starts_with(adapter));
    if own == "daemon" || own == "executor" || own == "history" {
        let names_below = is_role(first) && name.len() > 2 && modules.contains(&name[..3]);
        return if names_below || names_adapter {
            Some("the daemon and the executor know the roles' traits, never an adapter")
        } else if FOR_THE_DAEMON.contains(&first.as_str()) {
            None
        } else {
            Some("the daemon and the executor import the core, the roles' traits, the clock and each other")
        };
    }
    names_adapter.then_some("only `app`, `cli` and `main` name an adapter")
}

fn begins_with(name: &Name, path: &str) -> bool {
    let path: Vec<&str> = path.split("::").collect();
    name.len() >= path.len() && name.iter().zip(&path).all(|(name, path)| name == path)
}

/// The module that a file is: `src/ledger/sqlite.rs` is `crate::ledger::sqlite`.
fn module_of(path: &Path) -> Name {
    let inside: Vec<String> = path.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    let skipped = inside.iter().position(|part| part == "src").map_or(0, |at| at + 1);
    let below = inside[skipped..].iter().filter(|part| !["lib", "main", "mod"].contains(&part.as_str())).cloned();
    std::iter::once("crate".to_owned()).chain(below).collect()
}

/// The types that implement a role's trait in a file below the role.
fn adapters(sources: &BTreeMap<PathBuf, String>) -> BTreeSet<Name> {
    let mut adapters = BTreeSet::new();
    for (path, text) in sources {
        let tokens = tokens(text);
        let module = module_of(path);
        for three in tokens.windows(3) {
            let is_adapter = ROLES.iter().any(|(role, made_by)| module.get(1).is_some_and(|own| own == role) && three[0] == *made_by);
            if is_adapter && three[1] == "for" {
                adapters.insert(module.iter().cloned().chain([three[2].clone()]).collect());
            }
        }
    }
    adapters
}

/// The modules that are declared for tests only, as folders: `src/ledger/contract`.
fn test_files(sources: &BTreeMap<PathBuf, String>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for (path, text) in sources {
        let is_root = path.file_stem().is_some_and(|stem| stem == "lib" || stem == "main");
        let folder = if is_root { path.with_file_name("") } else { path.with_extension("") };
        let tokens = tokens_with_tests(text);
        let marked = tokens.windows(TEST_MARK.len() + 3).filter(|window| is_test_mark(window) && window[TEST_MARK.len()] == "mod");
        found.extend(marked.filter(|window| window[TEST_MARK.len() + 2] == ";").map(|window| folder.join(&window[TEST_MARK.len() + 1])));
    }
    found
}

const TEST_MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];

fn is_test_mark(tokens: &[String]) -> bool {
    tokens.len() >= TEST_MARK.len() && tokens.iter().zip(TEST_MARK).all(|(token, mark)| token == mark)
}

/// All names in a file that begin with a crate or a module, each resolved by the file's own imports.
fn names(path: &Path, text: &str) -> BTreeSet<Name> {
    let tokens = tokens(text);
    let module = module_of(path);
    let mut names = BTreeSet::new();
    let mut imported: BTreeMap<String, Name> = BTreeMap::new();
    let mut code = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at] == "use" && tokens.get(at + 1).is_some_and(|next| next != "<") {
            at = import(&tokens, at + 1, &Vec::new(), &mut |alias, name| {
                let name = absolute(&name, &module);
                imported.insert(alias, name.clone());
                names.insert(name);
            });
        } else {
            code.push(tokens[at].clone());
            at += 1;
        }
    }
    at = 0;
    while at < code.len() {
        let begin = at;
        while code.get(at + 1).is_some_and(|next| next == "::") && code.get(at + 2).is_some_and(|next| is_word(next)) {
            at += 2;
        }
        if at > begin && is_word(&code[begin]) {
            let name: Name = code[begin..=at].iter().step_by(2).cloned().collect();
            names.insert(match imported.get(&name[0]) {
                Some(import) => import.iter().chain(&name[1..]).cloned().collect(),
                None => absolute(&name, &module),
            });
        }
        at += 1;
    }
    names
}

/// Reads one tree of an import from `at`, hands over each leaf with the name it has from there on, and returns where the tree ends.
fn import(tokens: &[String], mut at: usize, before: &Name, each: &mut dyn FnMut(String, Name)) -> usize {
    let mut name = before.clone();
    while let Some(token) = tokens.get(at) {
        match token.as_str() {
            "::" => at += 1,
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token != "}") {
                    at = import(tokens, at, &name, each);
                    at += usize::from(tokens.get(at).is_some_and(|token| token == ","));
                }
                return at + 1;
            }
            "as" => {
                each(tokens.get(at + 1).cloned().unwrap_or_default(), name);
                return at + 2;
            }
            word if is_word(word) || word == "*" => {
                if word != "self" || name.is_empty() {
                    name.push(word.to_owned());
                }
                at += 1;
            }
            _ => break,
        }
    }
    each(name.last().cloned().unwrap_or_default(), name);
    at
}

/// A path from the crate's root: `super::Ledger` in `crate::ledger::sqlite` is `crate::ledger::Ledger`.
fn absolute(name: &Name, module: &Name) -> Name {
    let ups = name.iter().take_while(|word| *word == "super").count();
    match name[0].as_str() {
        "self" => module.iter().chain(&name[1..]).cloned().collect(),
        "super" => module[..module.len().saturating_sub(ups).max(1)].iter().chain(&name[ups..]).cloned().collect(),
        _ => name.clone(),
    }
}

fn is_word(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// The tokens of a file without what is only for tests: whatever follows `#[cfg(test)]`, up to the end of its braces or its semicolon.
fn tokens(text: &str) -> Vec<String> {
    let all = tokens_with_tests(text);
    let mut shipped = Vec::new();
    let mut at = 0;
    while at < all.len() {
        if is_test_mark(&all[at..]) {
            at = end_of_item(&all, at + TEST_MARK.len());
        } else {
            shipped.push(all[at].clone());
            at += 1;
        }
    }
    shipped
}

fn end_of_item(tokens: &[String], begin: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(begin) {
        match token.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && (token == "}" || token == ";") {
            return at + 1;
        }
    }
    tokens.len()
}

/// Words, `::` and single signs; comments are left out, and strings and characters become one sign.
fn tokens_with_tests(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = literal(rest) {
            tokens.push("\"".to_owned());
            length
        } else if rest.starts_with("::") {
            tokens.push("::".to_owned());
            2
        } else if first.is_alphanumeric() || first == '_' {
            let length = rest.find(|next: char| !next.is_alphanumeric() && next != '_').unwrap_or(rest.len());
            tokens.push(rest[..length].to_owned());
            length
        } else {
            if !first.is_whitespace() {
                tokens.push(first.to_string());
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    tokens
}

/// How long the string or character is that `rest` begins with, if it begins with one.
fn literal(rest: &str) -> Option<usize> {
    let raw = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'));
    if let Some(raw) = raw {
        let hashes = raw.chars().take_while(|sign| *sign == '#').count();
        if raw[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let opening = rest.len() - raw.len() + hashes + 1;
            return Some(rest[opening..].find(&end).map_or(rest.len(), |at| opening + at + end.len()));
        }
    }
    let plain = rest.strip_prefix('b').unwrap_or(rest);
    let quote = plain.chars().next().filter(|first| *first == '"' || *first == '\'')?;
    let opening = rest.len() - plain.len() + 1;
    // `'a` without a second quote behind one character (or an escape) is a lifetime.
    let mut inside = rest[opening..].chars();
    if quote == '\'' && inside.next() != Some('\\') && inside.next() != Some('\'') {
        return None;
    }
    let mut escaped = false;
    for (at, sign) in rest[opening..].char_indices() {
        if !escaped && sign == quote {
            return Some(opening + at + 1);
        }
        escaped = !escaped && sign == '\\';
    }
    Some(rest.len())
}

/// Sources with one more file, and the sentences about it.
fn broken_by(path: &str, text: &str) -> Vec<String> {
    let mut sources = BTreeMap::from([
        (PathBuf::from("src/ledger.rs"), "pub mod sqlite; pub trait Ledger {}".to_owned()),
        (PathBuf::from("src/ledger/sqlite.rs"), "use super::Ledger; pub struct Sqlite; impl Ledger for Sqlite {}".to_owned()),
        (PathBuf::from("src/platform/command.rs"), "pub struct Settings; pub struct Program; impl Platform for Program {}".to_owned()),
    ]);
    sources.insert(PathBuf::from(path), text.to_owned());
    broken_rules(&sources)
}

#[test]
fn the_rules_see_what_breaks_them() {
    let breaking = [
        ("core/src/decide.rs", "use tokio::time::Instant;"),
        ("core/src/decide.rs", "fn now() { std::time::SystemTime::now(); }"),
        ("core/src/decide.rs", "use std::{collections::BTreeMap, env};"),
        ("core/src/decide.rs", "use std::time; fn f(at: time::SystemTime) {}"),
        ("src/signal/probe.rs", "use crate::platform::Report;"),
        ("src/signal/probe.rs", "use super::super::config::Config;"),
        ("src/signal.rs", "fn f(clock: crate::clock::Clock) {}"),
        ("src/notify/email.rs", "use crate::{notify::Notifier, ledger::Ledger};"),
        ("src/daemon.rs", "use crate::ledger::sqlite::Sqlite;"),
        ("src/daemon/journal.rs", "use crate::ledger; fn f() { ledger::sqlite::Sqlite::open(); }"),
        ("src/daemon.rs", "use crate::platform::command as platform;"),
        ("src/executor.rs", "use crate::config::Config;"),
        ("src/config.rs", "fn f() -> crate::ledger::sqlite::Sqlite {}"),
        ("src/config.rs", "use crate::platform; fn f() { platform::command::Program::new() }"),
        ("src/api/routes.rs", "use crate::ledger::sqlite::{self}; fn f() { sqlite::Sqlite::open(); }"),
    ];
    for (path, text) in breaking {
        assert_eq!(broken_by(path, text).len(), 1, "{path}: {text}");
    }
}

#[test]
fn the_rules_leave_alone_what_keeps_them() {
    let keeping = [
        ("core/src/decide.rs", "use crate::plan::Plan; use std::time::Duration; /* tokio::spawn */ // std::env::var"),
        (
            "core/src/decide.rs",
            r##"const A: &str = "std::env::var"; const B: &str = r#"tokio::"spawn"#; const C: char = '"'; fn f<'a>() {}"##,
        ),
        ("core/src/decide.rs", "#[cfg(test)] mod tests { fn f() { std::env::var(); } }"),
        ("src/signal/probe.rs", "use super::Signal; use crate::signal::http::Access; use crate::secret::Secret; use std::fs;"),
        ("src/daemon.rs", "use crate::ledger::{self, Ledger, LedgerError}; use crate::executor::Executor; use crate::clock::Clock;"),
        ("src/daemon.rs", "#[cfg(test)]\nmod tests { use crate::ledger::sqlite::Sqlite; }"),
        ("src/config.rs", "use crate::{platform, signal}; fn f(settings: platform::command::Settings) {}"),
        ("src/app.rs", "use crate::ledger::sqlite::Sqlite;"),
        ("src/cli/run.rs", "use crate::platform::command::Program;"),
    ];
    for (path, text) in keeping {
        assert_eq!(broken_by(path, text), Vec::<String>::new(), "{path}: {text}");
    }
}

#[test]
fn a_file_declared_for_tests_is_no_shipped_code() {
    let mut sources = BTreeMap::from([
        (PathBuf::from("src/daemon.rs"), "#[cfg(test)]\nmod stories;".to_owned()),
        (PathBuf::from("src/daemon/stories.rs"), "use crate::config::Config;".to_owned()),
    ]);
    assert_eq!(broken_rules(&sources), Vec::<String>::new());
    sources.insert(PathBuf::from("src/daemon.rs"), "mod stories;".to_owned());
    assert_eq!(broken_rules(&sources).len(), 1);
}

#[test]
fn a_place_is_told_from_the_middle_of_a_longer_path() {
    let home = format!("/{}/", "root");
    assert!(names_place(&format!("cd {home}project"), &home));
    assert!(names_place(&format!("path=\"{home}project\""), &home));
    assert!(!names_place(&format!("/proc/1{home}run"), &home));
    assert!(!names_place(&format!("${{state}}{home}run"), &home));
    let places = places_of(Path::new("/checkouts/rollbackd"));
    assert!(places.contains(&"/checkouts/".to_owned()) && !places_of(Path::new("/tmp/rollbackd")).contains(&"/tmp/".to_owned()));
}
