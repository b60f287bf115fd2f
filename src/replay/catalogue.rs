//! Which series are of interest, and what for. It knows every series by its text, so that a sample costs no more than a number, and it
//! finds out how often each signal was scraped.
//!
//! Bounded: so many series ([`Catalogue::MOST_SERIES`]), about 1.2 kilobytes each.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::openmetrics::{Interest, Taker};
use super::runs::{Runs, Sample};
use crate::signal::exposition;
use crate::signal::histogram::{Family, Part};
use crate::signal::selector::{Selector, SelectorError};

/// What somebody asks for.
#[derive(Clone, Debug)]
pub struct Question {
    asked: Asked,
    /// The label that tells versions apart, if one does.
    version_label: Option<String>,
}

#[derive(Clone, Debug)]
enum Asked {
    Counters { named: String, total: Selector, failed: Selector, by: Option<String> },
    Histogram(Family),
}

/// What a series is counted as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// All requests.
    Total,
    /// Failed ones.
    Failed,
    /// A part of a histogram: which, the bound of a bucket, and the labels that all its parts have.
    Part {
        /// Which.
        part: Part,
        /// The bound of a bucket, as it was written.
        le: Option<String>,
        /// The histogram's labels.
        labels: Labels,
    },
}

/// What a series is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The number of the question that it answers.
    pub question: usize,
    /// As what.
    pub kind: Kind,
    /// The version that it counts for, if it says.
    pub version: Option<String>,
    /// The route that it counts for, where the question asks for routes.
    pub route: Option<String>,
}

/// A series that is taken.
#[derive(Debug)]
pub struct Taken {
    text: Arc<[u8]>,
    /// Its canonical name.
    pub id: Arc<str>,
    /// The target it was scraped from; none where that is all that the series have in common.
    target: Option<String>,
    /// Its job and instance, of which a process says when it began.
    process: (String, String),
    /// How the series is called that says when it began.
    created: String,
    /// What for.
    pub slots: Vec<Slot>,
    says: Says,
    newest: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Counts,
    ProcessBegan,
    Created,
}

/// What was odd about the samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Oddities {
    /// Samples that came after a later one of their series; they were put in order.
    pub out_of_order: u64,
    /// Samples of a moment that their series had a sample of already; the first one counts.
    pub repeated: u64,
    /// Samples that are no counts: NaN, infinite, negative.
    pub not_counts: u64,
    /// Samples from after now, by the clock of this machine.
    pub in_the_future: u64,
}

/// All series of interest.
#[derive(Debug)]
pub struct Catalogue {
    questions: Vec<Question>,
    /// [`Self::MOST_SERIES`], but for tests.
    pub(super) most_series: usize,
    /// Earlier samples are not needed.
    since: i64,
    now: i64,
    names: HashMap<Vec<u8>, bool>,
    known: HashMap<Arc<[u8]>, Interest>,
    /// By their canonical names: the labels of a series may stand in any order.
    numbers: HashMap<Arc<str>, u32>,
    taken: Vec<Taken>,
    /// The labels that all series of a question have in common, of those that don't name their instance.
    shared: Vec<Option<Labels>>,
    /// How long it was from one sample to the next, in tenths of a second: how often.
    gaps: Vec<BTreeMap<i64, u64>>,
    runs: Runs,
    /// The times of the first and the last sample.
    pub span: Option<(i64, i64)>,
    /// What was odd.
    pub oddities: Oddities,
}

/// The labels of a series, without its name.
pub type Labels = BTreeMap<String, String>;

/// How a name says that it is the time at which a counter began.
const CREATED: &str = "_created";

/// How a process says when it began.
const PROCESS: &str = "process_start_time_seconds";

impl Question {
    /// Asks for two counters, and for routes by a label.
    ///
    /// # Errors
    /// When one of them is no selector.
    pub fn counters(total: &str, failed: &str, by: Option<&str>, version_label: Option<&str>) -> Result<Self, SelectorError> {
        let asked = Asked::Counters {
            named: total.to_owned(),
            total: Selector::parse(total)?,
            failed: Selector::parse(failed)?,
            by: by.map(str::to_owned),
        };
        Ok(Self { asked, version_label: version_label.map(str::to_owned) })
    }

    /// Asks for histograms.
    #[must_use]
    pub fn histogram(family: Family, version_label: Option<&str>) -> Self {
        Self { asked: Asked::Histogram(family), version_label: version_label.map(str::to_owned) }
    }

    fn may_match(&self, name: &str) -> bool {
        match &self.asked {
            Asked::Counters { total, failed, .. } => total.may_match(name) || failed.may_match(name),
            Asked::Histogram(family) => family.part(name).is_some(),
        }
    }

    /// Whether the beginning of counters of this family is of interest.
    fn may_begin(&self, family_name: &str) -> bool {
        match &self.asked {
            Asked::Counters { .. } => self.may_match(family_name) || self.may_match(&format!("{family_name}_total")),
            Asked::Histogram(family) => family.name() == family_name,
        }
    }

    /// What a series answers to it.
    fn kinds(&self, name: &str, labels: &Labels) -> Vec<Kind> {
        let label = |label: &str| labels.get(label).map(|value| value.as_str().into());
        match &self.asked {
            Asked::Counters { total, failed, .. } => {
                let kinds = [(Kind::Total, total), (Kind::Failed, failed)].into_iter();
                kinds.filter(|(_, selector)| selector.may_match(name) && selector.matches(name, label)).map(|(kind, _)| kind).collect()
            }
            Asked::Histogram(family) => {
                let part = family.part(name).filter(|_| family.has_labels(label));
                let kind = |part| {
                    let mut labels = labels.clone();
                    let le = if part == Part::Bucket { labels.remove("le") } else { None };
                    Kind::Part { part, le, labels }
                };
                part.map(kind).into_iter().collect()
            }
        }
    }

    fn route(&self, labels: &Labels) -> Option<String> {
        match &self.asked {
            Asked::Counters { by: Some(by), .. } => labels.get(by).filter(|route| !route.is_empty()).cloned(),
            Asked::Counters { by: None, .. } | Asked::Histogram(_) => None,
        }
    }
}

impl Catalogue {
    /// More series than this are refused: a mistake in a selector, or labels that explode.
    pub const MOST_SERIES: usize = 500_000;

    /// So many series of no interest are remembered; others are understood anew each time.
    const MOST_SKIPPED: usize = 200_000;

    /// So many names are remembered.
    const MOST_NAMES: usize = 100_000;

    /// So many of the gaps of a question's series are looked at.
    const GAPS: u32 = 16_384;

    /// So many different gaps are told apart.
    const MOST_GAPS: usize = 4096;

    /// Nothing read yet. Samples before `since` are not kept; `now` is what the future begins at.
    #[must_use]
    pub fn new(questions: Vec<Question>, since: Option<Timestamp>, now: Timestamp) -> Self {
        Self {
            shared: vec![None; questions.len()],
            gaps: vec![BTreeMap::new(); questions.len()],
            questions,
            most_series: Self::MOST_SERIES,
            since: since.map_or(i64::MIN, Timestamp::as_millisecond),
            now: now.as_millisecond(),
            names: HashMap::new(),
            known: HashMap::new(),
            numbers: HashMap::new(),
            taken: Vec::new(),
            runs: Runs::default(),
            span: None,
            oddities: Oddities::default(),
        }
    }

    /// The series that were taken, by their numbers.
    #[must_use]
    pub fn taken(&self) -> &[Taken] {
        &self.taken
    }

    /// The samples that were taken.
    pub fn runs(&mut self) -> &mut Runs {
        &mut self.runs
    }

    /// How many samples were kept.
    #[must_use]
    pub fn kept(&self) -> u64 {
        self.runs.len()
    }

    /// Finds out how often the series of each question were scraped: from their samples in order of time, since those of a file may stand
    /// in any order. It reads no more than it needs.
    ///
    /// # Errors
    /// When the samples can't be read back from where they were kept.
    pub fn find_cadences(&mut self) -> io::Result<()> {
        self.gaps = vec![BTreeMap::new(); self.questions.len()];
        let mut left = vec![0; self.questions.len()];
        for slot in self.taken.iter().flat_map(|taken| &taken.slots) {
            left[slot.question] = Self::GAPS;
        }
        let mut open = left.iter().filter(|left| **left > 0).count();
        let mut newest = vec![i64::MIN; self.taken.len()];
        for sample in self.runs.in_order()? {
            let Sample { at, series, .. } = sample?;
            let before = std::mem::replace(&mut newest[series as usize], at);
            if before == i64::MIN || before == at {
                continue;
            }
            let tenths = at.saturating_sub(before).saturating_add(50) / 100;
            for slot in &self.taken[series as usize].slots {
                let (gaps, left) = (&mut self.gaps[slot.question], &mut left[slot.question]);
                if *left == 0 {
                    continue;
                }
                *left -= 1;
                open -= usize::from(*left == 0);
                if gaps.len() < Self::MOST_GAPS || gaps.contains_key(&tenths) {
                    *gaps.entry(tenths).or_default() += 1;
                }
            }
            if open == 0 {
                break;
            }
        }
        Ok(())
    }

    /// The usual time from one sample to the next of a question's series, as [`Self::find_cadences`] found it. None where no series has two.
    #[must_use]
    pub fn cadence(&self, question: usize) -> Option<SignedDuration> {
        let gaps = self.gaps.get(question)?;
        let half = gaps.values().sum::<u64>().div_ceil(2);
        let mut seen = 0;
        let usual = gaps.iter().find(|(_, number)| {
            seen += **number;
            seen >= half
        });
        usual.map(|(tenths, _)| SignedDuration::from_millis(tenths.saturating_mul(100)))
    }

    /// The histogram that a question asks for, if it asks for one.
    #[must_use]
    pub fn family(&self, question: usize) -> Option<&Family> {
        match &self.questions.get(question)?.asked {
            Asked::Histogram(family) => Some(family),
            Asked::Counters { .. } => None,
        }
    }

    /// What a question asks for first, as it was written.
    #[must_use]
    pub fn selector(&self, question: usize) -> &str {
        match self.questions.get(question).map(|question| &question.asked) {
            Some(Asked::Counters { named, .. }) => named,
            Some(Asked::Histogram(family)) => family.name(),
            None => "",
        }
    }

    /// The names of the series that were met, of interest or not, in order; the first ones of very many.
    #[must_use]
    pub fn names(&self) -> BTreeSet<&str> {
        let is_name = |name: &&str| name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
        self.names.keys().filter_map(|name| std::str::from_utf8(name).ok()).filter(is_name).collect()
    }

    /// A series that is called as a question asks and has other labels.
    #[must_use]
    pub fn other_labels(&self, question: usize) -> Option<&str> {
        let question = self.questions.get(question)?;
        let skipped = self.known.iter().filter(|(_, interest)| **interest == Interest::Skipped);
        let texts = skipped.filter_map(|(text, _)| std::str::from_utf8(text).ok());
        texts.filter(|text| question.may_match(text.split('{').next().unwrap_or(text).trim_end())).min()
    }

    /// The versions that the series of a question count for.
    #[must_use]
    pub fn versions(&self, question: usize) -> BTreeSet<&str> {
        let slots = self.taken.iter().flat_map(|taken| &taken.slots).filter(|slot| slot.question == question);
        slots.filter_map(|slot| slot.version.as_deref()).collect()
    }

    /// How many series answer a question, and how many of those are of failed requests.
    #[must_use]
    pub fn found(&self, question: usize) -> (usize, usize) {
        let slots = || self.taken.iter().flat_map(|taken| &taken.slots).filter(|slot| slot.question == question);
        let failed = slots().filter(|slot| slot.kind == Kind::Failed).count();
        (slots().count().saturating_sub(failed), failed)
    }

    /// The target that a series was scraped from, for a question: its job and instance, or, where that is not told, everything that it
    /// shares with the others.
    #[must_use]
    pub fn target(&self, number: u32, question: usize) -> String {
        let own = self.taken.get(number as usize).and_then(|taken| taken.target.clone());
        own.unwrap_or_else(|| canonical("", self.shared.get(question).and_then(Option::as_ref).into_iter().flatten()))
    }

    /// The series that say when the process of a counter began: its own ones, and those of its whole process.
    #[must_use]
    pub fn beginnings(&self) -> Beginnings {
        let mut beginnings = Beginnings::default();
        for (number, taken) in (0..).zip(&self.taken) {
            match taken.says {
                Says::Counts => {}
                Says::ProcessBegan => {
                    beginnings.processes.entry(taken.process.clone()).or_default().push(number);
                }
                Says::Created => {
                    beginnings.created.insert(taken.created.clone(), number);
                }
            }
        }
        beginnings
    }

    /// Takes a series that comes from elsewhere than a file, and gives its number.
    ///
    /// # Errors
    /// When there are too many.
    pub fn take(&mut self, slot: Slot, id: &str, target: &str) -> Result<u32, String> {
        let text: Arc<[u8]> = format!("{} {} {id}", slot.question, slot.kind == Kind::Failed).into_bytes().into();
        if let Some(Interest::Taken(number)) = self.known.get(&text) {
            return Ok(*number);
        }
        let taken = Taken {
            text,
            // Two questions may be answered by the same series, and each is handed its own.
            id: id.into(),
            target: Some(target.to_owned()),
            process: Default::default(),
            created: String::new(),
            slots: vec![slot],
            says: Says::Counts,
            newest: i64::MIN,
        };
        self.add(taken)
    }

    fn add(&mut self, taken: Taken) -> Result<u32, String> {
        if self.taken.len() >= self.most_series {
            return Err(format!("more than {} series match the selectors: are the labels what they should be?", self.most_series));
        }
        let number = u32::try_from(self.taken.len()).map_err(|_| "too many series".to_owned())?;
        self.known.insert(Arc::clone(&taken.text), Interest::Taken(number));
        self.taken.push(taken);
        Ok(number)
    }

    fn slots(&self, name: &str, labels: &Labels) -> Vec<Slot> {
        let mut slots = Vec::new();
        for (number, question) in self.questions.iter().enumerate() {
            for kind in question.kinds(name, labels) {
                let version = question.version_label.as_ref().and_then(|label| labels.get(label)).filter(|value| !value.is_empty());
                slots.push(Slot { question: number, kind, version: version.cloned(), route: question.route(labels) });
            }
        }
        slots
    }

    fn says(&self, name: &str) -> Option<Says> {
        match name.strip_suffix(CREATED) {
            _ if name == PROCESS => Some(Says::ProcessBegan),
            Some(family) if self.questions.iter().any(|question| question.may_begin(family)) => Some(Says::Created),
            _ => None,
        }
    }

    fn share(&mut self, slots: &[Slot], labels: &Labels) {
        for slot in slots {
            match self.shared.get_mut(slot.question) {
                Some(Some(shared)) => shared.retain(|label, value| labels.get(label) == Some(value)),
                Some(none) => *none = Some(labels.clone()),
                None => {}
            }
        }
    }

    /// What is noted of each sample. Whether it is to be kept.
    fn note(&mut self, number: u32, at: i64, value: f64) -> bool {
        let taken = &mut self.taken[number as usize];
        let gap = at.saturating_sub(taken.newest);
        if taken.newest == i64::MIN || gap > 0 {
            taken.newest = at;
        } else if gap == 0 {
            self.oddities.repeated += 1;
            return false;
        } else {
            self.oddities.out_of_order += 1;
        }
        if taken.says == Says::Counts {
            self.oddities.not_counts += u64::from(!(value >= 0.0 && value.is_finite()));
            self.oddities.in_the_future += u64::from(at > self.now);
            self.span = Some(self.span.map_or((at, at), |(first, last)| (first.min(at), last.max(at))));
        }
        at >= self.since || taken.says != Says::Counts
    }
}

impl Taker for Catalogue {
    fn may_take(&mut self, name: &[u8]) -> bool {
        if let Some(known) = self.names.get(name) {
            return *known;
        }
        let may = std::str::from_utf8(name)
            .is_ok_and(|name| self.says(name).is_some() || self.questions.iter().any(|question| question.may_match(name)));
        if self.names.len() < Self::MOST_NAMES {
            self.names.insert(name.to_vec(), may);
        }
        may
    }

    fn series(&mut self, text: &[u8], series: &exposition::Sample<'_>) -> Result<Interest, String> {
        let mut labels: Labels = series.labels().map(|(label, value)| (label.into_owned(), value.into_owned())).collect();
        labels.remove("__name__");
        let name = series.name.as_ref();
        let (slots, says) = (self.slots(name, &labels), self.says(name));
        if slots.is_empty() && says.is_none() {
            if self.known.len() < self.taken.len() + Self::MOST_SKIPPED {
                self.known.insert(text.into(), Interest::Skipped);
            }
            return Ok(Interest::Skipped);
        }
        let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
        let process = (label("job"), label("instance"));
        let target = match (labels.get("job"), labels.get("instance")) {
            (Some(job), Some(instance)) => Some(format!("{job}/{instance}")),
            (None, Some(instance)) => Some(instance.clone()),
            (_, None) => None,
        };
        if target.is_none() {
            self.share(&slots, &labels);
        }
        let id: Arc<str> = canonical(name, &labels).into();
        if let Some(number) = self.numbers.get(&id) {
            self.known.insert(text.into(), Interest::Taken(*number));
            return Ok(Interest::Taken(*number));
        }
        let suffixes = [CREATED, "_total", "_bucket", "_sum", "_count"];
        let family = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
        labels.remove("le");
        let taken = Taken {
            text: text.into(),
            id: Arc::clone(&id),
            target,
            process,
            created: canonical(family, &labels),
            says: if slots.is_empty() { says.unwrap_or(Says::Counts) } else { Says::Counts },
            slots,
            newest: i64::MIN,
        };
        let number = self.add(taken)?;
        self.numbers.insert(id, number);
        Ok(Interest::Taken(number))
    }

    fn known(&self, text: &[u8]) -> Option<Interest> {
        self.known.get(text).copied()
    }

    fn text(&self, number: u32) -> &[u8] {
        self.taken.get(number as usize).map_or(&[], |taken| &taken.text)
    }

    fn sample(&mut self, number: u32, at: i64, value: f64) -> Result<(), String> {
        if !self.note(number, at, value) {
            return Ok(());
        }
        self.runs.push(Sample { at, series: number, value }).map_err(|error| {
            let place = std::env::temp_dir();
            format!("cannot keep the samples in {} (TMPDIR names another place): {error}", place.display())
        })
    }
}

/// Which series say when a counter began.
#[derive(Debug, Default)]
pub struct Beginnings {
    created: HashMap<String, u32>,
    processes: HashMap<(String, String), Vec<u32>>,
}

impl Beginnings {
    /// Of a series: the one that speaks of it alone, and those that speak of its process.
    #[must_use]
    pub fn of(&self, taken: &Taken) -> (Option<u32>, Vec<u32>) {
        // What only names its job counts many processes together; what names neither was written down at one of them.
        let (job, instance) = &taken.process;
        let processes = self.processes.get(&taken.process).filter(|_| !instance.is_empty() || job.is_empty());
        (self.created.get(&taken.created).copied(), processes.cloned().unwrap_or_default())
    }
}

/// A series in canonical form, as the adapters of sources name it.
fn canonical<'a>(name: &str, labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> String {
    crate::signal::canonical(name, labels)
}
