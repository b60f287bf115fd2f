//! The bodies of notices: text, HTML, JSON, Slack. What a notice says is made elsewhere ([`rollbackd_core::notice`]); here it only gets a
//! form. Parts of it come from strangers (versions, log lines, answers of endpoints), so every body is made from a [`Neutral`] copy.

use std::fmt::Write as _;

use askama::Template;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rollbackd_core::notice::{Notice, NoticeKind};
use rollbackd_core::severity::Severity;
use serde_json::{Value, json};

/// The version of the shape that [`json()`] gives. It grows by new fields without a new version; a field never changes or goes within one.
pub const JSON_VERSION: u32 = 1;

/// Limits in characters and items. All of them used up, a body of plain letters stays under 20 KiB, the most that Standard Webhooks
/// recommends.
mod limit {
    /// The core promises 150 at most, and so much fits into Slack's header.
    pub const HEADLINE: usize = 150;
    pub const PARAGRAPHS: usize = 8;
    pub const PARAGRAPH: usize = 800;
    pub const FACTS: usize = 20;
    pub const LABEL: usize = 40;
    pub const VALUE: usize = 240;
    pub const STEPS: usize = 6;
    pub const STEP: usize = 300;
    pub const COMMAND: usize = 400;
    /// Ids and the environment's name.
    pub const NAME: usize = 100;

    /// Slack's own, see <https://docs.slack.dev/reference/block-kit/blocks>.
    pub mod slack {
        pub const HEADER: usize = 150;
        pub const SECTION: usize = 3_000;
        pub const FIELD: usize = 2_000;
        pub const FIELDS: usize = 10;
        pub const BLOCKS: usize = 50;
    }
}

/// A notice without anything in it that could act on a reader's screen, shell or mail header: no line break where there is one line, no
/// control character, no terminal sequence, no invisible or reordering character, and no more than the limits allow. The only way to a
/// body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neutral {
    /// The notice's id: letters, digits, `-`, `_`, `.` only.
    pub id: String,
    /// The incident's id, likewise.
    pub incident: String,
    /// The turn.
    pub kind: NoticeKind,
    /// How bad.
    pub severity: Option<Severity>,
    /// The service, if it concerns one.
    pub service: Option<String>,
    /// Its environment. One line.
    pub environment: String,
    /// When it happened.
    pub at: Timestamp,
    /// One line.
    pub headline: String,
    /// Several lines each.
    pub paragraphs: Vec<String>,
    /// One line each.
    pub facts: Vec<(String, String)>,
    /// One line each: a command that is pasted may not bring a second one along.
    pub next: Vec<(String, Option<String>)>,
}

impl Neutral {
    /// Neutralises and cuts.
    #[must_use]
    pub fn of(notice: &Notice) -> Self {
        let fact = |(label, value): &(String, String)| (line(label, limit::LABEL), line(value, limit::VALUE));
        let step = |(step, command): &(String, Option<String>)| {
            (line(step, limit::STEP), command.as_ref().map(|command| line(command, limit::COMMAND)))
        };
        Self {
            id: token(&notice.id),
            incident: token(&notice.incident),
            kind: notice.kind,
            severity: notice.severity,
            service: notice.service.as_ref().map(ToString::to_string),
            environment: line(&notice.environment, limit::NAME),
            at: notice.at,
            headline: line(&notice.headline, limit::HEADLINE),
            paragraphs: at_most(
                limit::PARAGRAPHS,
                &notice.paragraphs,
                |text| block(text, limit::PARAGRAPH),
                |left| format!("… and {left} more"),
            ),
            facts: at_most(limit::FACTS, &notice.facts, fact, |left| ("…".to_owned(), format!("{left} more"))),
            next: at_most(limit::STEPS, &notice.next, step, |left| (format!("… and {left} more"), None)),
        }
    }

    /// The subject of a mail and the fallback of a chat: `[P0 production] checkout: rolled back to shop:v1, recovered`.
    #[must_use]
    pub fn subject(&self) -> String {
        match (self.severity, self.environment.as_str()) {
            (None, "") => self.headline.clone(),
            (None, environment) => format!("[{environment}] {}", self.headline),
            (Some(severity), "") => format!("[{severity}] {}", self.headline),
            (Some(severity), environment) => format!("[{severity} {environment}] {}", self.headline),
        }
    }

    /// Which service, in words.
    fn place(&self) -> &str {
        self.service.as_deref().unwrap_or("all services")
    }

    /// `2026-11-21 03:12:45 UTC`.
    fn when(&self) -> String {
        self.at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
    }
}

/// The notice as plain text, lines unwrapped: every mail program breaks them to its own width.
#[must_use]
pub fn text(notice: &Neutral) -> String {
    let mut out = format!("{}\n\n", notice.headline);
    let severity = notice.severity.map(|severity| format!("{severity} · ")).unwrap_or_default();
    let environment = if notice.environment.is_empty() { String::new() } else { format!(" · {}", notice.environment) };
    put(&mut out, format_args!("{severity}{}{environment}\n{} · {}\n", kind_in_words(notice.kind), notice.place(), notice.when()));
    for paragraph in &notice.paragraphs {
        put(&mut out, format_args!("\n{paragraph}\n"));
    }
    if !notice.facts.is_empty() {
        let width = notice.facts.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
        out.push('\n');
        for (label, value) in &notice.facts {
            put(&mut out, format_args!("  {label:<width$}  {value}\n"));
        }
    }
    if !notice.next.is_empty() {
        out.push_str("\nWhat to do next\n");
        for (step, command) in &notice.next {
            put(&mut out, format_args!("\n  {step}\n"));
            if let Some(command) = command {
                put(&mut out, format_args!("    {command}\n"));
            }
        }
    }
    put(&mut out, format_args!("\n--\nrollbackd · notice {} · incident {}\n", notice.id, notice.incident));
    out
}

/// The notice as a page of HTML: no script, no style sheet, nothing fetched; it follows the reader's light or dark.
#[must_use]
#[expect(clippy::missing_panics_doc, reason = "the panic can't happen, and says why")]
pub fn html(notice: &Neutral) -> String {
    let page = Page {
        subject: notice.subject(),
        preview: notice.paragraphs.first().map_or("", String::as_str),
        colour: colour(notice.kind, notice.severity),
        severity: notice.severity,
        kind: kind_in_words(notice.kind),
        environment: &notice.environment,
        place: notice.place(),
        when: notice.when(),
        notice,
    };
    page.render().expect("a page of strings rendered into a string, which has no way to fail")
}

/// The notice as JSON, a stable shape:
///
/// ```json
/// { "version": 1, "id": "k3f9a2b1-17", "incident": "k3f9a2b1-12", "kind": "recovered", "severity": "P1", "service": "checkout",
///   "environment": "production", "at": "2026-11-21T03:12:45Z", "headline": "…", "paragraphs": ["…"],
///   "facts": [{ "label": "running", "value": "shop:v1" }], "next": [{ "text": "…", "command": null }] }
/// ```
///
/// `kind` is one of the names of [`NoticeKind`] in `snake_case`; `severity` (`P0` to `P3`) and `service` may be null; `at` is RFC 3339 in
/// UTC. A receiver tells a repeated notice by `id` and joins notices by `incident`.
#[must_use]
pub fn json(notice: &Neutral) -> Value {
    json!({
        "version": JSON_VERSION,
        "id": notice.id,
        "incident": notice.incident,
        "kind": notice.kind,
        "severity": notice.severity,
        "service": notice.service,
        "environment": notice.environment,
        "at": notice.at,
        "headline": notice.headline,
        "paragraphs": notice.paragraphs,
        "facts": notice.facts.iter().map(|(label, value)| json!({ "label": label, "value": value })).collect::<Vec<_>>(),
        "next": notice.next.iter().map(|(text, command)| json!({ "text": text, "command": command })).collect::<Vec<_>>(),
    })
}

/// The notice as Slack's incoming webhooks take it: blocks, and a `text` for notifications and old clients.
#[must_use]
pub fn slack(notice: &Neutral) -> Value {
    let mut blocks = vec![
        json!({ "type": "header", "text": { "type": "plain_text", "text": slack_text(&notice.headline, limit::slack::HEADER), "emoji": false } }),
        json!({ "type": "context", "elements": [slack_markdown(&slack_place(notice))] }),
    ];
    for paragraph in &notice.paragraphs {
        blocks.push(json!({ "type": "section", "text": slack_markdown(&slack_text(paragraph, limit::slack::SECTION)) }));
    }
    for facts in notice.facts.chunks(limit::slack::FIELDS) {
        let fields = facts.iter().map(|(label, value)| {
            let label = slack_text(label, limit::slack::FIELD / 4);
            let value = slack_text(value, limit::slack::FIELD / 2);
            slack_markdown(&format!("*{label}*\n{value}"))
        });
        blocks.push(json!({ "type": "section", "fields": fields.collect::<Vec<_>>() }));
    }
    if !notice.next.is_empty() {
        blocks.push(json!({ "type": "divider" }));
    }
    for (step, command) in &notice.next {
        let mut text = slack_text(step, limit::slack::SECTION / 3);
        if let Some(command) = command {
            put(&mut text, format_args!("\n```{}```", slack_text(command, limit::slack::SECTION / 2)));
        }
        blocks.push(json!({ "type": "section", "text": slack_markdown(&text) }));
    }
    let footer = format!("rollbackd · notice {} · incident {}", notice.id, notice.incident);
    blocks.truncate(limit::slack::BLOCKS - 1);
    blocks.push(json!({ "type": "context", "elements": [slack_markdown(&footer)] }));
    json!({ "text": slack_text(&notice.subject(), limit::slack::SECTION), "blocks": blocks })
}

#[derive(Template)]
#[template(path = "notice.html")]
struct Page<'a> {
    subject: String,
    preview: &'a str,
    colour: &'static str,
    severity: Option<Severity>,
    kind: &'static str,
    environment: &'a str,
    place: &'a str,
    when: String,
    notice: &'a Neutral,
}

/// The kind's stable name: `recovered`.
pub(super) fn kind_key(kind: NoticeKind) -> String {
    json!(kind).as_str().unwrap_or_default().to_owned()
}

const fn kind_in_words(kind: NoticeKind) -> &'static str {
    match kind {
        NoticeKind::Detected => "Trouble detected",
        NoticeKind::RollingBack => "Rolling back",
        NoticeKind::Recovered => "Recovered",
        NoticeKind::DidNotHelp => "Rollback did not help",
        NoticeKind::Failed => "Rollback failed",
        NoticeKind::AllClear => "All clear",
        NoticeKind::Blocked => "Rollback blocked",
        NoticeKind::ApprovalWanted => "Your decision is wanted",
        NoticeKind::Answered => "Decided",
        NoticeKind::Withdrawn => "No longer so",
        NoticeKind::Blind => "Source down",
        NoticeKind::Sighted => "Source up again",
        NoticeKind::Stopped => "Rollback stopped",
        NoticeKind::NotRolledOut => "Not rolled out",
        NoticeKind::Operator => "Operator",
        NoticeKind::HeldBack => "Rollback held back",
        NoticeKind::Undecided => "Still not decided",
        NoticeKind::TooLittleTraffic => "Too little traffic",
    }
}

/// The one colour of a page, dark enough under white letters and bright enough beside a dark page (contrast of 4.5 and 3).
const fn colour(kind: NoticeKind, severity: Option<Severity>) -> &'static str {
    const RED: &str = "#c8403a";
    const AMBER: &str = "#a86a10";
    const GREEN: &str = "#2b8455";
    const BLUE: &str = "#4470c2";
    match kind {
        NoticeKind::Recovered | NoticeKind::AllClear | NoticeKind::Sighted | NoticeKind::Withdrawn => GREEN,
        NoticeKind::DidNotHelp | NoticeKind::Failed | NoticeKind::Blocked => RED,
        NoticeKind::Detected | NoticeKind::RollingBack | NoticeKind::HeldBack | NoticeKind::Undecided => match severity {
            Some(Severity::P0 | Severity::P1) => RED,
            Some(Severity::P2 | Severity::P3) | None => AMBER,
        },
        NoticeKind::ApprovalWanted | NoticeKind::Blind | NoticeKind::Stopped | NoticeKind::NotRolledOut => AMBER,
        NoticeKind::Operator | NoticeKind::Answered | NoticeKind::TooLittleTraffic => BLUE,
    }
}

fn slack_place(notice: &Neutral) -> String {
    let mut parts = Vec::new();
    parts.extend(notice.severity.map(|severity| format!("*{severity}*")));
    parts.push(format!("*{}*", kind_in_words(notice.kind)));
    parts.push(slack_text(notice.place(), limit::NAME));
    if !notice.environment.is_empty() {
        parts.push(slack_text(&notice.environment, limit::NAME * 2));
    }
    parts.push(notice.when());
    parts.join(" · ")
}

fn slack_markdown(text: &str) -> Value {
    json!({ "type": "mrkdwn", "text": text, "verbatim": true })
}

/// Escapes the three characters that mean something to Slack, and cuts so that the escaped text keeps within `limit` characters.
fn slack_text(text: &str, limit: usize) -> String {
    let mut out = String::new();
    let mut length = 0;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let mut buffer = [0; 4];
        let escaped: &str = match character {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            other => other.encode_utf8(&mut buffer),
        };
        let room_for_mark = usize::from(characters.peek().is_some());
        if length + escaped.chars().count() + room_for_mark > limit {
            out.push('…');
            break;
        }
        length += escaped.chars().count();
        out.push_str(escaped);
    }
    out
}

/// One line of at most `limit` characters.
pub(super) fn line(text: &str, limit: usize) -> String {
    neutral(text, limit, false)
}

/// Lines, together at most `limit` characters.
fn block(text: &str, limit: usize) -> String {
    neutral(text, limit, true)
}

/// What may stand in a header and in an address: everything else becomes `-`.
fn token(id: &str) -> String {
    id.chars().take(limit::NAME).map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect()
}

/// The one place where hostile text is made harmless. It reads no more of the text than it needs.
fn neutral(text: &str, limit: usize, keep_lines: bool) -> String {
    let mut out = String::new();
    let mut length = 0;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let character = match character {
            '\r' if characters.peek() == Some(&'\n') => continue,
            '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' => {
                if keep_lines {
                    '\n'
                } else {
                    ' '
                }
            }
            '\t' => ' ',
            '\u{1b}' if characters.peek() == Some(&'[') => {
                skip_terminal_sequence(&mut characters);
                continue;
            }
            other if other.is_control() || is_deceptive(other) => char::REPLACEMENT_CHARACTER,
            other => other,
        };
        if out.is_empty() && character.is_whitespace() {
            continue;
        }
        if length == limit {
            out.pop();
            out.push('…');
            break;
        }
        out.push(character);
        length += 1;
    }
    out.truncate(out.trim_end().len());
    out
}

/// Skips what stands between ESC and the end of a control sequence (ECMA-48, 5.4): parameters, intermediates, one final character.
fn skip_terminal_sequence(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    characters.next();
    while characters.next_if(|c| matches!(c, ' '..='?')).is_some() {}
    characters.next_if(|c| matches!(c, '@'..='~'));
}

/// Characters that can't be seen but change what is: they turn the order of letters round (Unicode TR 36, "Trojan Source"), or hide text.
/// The two joiners U+200C and U+200D are needed by scripts and stay.
const fn is_deceptive(character: char) -> bool {
    matches!(character,
        '\u{061c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The first items neutralised, and in place of the rest one that says how many they are.
fn at_most<T>(limit: usize, items: &[T], neutral: impl Fn(&T) -> T, rest: impl Fn(usize) -> T) -> Vec<T> {
    if items.len() <= limit {
        return items.iter().map(neutral).collect();
    }
    let shown = limit - 1;
    items[..shown].iter().map(neutral).chain([rest(items.len() - shown)]).collect()
}

fn put(out: &mut String, words: std::fmt::Arguments<'_>) {
    out.write_fmt(words).expect("a string takes every write");
}

#[cfg(test)]
pub(super) mod tests {
    use rollbackd_core::service::ServiceName;

    use super::*;

    /// A notice as the daemon would send it.
    pub(in crate::notify) fn notice() -> Notice {
        Notice {
            id: "k3f9a2b1-17".to_owned(),
            incident: "k3f9a2b1-12".to_owned(),
            opens_incident: false,
            kind: NoticeKind::Recovered,
            severity: Some(Severity::P0),
            service: Some(ServiceName::try_from("checkout").unwrap()),
            environment: "production".to_owned(),
            at: "2026-11-21T03:12:45Z".parse().unwrap(),
            headline: "checkout: rolled back to shop:v1, recovered".to_owned(),
            paragraphs: vec!["Every probe failed for 30 s.".to_owned(), "It is well again.".to_owned()],
            facts: vec![("running".to_owned(), "shop:v1".to_owned()), ("known bad".to_owned(), "shop:v2".to_owned())],
            next: vec![
                ("Find out what was wrong with shop:v2.".to_owned(), Some("rollbackd explain checkout".to_owned())),
                ("Deploy a fix.".to_owned(), None),
            ],
        }
    }

    fn hostile(text: &str) -> Notice {
        hostile_times(text, 100)
    }

    fn hostile_times(text: &str, times: usize) -> Notice {
        let text = text.to_owned();
        Notice {
            id: text.clone(),
            incident: text.clone(),
            environment: text.clone(),
            headline: text.clone(),
            paragraphs: vec![text.clone(); times],
            facts: vec![(text.clone(), text.clone()); times],
            next: vec![(text.clone(), Some(text)); times],
            ..notice()
        }
    }

    fn bodies(notice: &Notice) -> [String; 5] {
        let neutral = Neutral::of(notice);
        [neutral.subject(), text(&neutral), html(&neutral), json(&neutral).to_string(), slack(&neutral).to_string()]
    }

    #[test]
    fn text_says_the_headline_first_and_a_command_on_its_own_line() {
        let text = text(&Neutral::of(&notice()));
        assert_eq!(
            text,
            "checkout: rolled back to shop:v1, recovered\n\nP0 · Recovered · production\ncheckout · 2026-11-21 03:12:45 UTC\n\n\
             Every probe failed for 30 s.\n\nIt is well again.\n\n  running    shop:v1\n  known bad  shop:v2\n\nWhat to do next\n\n  \
             Find out what was wrong with shop:v2.\n    rollbackd explain checkout\n\n  Deploy a fix.\n\n--\n\
             rollbackd · notice k3f9a2b1-17 · incident k3f9a2b1-12\n"
        );
    }

    #[test]
    fn the_subject_names_severity_and_environment_where_they_are_known() {
        let known = notice();
        let nameless = Notice { environment: String::new(), ..notice() };
        let unweighed = Notice { severity: None, ..notice() };
        assert_eq!(Neutral::of(&known).subject(), "[P0 production] checkout: rolled back to shop:v1, recovered");
        assert_eq!(Neutral::of(&nameless).subject(), "[P0] checkout: rolled back to shop:v1, recovered");
        assert_eq!(Neutral::of(&unweighed).subject(), "[production] checkout: rolled back to shop:v1, recovered");
    }

    #[test]
    fn json_has_the_documented_shape() {
        assert_eq!(
            json(&Neutral::of(&notice())),
            json!({
                "version": 1, "id": "k3f9a2b1-17", "incident": "k3f9a2b1-12", "kind": "recovered", "severity": "P0",
                "service": "checkout", "environment": "production", "at": "2026-11-21T03:12:45Z",
                "headline": "checkout: rolled back to shop:v1, recovered",
                "paragraphs": ["Every probe failed for 30 s.", "It is well again."],
                "facts": [{ "label": "running", "value": "shop:v1" }, { "label": "known bad", "value": "shop:v2" }],
                "next": [
                    { "text": "Find out what was wrong with shop:v2.", "command": "rollbackd explain checkout" },
                    { "text": "Deploy a fix.", "command": null },
                ],
            })
        );
        let fleet = Notice { service: None, severity: None, ..notice() };
        assert_eq!(json(&Neutral::of(&fleet))["service"], Value::Null);
        assert_eq!(json(&Neutral::of(&fleet))["severity"], Value::Null);
    }

    #[test]
    fn html_fetches_nothing_runs_nothing_and_escapes_everything() {
        let page = html(&Neutral::of(&hostile("<script>alert(1)</script><img src=x onerror=y>\"'&")));
        assert!(page.contains("&#60;script&#62;") || page.contains("&lt;script&gt;"), "{page}");
        for banned in ["<script", "<img", "<link", "<style", "url(", "http:", "https:", "src=x onerror=y>"] {
            assert!(!page.contains(banned), "{banned} stands in the page");
        }
    }

    #[test]
    fn slack_gets_no_more_than_it_takes() {
        let body = slack(&Neutral::of(&hostile(&"<&>".repeat(5_000))));
        let blocks = body["blocks"].as_array().unwrap();
        assert!(blocks.len() <= 50, "{} blocks", blocks.len());
        for block in blocks {
            let fields = block["fields"].as_array().map_or(0, Vec::len);
            assert!(fields <= 10, "{fields} fields");
            for field in block["fields"].as_array().into_iter().flatten() {
                assert!(field["text"].as_str().unwrap().chars().count() <= 2_000);
            }
            if let Some(text) = block["text"]["text"].as_str() {
                let limit = if block["type"] == "header" { 150 } else { 3_000 };
                assert!(text.chars().count() <= limit, "{} characters", text.chars().count());
                assert!(!text.contains('<') && !text.contains('>'));
            }
        }
    }

    #[test]
    fn a_mention_of_everybody_in_a_version_calls_nobody() {
        let shouting = Notice { headline: "shop:<!channel> & co".to_owned(), ..notice() };
        let body = slack(&Neutral::of(&shouting));
        assert_eq!(body["blocks"][0]["text"]["text"], "shop:&lt;!channel&gt; &amp; co");
        assert_eq!(body["text"], "[P0 production] shop:&lt;!channel&gt; &amp; co");
    }

    #[test]
    fn an_escape_is_never_cut_in_two() {
        assert_eq!(slack_text("ab&cd", 8), "ab&amp;…");
        assert_eq!(slack_text("ab&cd", 7), "ab…");
        assert_eq!(slack_text("&&", 10), "&amp;&amp;");
        assert_eq!(slack_text("&&", 9), "&amp;…");
        assert_eq!(slack_text("&", 4), "…");
    }

    #[test]
    fn control_characters_terminal_sequences_and_reordering_do_not_survive() {
        let notice = hostile("v1\r\nBcc: all@example.org\u{1b}[31m red\u{1b}]0;title\u{7}\u{202e}gpj.exe\u{2066}\u{0}\u{9b}2J");
        let neutral = Neutral::of(&notice);
        assert_eq!(neutral.headline, "v1 Bcc: all@example.org red\u{fffd}]0;title\u{fffd}\u{fffd}gpj.exe\u{fffd}\u{fffd}\u{fffd}2J");
        assert_eq!(neutral.paragraphs[0].lines().count(), 2);
        assert!(neutral.next[0].1.as_deref().is_some_and(|command| !command.contains('\n')));
        assert!(neutral.id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)));
        for body in bodies(&notice) {
            assert!(!body.chars().any(|c| (c.is_control() && c != '\n') || is_deceptive(c)), "{body:?}");
        }
    }

    #[test]
    fn a_mebibyte_of_anything_becomes_a_bounded_body() {
        for letter in ["a", "<", "é", "\u{1b}[", "\r\n", "\u{202e}"] {
            for body in bodies(&hostile_times(&letter.repeat(1024 * 1024 / letter.len()), 2)) {
                assert!(body.len() < 128 * 1024, "{letter:?} makes {} bytes", body.len());
            }
        }
        let plain = bodies(&hostile(&"a".repeat(2 * 1024)));
        assert!(plain[3].len() < 20 * 1024, "{} bytes of JSON", plain[3].len());
    }

    #[test]
    fn a_cut_is_seen() {
        assert_eq!(line("abcdef", 6), "abcdef");
        assert_eq!(line("abcdefg", 6), "abcde…");
        assert_eq!(block("\n\n  a\nb\n\n", 6), "a\nb");
        assert_eq!(Neutral::of(&hostile("x")).facts.last(), Some(&("…".to_owned(), "81 more".to_owned())));
    }

    proptest::proptest! {
        #[test]
        fn a_line_is_one_bounded_line_whatever_came_in(text in proptest::prelude::any::<String>(), limit in 1_usize..50) {
            let line = line(&text, limit);
            proptest::prop_assert!(line.chars().count() <= limit);
            proptest::prop_assert!(!line.chars().any(|c| c.is_control() || is_deceptive(c)));
        }
    }
}
