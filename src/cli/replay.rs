//! `replay`: what would have been done about deployments of the past, from recorded samples.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Read, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use clap::builder::styling::{AnsiColor, Style};
use flate2::read::MultiGzDecoder;
use jiff::Timestamp;
use rollbackd_core::service::ServiceName;
use rollbackd_core::words;

use super::text::{self, Page, Screen};
use super::{Common, Exit, Stop, value};
use crate::app;
use crate::config::{self, Config};
use crate::ledger::sqlite::read_copy_of;
use crate::replay::report::{self, Decision, Difference, Judgement};
use crate::replay::{Replay, Report, Request, Run, Samples, page};

/// What stands behind `--help`.
pub(super) const HELP: &str = "\
The samples are OpenMetrics text with a time on every line, as Prometheus backfills from and
`promtool tsdb dump-openmetrics` writes. A promtool that has no such command yet has
`promtool tsdb dump`, which is read, too, and so is the Prometheus text format (times in
milliseconds). In which order they come does not matter. What doesn't fit into 48 MiB is sorted in
temporary files ($TMPDIR), 24 bytes a sample of interest; memory grows with the number of series
and not with their length. Probes and queries are not in such a file, and are said to be missing.
`_created` and `process_start_time_seconds` say when a process began; without them all that is
counted from half a minute after a deployment on is its own.

Nothing is carried out: after a rollback that would have been decided, a deployment is left until
its window ends.

Examples:
  rollbackd replay --samples samples.txt --deployed checkout=2026-11-21T03:04:05Z
  rollbackd replay --samples samples.txt --version-label version --report replay.html
  rollbackd replay --samples samples.txt --deployed checkout=1795230245 --against stricter.toml
  rollbackd replay --samples samples.txt.gz --deployed checkout=1795230245 --output json
  promtool tsdb dump-openmetrics DIRECTORY |
    rollbackd replay --samples - --version-label version

With `--output json`, one object:
  samples        what was read: {source, lines, bytes, samples, series, from, to, whole, notes,
                 damaged: [{line, why}], damaged_lines,
                 oddities: {out_of_order, repeated, not_counts, in_the_future}}
  configuration  the file; `notes`: what is not as in the daemon
  summary        {deployments, rolled_back, refused, asked, notified, left_alone, inconclusive,
                 promoted}
  deployments    in order of time: {service, version, started, window_ends, decision, decided,
                 after_seconds, onset, severity, impact, response, signal, guard, promoted, why,
                 ending, watched_until, verdicts: [{at, severity, impact, response, words}],
                 before, findings, recorded}
                 decision: roll_back, refused (by `guard`), ask, notify, left_alone, inconclusive
                 ending: decided, passed, unproved, superseded, samples_end
                 findings: as `explain` has them
                 recorded: only with --ledger, {decision, decided}
  against        of each other configuration: {differences: [{service, started, decision, decided,
                 other_decision, other_decided}], configuration, notes, summary, deployments}

Exit code 1: some of the samples can't be read (each such line is named, the others are judged).
2: the arguments or a configuration.";

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A file of samples, or one that gzip compressed; `-` is standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "prometheus")]
    samples: Option<PathBuf>,
    /// Instead of a file: a Prometheus server, by its name in the configuration.
    #[arg(long, value_name = "NAME", requires_all = ["from", "to"])]
    prometheus: Option<String>,
    /// From when on samples are asked of the server; a day or more before the first deployment.
    #[arg(long, value_name = "TIME", value_parser = moment, requires = "prometheus")]
    from: Option<Timestamp>,
    /// Until when.
    #[arg(long, value_name = "TIME", value_parser = moment, requires = "prometheus")]
    to: Option<Timestamp>,
    /// A deployment: when its rollout began, in RFC 3339 or seconds (milliseconds) since 1970. May be given many times.
    #[arg(long, value_name = "SERVICE=TIME", value_parser = deployed)]
    deployed: Vec<(ServiceName, Timestamp)>,
    /// Take every new value of this label for a deployment.
    #[arg(long, value_name = "LABEL")]
    version_label: Option<String>,
    /// The ledger of a daemon, or its state directory (a copy is read): its deployments are played, and what it decided is compared.
    #[arg(long, value_name = "PATH")]
    ledger: Option<PathBuf>,
    /// Only this service. May be given many times.
    #[arg(long, value_name = "NAME", value_parser = value::service)]
    service: Vec<ServiceName>,
    /// Another configuration to compare with. May be given several times.
    #[arg(long, value_name = "PATH")]
    against: Vec<PathBuf>,
    /// Watch a deployment on that has not proved itself when its window ends, as the daemon does.
    #[arg(long)]
    watch_on: bool,
    /// Write a page with plots, too. What is there and is no such page is not written over.
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
}

/// `checkout=2026-11-21T03:04:05Z`, `checkout=1795230245`.
fn deployed(text: &str) -> Result<(ServiceName, Timestamp), String> {
    let (service, time) = text.split_once('=').ok_or("must be SERVICE=TIME, as in checkout=2026-11-21T03:04:05Z")?;
    let service = value::service(service.trim()).map_err(|error| error.to_string())?;
    Ok((service, moment(time.trim())?))
}

fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment);
    }
    let wrong = || format!("{text:?} is neither a time with its zone (2026-11-21T03:04:05Z) nor seconds since 1970");
    let number: f64 = text.parse().map_err(|_| wrong())?;
    if !number.is_finite() || number.abs() >= 1e14 {
        return Err(wrong());
    }
    // As among the samples: seconds would lie beyond the year 5000.
    let milliseconds = if number.abs() >= 1e11 { number } else { number * 1000.0 };
    #[expect(clippy::cast_possible_truncation, reason = "checked to be small")]
    Timestamp::from_millisecond(milliseconds.round() as i64).map_err(|_| wrong())
}

/// Replays and shows.
pub(super) fn run(arguments: Arguments, common: &Common, screen: &Screen) -> Result<Exit, Stop> {
    let mut files = vec![common.config.clone()];
    files.extend(arguments.against.iter().cloned());
    let configs = files.iter().map(|file| load(file, screen)).collect::<Result<Vec<_>, Stop>>()?;
    check_names(&arguments, &configs)?;
    if let Some(page) = &arguments.report {
        check_page(page, &arguments, &files)?;
    }
    let page = arguments.report.as_deref().map(open_page).transpose()?;
    let request = Request {
        deployed: arguments.deployed,
        version_label: arguments.version_label,
        ledger: arguments.ledger.as_deref().map(read_copy_of).transpose().map_err(|error| failed(&error))?.unwrap_or_default(),
        services: arguments.service.into_iter().collect(),
        watch_on: arguments.watch_on,
        courses: arguments.report.is_some(),
    };
    let mut replay = Replay::new(request, &configs, Timestamp::now()).map_err(|error| failed(&error))?;
    match (&arguments.samples, &arguments.prometheus, arguments.from.zip(arguments.to)) {
        (Some(samples), ..) => {
            let (name, source) = open(samples)?;
            replay.read(&name, source).map_err(|error| failed(&error))?;
        }
        (None, Some(server), Some(span)) => super::wait(fetch(&mut replay, server, span, &configs))?,
        (None, ..) => return Err(Stop::Usage("say --samples FILE, or --prometheus NAME with --from and --to".to_owned())),
    }
    let report = replay.judge().map_err(|error| failed(&error))?;
    if let (Some(path), Some(file)) = (&arguments.report, page) {
        write_page(path, file, &report)?;
    }
    screen.show(&report, || in_words(&report, screen.is_verbose()))?;
    Ok(if report.samples.whole && report.samples.samples > 0 { Exit::Done } else { Exit::Failed })
}

async fn fetch(replay: &mut Replay, server: &str, (from, to): (Timestamp, Timestamp), configs: &[(String, Config)]) -> Result<(), Stop> {
    if from >= to {
        return Err(Stop::Usage("--from must be before --to".to_owned()));
    }
    let mut adapters = Vec::new();
    for (name, config) in configs {
        let (setup, _) = app::setup_to_try(config).await.map_err(|error| Stop::Failed(format!("cannot use {name}: {error:#}")))?;
        adapters.push(setup.adapters.signals);
    }
    replay.fetch(server, from, to, &adapters).await.map_err(|error| failed(&error))
}

fn failed(error: &dyn std::error::Error) -> Stop {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        words = format!("{words}: {cause}");
        source = cause.source();
    }
    Stop::Failed(words)
}

fn load(file: &Path, screen: &Screen) -> Result<(String, Config), Stop> {
    let name = file.display().to_string();
    let config = config::load(file, &super::environment()).map_err(|invalid| {
        Stop::Usage(format!("the configuration {name} is wrong:\n\n{}", config::render(&invalid, screen.is_colored()).trim_end()))
    })?;
    Ok((name, config))
}

/// Whatever is named has to be in the first configuration, and something has to have been deployed.
fn check_names(arguments: &Arguments, configs: &[(String, Config)]) -> Result<(), Stop> {
    let Some((file, config)) = configs.first() else { return Ok(()) };
    let named = arguments.deployed.iter().map(|(service, _)| service).chain(&arguments.service);
    if let Some(unknown) = named.into_iter().find(|service| !config.services.contains_key(*service)) {
        let known = config.services.keys().map(ToString::to_string).collect();
        return Err(Stop::Unknown { words: format!("{file} guards no service called {unknown}"), known });
    }
    let chosen: BTreeSet<_> = arguments.service.iter().collect();
    if let Some((left_out, _)) = arguments.deployed.iter().find(|(service, _)| !chosen.is_empty() && !chosen.contains(service)) {
        return Err(Stop::Usage(format!("--deployed names {left_out}, and --service leaves it out")));
    }
    if arguments.samples.is_none() && arguments.prometheus.is_none() {
        return Err(Stop::Usage("nothing to replay: say --samples FILE, or --prometheus NAME with --from and --to".to_owned()));
    }
    if let Some(server) = &arguments.prometheus {
        let known = servers(config);
        if !known.contains(server.as_str()) {
            let known = known.into_iter().map(str::to_owned).collect();
            return Err(Stop::Unknown { words: format!("{file} reads nothing from a Prometheus server called {server}"), known });
        }
    }
    if arguments.deployed.is_empty() && arguments.version_label.is_none() && arguments.ledger.is_none() {
        let words = "nothing was deployed: say --deployed SERVICE=TIME, --version-label LABEL or --ledger PATH";
        return Err(Stop::Usage(words.to_owned()));
    }
    Ok(())
}

/// The names of the servers that signals are read from.
fn servers(config: &Config) -> BTreeSet<&str> {
    let signals = config.services.values().flat_map(|service| service.policy.signals.values());
    signals.filter_map(|signal| signal.source.strip_prefix("prometheus ")).collect()
}

/// The samples, and how they are called.
fn open(path: &Path) -> Result<(String, Box<dyn Read>), Stop> {
    if path == Path::new("-") {
        let source = unpacked(io::stdin().lock()).map_err(|error| Stop::Failed(format!("cannot read standard input: {error}")))?;
        return Ok(("standard input".to_owned(), source));
    }
    let name = path.display().to_string();
    let source = File::open(path).and_then(unpacked).map_err(|error| Stop::Failed(format!("cannot read {name}: {error}")))?;
    Ok((name, source))
}

/// The text itself, whether it is compressed by gzip or not: its first two bytes tell.
fn unpacked(source: impl Read + 'static) -> io::Result<Box<dyn Read>> {
    let mut source = BufReader::with_capacity(PACKED, source);
    let mut begin = Vec::new();
    source.by_ref().take(2).read_to_end(&mut begin)?;
    let is_packed = begin == [0x1f, 0x8b];
    let whole = io::Cursor::new(begin).chain(source);
    Ok(if is_packed { Box::new(MultiGzDecoder::new(whole)) } else { Box::new(whole) })
}

/// So much is read of a compressed file at once.
const PACKED: usize = 64 * 1024;

fn in_words(report: &Report, verbose: bool) -> String {
    let mut page = Page::default();
    for against in &report.against {
        differences(&mut page, &report.run.configuration, &against.run.configuration, &against.differences);
    }
    page.line(text::heading(report.run.summary.words()));
    tell_samples(&mut page, &report.samples);
    tell_run(&mut page, &report.run, verbose);
    for against in &report.against {
        page.line("");
        page.line(text::heading(format_args!("With {}: {}", against.run.configuration, against.run.summary.words())));
        tell_run(&mut page, &against.run, verbose);
    }
    page.text()
}

fn differences(page: &mut Page, ours: &str, other: &str, differences: &[Difference]) {
    if differences.is_empty() {
        page.line(text::heading(format_args!("{other} decides as {ours} does, at the same times")));
    } else {
        let plural = if differences.len() == 1 { "" } else { "s" };
        page.line(text::heading(format_args!("{other} decides {} deployment{plural} differently", differences.len())));
        let when = |decision: Option<Decision>, decided: Option<Timestamp>| {
            let decision = decision.map_or("not guarded", Decision::words);
            decided.map_or_else(|| decision.to_owned(), |at| format!("{decision} at {}", words::time(at)))
        };
        let rows = differences.iter().map(|difference| {
            [
                text::cell(&difference.service, None),
                text::cell(words::time(difference.started), None),
                text::cell(when(Some(difference.decision), difference.decided), None),
                text::cell(when(difference.other_decision, difference.other_decided), None),
            ]
        });
        page.block(&text::table(["SERVICE", "DEPLOYED", ours, other], rows));
    }
    page.line("");
}

fn tell_samples(page: &mut Page, samples: &Samples) {
    let span = match (samples.from, samples.to) {
        (Some(from), Some(to)) => format!(", from {} to {}", words::time(from), words::time(to)),
        _ => String::new(),
    };
    page.fact("samples", format_args!("{} of {} series in {}{span}", samples.samples, samples.series, samples.source));
    for damaged in &samples.damaged {
        page.fact("damaged", format_args!("line {}: {}", damaged.line, damaged.why));
    }
    let more = samples.damaged_lines.saturating_sub(samples.damaged.len() as u64);
    if more > 0 {
        page.fact("damaged", format_args!("and {more} more lines"));
    }
    for note in &samples.notes {
        page.fact("note", note);
    }
}

fn tell_run(page: &mut Page, run: &Run, verbose: bool) {
    if let Some(guards) = report::guards(&run.deployments) {
        page.fact("kept back", guards);
    }
    for note in &run.notes {
        page.fact("note", note);
    }
    for judgement in &run.deployments {
        page.line("");
        tell(page, judgement, verbose);
    }
}

fn tell(page: &mut Page, judgement: &Judgement, verbose: bool) {
    let (color, words) = match judgement.decision {
        Decision::RollBack | Decision::Refused => (AnsiColor::Red, judgement.decision.words()),
        Decision::Ask | Decision::Notify | Decision::Inconclusive => (AnsiColor::Yellow, judgement.decision.words()),
        Decision::LeftAlone => (AnsiColor::Green, judgement.decision.words()),
    };
    let decision = text::paint(Style::new().fg_color(Some(color.into())).bold(), words);
    page.line(format_args!("{} deployed {}: {decision}", text::heading(&judgement.service), words::time(judgement.started)));
    if let Some(version) = judgement.named_version() {
        page.fact("version", version);
    }
    if let (Some(decided), Some(onset)) = (judgement.decided, judgement.onset) {
        let after = text::short(decided.duration_since(judgement.started));
        let since = text::short(decided.duration_since(onset));
        page.fact("decided", format_args!("{}, {after} after the deployment and {since} after the onset", words::time(decided)));
    }
    if let Some(promoted) = judgement.promoted {
        page.fact("promoted", format_args!("{}: it passed its window, and is known good from then on", words::time(promoted)));
    }
    page.fact("why", &judgement.why);
    if let Some(recorded) = &judgement.recorded {
        page.fact("recorded", recorded.words());
    }
    if verbose || judgement.decided.is_some() {
        for (signal, before) in &judgement.before {
            page.fact("before", format_args!("{signal}: {before}"));
        }
    }
    if verbose {
        page.block(&text::findings(&judgement.findings));
    }
}

/// A page must not be written over what is read for it, under whatever name, nor over anything else that is no such page.
fn check_page(page: &Path, arguments: &Arguments, configs: &[PathBuf]) -> Result<(), Stop> {
    let name = page.display();
    if page == Path::new("-") {
        return Err(Stop::Usage("--report writes a file, and `-` is none: standard output has the report in words, or as JSON".to_owned()));
    }
    let Ok(there) = std::fs::metadata(page) else { return Ok(()) };
    let stdin = Path::new("/dev/stdin");
    let samples = arguments.samples.as_deref().map(|samples| if samples == Path::new("-") { stdin } else { samples });
    let inputs = configs.iter().map(PathBuf::as_path).chain(samples).chain(arguments.ledger.as_deref());
    let is_same = |input: &Path| std::fs::metadata(input).is_ok_and(|input| (input.dev(), input.ino()) == (there.dev(), there.ino()));
    if inputs.into_iter().any(is_same) {
        return Err(Stop::Usage(format!("--report {name} would be written over what is read: name another file")));
    }
    if there.is_file() && there.len() > 0 && !is_page(page) {
        return Err(Stop::Usage(format!("{name} is there already and is no page: name another file, or remove it first")));
    }
    Ok(())
}

/// Whether a file begins as a page does. One that can't be read may be anything.
fn is_page(path: &Path) -> bool {
    let mut begin = Vec::new();
    let read = File::open(path).and_then(|file| file.take(PAGE.len() as u64).read_to_end(&mut begin));
    read.is_ok() && begin.eq_ignore_ascii_case(PAGE)
}

/// How a page begins.
const PAGE: &[u8] = b"<!doctype html>";

/// Before hours of samples are read, it should be known that there is a place for the page. One that is there stays until then.
fn open_page(path: &Path) -> Result<File, Stop> {
    let file = File::options().write(true).create(true).truncate(false).open(path);
    file.map_err(|error| Stop::Failed(format!("cannot write {}: {error}", path.display())))
}

fn write_page(path: &Path, mut file: File, report: &Report) -> Result<(), Stop> {
    let page = page::page(report).map_err(|error| Stop::Failed(format!("cannot make the page: {error}")))?;
    let written = file.set_len(0).and_then(|()| file.write_all(page.as_bytes()));
    written.map_err(|error| Stop::Failed(format!("cannot write {}: {error}", path.display())))
}
