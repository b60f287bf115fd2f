//! Plays recorded samples and deployments to the judge, in order of time: looks at each signal at its cadence, as the daemon would have,
//! and hands on what had been scraped by then. It decides nothing.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::io;

use jiff::{SignedDuration, Timestamp};
use rollbackd_core::entry::{DeploymentId, Entry};
use rollbackd_core::guard::Limits;
use rollbackd_core::observation::{Missing, Reading, Sample, Scrape, Series};
use rollbackd_core::service::{Service, ServiceName, SignalName};
use rollbackd_core::version::{Version, VersionId};

use super::catalogue::{Catalogue, Kind, Labels};
use super::judge::{Deployed, Judge, World};
use crate::signal::histogram::{Family, Part, Parts};

/// What is played.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct Script {
    /// The services, with the signals that can be had.
    pub policies: Vec<Service>,
    /// Limits over all of them.
    pub limits: Limits,
    /// What becomes of a rollback that is planned.
    pub world: World,
    /// Whether a deployment is watched on that has not proved itself when its window ends.
    pub watch_on: bool,
    /// Which question of the catalogue a signal answers.
    pub signals: Vec<(ServiceName, SignalName, usize)>,
    /// What happened beside the samples, in order of time.
    pub happenings: Vec<(Timestamp, ServiceName, Happening)>,
    /// Whether a known good version runs at each service when it begins.
    pub begins_well: bool,
    /// Whether the course of each signal is kept.
    pub courses: bool,
    /// Whether all deployments are known beforehand, so that samples of other times need not be looked at.
    pub all_known: bool,
}

/// Something that happened beside the samples.
#[derive(Clone, Debug)]
pub enum Happening {
    /// A look at what is deployed.
    Deployed(Deployed),
    /// Somebody said something.
    Said(Box<Entry>),
}

/// What came of it.
#[derive(Debug)]
pub struct Played {
    /// The judge, with everything that it would have written.
    pub judge: Judge,
    /// How it went around each deployment, if that was asked for.
    pub courses: BTreeMap<(ServiceName, DeploymentId), BTreeMap<SignalName, Vec<Point>>>,
    /// Deployments that a version label told of.
    pub by_label: u64,
}

/// What was counted in one step of a signal.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// The end of the step, in milliseconds since 1970.
    pub at: i64,
    /// Requests.
    pub requests: f64,
    /// Those of them that the current version answered; all where nothing tells versions apart.
    pub judged: f64,
    /// The failed ones of these; of durations their sum in seconds.
    pub failed: f64,
}

/// One look takes no more series, as in the adapters.
const MOST_SERIES: usize = 1_000;

/// While nothing is watched, a source with a history of its own is not looked at; it is enough to keep up.
const LONG_STEP: i64 = 64;

/// In a gap without any samples the judge need not be asked for longer than this.
const GAP: i64 = 3_600_000;

/// A version that was gone for so long and comes back was deployed again.
const GONE: i64 = 300_000;

/// How much of the course before a deployment is kept.
const COURSE_BEFORE: i64 = 3_600_000;

/// Plays a script.
///
/// # Errors
/// When the samples can't be read back from where they were kept.
pub fn play(script: &Script, catalogue: &mut Catalogue) -> io::Result<Played> {
    let mut player = Player::new(script, catalogue);
    let end = catalogue.span.map_or(i64::MIN, |(_, last)| last);
    player.begin(script, catalogue.span.map(|(first, _)| first));
    for sample in catalogue.runs().in_order()? {
        let sample = sample?;
        player.pass(sample.at);
        player.take(sample.at, sample.series, sample.value);
    }
    player.pass(end.saturating_add(1));
    Ok(player.end(end))
}

struct Player<'a> {
    script: &'a Script,
    judge: Judge,
    services: Vec<Served>,
    signals: Vec<Heard>,
    /// By the number of a series: where its samples go.
    uses: Vec<Use>,
    began: BTreeMap<u32, Timestamp>,
    due: BinaryHeap<Reverse<(i64, Due)>>,
    played: Told,
    now: i64,
}

#[derive(Default)]
struct Told {
    courses: BTreeMap<(ServiceName, DeploymentId), BTreeMap<SignalName, Vec<Point>>>,
    by_label: u64,
}

/// What is to be done, in this order where it is due at the same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Look(usize),
    Happening(usize),
    Version(usize, usize),
    WindowEnd(usize, u64),
}

#[derive(Clone, Debug)]
enum Use {
    Counts(Vec<(usize, usize)>),
    Began,
}

struct Served {
    name: ServiceName,
    signals: Vec<usize>,
    window: SignedDuration,
    versions: Vec<SeenVersion>,
    current: Option<usize>,
    /// Times of which samples are needed though nothing is watched, in order; none where that is not known.
    wanted: Option<VecDeque<(i64, i64)>>,
    /// Whether each look counts now.
    attentive: bool,
    /// The current version's own beginning, and whether others still count beside it.
    rolling_out: bool,
}

struct SeenVersion {
    name: String,
    newest: i64,
    deployed: Option<Timestamp>,
}

struct Heard {
    /// Of histograms; none of counters.
    family: Option<Family>,
    /// The histograms' labels and their parts' slots.
    histograms: Vec<(Labels, Vec<usize>)>,
    service: usize,
    name: SignalName,
    selector: String,
    every: i64,
    has_history: bool,
    slots: Vec<Slot>,
    /// Slots with samples that were not handed on.
    fresh: Vec<usize>,
    /// The first sample: looks are at whole steps from there on.
    origin: Option<i64>,
    next_look: i64,
    newest_total: Option<(i64, usize)>,
    steps: Steps,
}

struct Slot {
    kind: SlotKind,
    route: Option<String>,
    id: String,
    target: String,
    created: Option<u32>,
    processes: Vec<u32>,
    version: Option<usize>,
    /// Whether no other version counts at its target, so that the versions can be told apart.
    is_apart: bool,
    pending: Vec<Sample>,
    /// Of a part of a histogram: what was handed on lately, since parts that lack can only be told beside those before.
    recent: VecDeque<Sample>,
    newest: Option<Sample>,
}

/// What a slot counts.
#[derive(Clone, Debug, PartialEq, Eq)]
enum SlotKind {
    Total,
    Failed,
    Part(Part, Option<String>),
}

/// The course of a signal, step by step.
#[derive(Default)]
struct Steps {
    newest: VecDeque<Point>,
}

impl<'a> Player<'a> {
    fn new(script: &'a Script, catalogue: &Catalogue) -> Self {
        let mut judge = Judge::new(script.policies.iter().cloned(), script.limits.clone(), script.world);
        judge.watch_on(script.watch_on);
        let served = |policy: &Service| Served {
            name: policy.name.clone(),
            signals: Vec::new(),
            window: policy.window,
            versions: Vec::new(),
            current: None,
            wanted: script.all_known.then(|| wanted(policy, &script.happenings)),
            attentive: false,
            rolling_out: false,
        };
        let mut player = Self {
            script,
            judge,
            services: script.policies.iter().map(served).collect(),
            signals: Vec::new(),
            uses: catalogue.taken().iter().map(|taken| if taken.slots.is_empty() { Use::Began } else { Use::Counts(Vec::new()) }).collect(),
            began: BTreeMap::new(),
            due: BinaryHeap::new(),
            played: Told::default(),
            now: i64::MIN,
        };
        player.hear(catalogue);
        player
    }

    fn hear(&mut self, catalogue: &Catalogue) {
        let mut of_question: BTreeMap<usize, usize> = BTreeMap::new();
        for (service, name, question) in &self.script.signals {
            let Some(place) = self.services.iter().position(|served| served.name == *service) else { continue };
            let Some(policy) = self.script.policies[place].signals.get(name) else { continue };
            of_question.insert(*question, self.signals.len());
            self.services[place].signals.push(self.signals.len());
            self.signals.push(Heard {
                family: catalogue.family(*question).cloned(),
                histograms: Vec::new(),
                service: place,
                name: name.clone(),
                selector: catalogue.selector(*question).to_owned(),
                every: i64::try_from(policy.every.as_millis()).unwrap_or(i64::MAX).max(1),
                has_history: policy.has_history,
                slots: Vec::new(),
                fresh: Vec::new(),
                origin: None,
                next_look: i64::MAX,
                newest_total: None,
                steps: Steps::default(),
            });
        }
        let beginnings = catalogue.beginnings();
        for (number, taken) in (0_u32..).zip(catalogue.taken()) {
            let (created, processes) = beginnings.of(taken);
            for slot in &taken.slots {
                let Some(&signal) = of_question.get(&slot.question) else { continue };
                let service = self.signals[signal].service;
                let version = slot.version.as_ref().map(|version| self.version(service, version));
                let heard = &mut self.signals[signal];
                if let Use::Counts(places) = &mut self.uses[number as usize] {
                    places.push((signal, heard.slots.len()));
                }
                let kind = heard.kind(&slot.kind);
                heard.slots.push(Slot {
                    kind,
                    route: slot.route.clone(),
                    id: taken.id.to_string(),
                    target: catalogue.target(number, slot.question),
                    created,
                    processes: processes.clone(),
                    version,
                    is_apart: false,
                    pending: Vec::new(),
                    recent: VecDeque::new(),
                    newest: None,
                });
            }
        }
        if self.script.courses {
            self.signals.iter_mut().for_each(Heard::tell_apart);
        }
    }

    fn version(&mut self, service: usize, name: &str) -> usize {
        let versions = &mut self.services[service].versions;
        versions.iter().position(|version| version.name == name).unwrap_or_else(|| {
            versions.push(SeenVersion { name: name.to_owned(), newest: i64::MIN, deployed: None });
            versions.len() - 1
        })
    }

    /// What runs before anything is deployed, and what will happen.
    fn begin(&mut self, script: &Script, first: Option<i64>) {
        let happenings = script.happenings.iter().map(|(at, ..)| at.as_millisecond());
        let first = happenings.chain(first).min().map_or(0, |first| first.saturating_sub(1000));
        if script.begins_well {
            for served in &self.services {
                let name = format!("what ran before ({})", served.name);
                self.judge.begin(&served.name, &Version { id: VersionId("before".to_owned()), name }, moment(first));
            }
        }
        for (number, (at, ..)) in script.happenings.iter().enumerate() {
            self.due.push(Reverse((at.as_millisecond(), Due::Happening(number))));
        }
    }

    /// Lets time pass until just before `until`: everything that is due by then is done.
    fn pass(&mut self, until: i64) {
        while let Some(&Reverse((at, due))) = self.due.peek()
            && at < until
        {
            self.due.pop();
            self.now = self.now.max(at);
            match due {
                Due::Look(signal) if self.signals[signal].next_look == at => self.look_and_go_on(signal, at, until),
                Due::Look(_) => {}
                Due::Happening(number) => self.happen(number, at),
                Due::Version(service, version) => self.deploy_version(service, version, at),
                Due::WindowEnd(service, deployment) => self.window_ends(service, DeploymentId(deployment), at),
            }
        }
    }

    /// A sample comes in.
    fn take(&mut self, at: i64, series: u32, value: f64) {
        let Self { uses, signals, services, due, .. } = self;
        let Use::Counts(places) = &uses[series as usize] else {
            self.began.extend(began(value).map(|began| (series, began)));
            return;
        };
        let sample = Sample { at: moment(at), value };
        for &(signal, slot) in places {
            let heard = &mut signals[signal];
            let served = &mut services[heard.service];
            if !served.attentive && !served.wants(at) {
                continue;
            }
            if heard.take(slot, at, sample, self.script.courses, served.current) {
                heard.next_look = at;
                due.push(Reverse((at, Due::Look(signal))));
            }
            let service = heard.service;
            if let Some(version) = heard.slots[slot].version
                && served.is_deployed(version, at, signals)
            {
                due.push(Reverse((at, Due::Version(service, version))));
            }
        }
    }

    fn deploy_version(&mut self, service: usize, version: usize, at: i64) {
        let served = &mut self.services[service];
        let before = served.versions.iter().enumerate().filter(|(number, _)| *number != version).map(|(_, other)| other.newest);
        let not_before = before.filter(|newest| *newest < at).max().filter(|newest| *newest > i64::MIN).unwrap_or(at);
        served.versions[version].deployed = Some(moment(at));
        served.rolling_out = true;
        self.played.by_label += 1;
        let deployed = self.labelled(service, moment(not_before.min(at)));
        self.deploy(service, &deployed, at);
    }

    /// The current version by its label. As long as another one counts beside it, it is being rolled out.
    fn labelled(&self, service: usize, not_before: Timestamp) -> Deployed {
        let served = &self.services[service];
        let name = served.current.map_or_else(String::new, |current| served.versions[current].name.clone());
        Deployed { version: Version { id: VersionId(name.clone()), name }, not_before, rolled_out: !served.rolling_out, change: None }
    }

    fn happen(&mut self, number: usize, at: i64) {
        let Some((_, name, happening)) = self.script.happenings.get(number) else { return };
        let Some(service) = self.services.iter().position(|served| served.name == *name) else { return };
        match happening {
            Happening::Deployed(deployed) => self.deploy(service, deployed, at),
            Happening::Said(entry) => {
                let entry = self.as_here(service, Entry::clone(entry));
                self.judge.write(vec![entry], moment(at));
                let name = self.services[service].name.clone();
                self.judge.turn(&name, moment(at));
            }
        }
    }

    /// What was said of a deployment names it by its number in another ledger.
    fn as_here(&self, service: usize, entry: Entry) -> Entry {
        let Some(known) = self.judge.state().service(&self.services[service].name) else { return entry };
        let Some(current) = known.current else { return entry };
        match entry {
            Entry::DeploymentAnnounced { service, deployment: Some(_), started, change, by } => {
                Entry::DeploymentAnnounced { service, deployment: Some(current), started, change, by }
            }
            Entry::ImpactDeclared { service, declaration, .. } => Entry::ImpactDeclared { service, deployment: current, declaration },
            Entry::ImpactWithdrawn { service, declaration, by, ended, .. } => {
                Entry::ImpactWithdrawn { service, deployment: current, declaration, by, ended }
            }
            Entry::QuestionAnswered { service, choice, by, reason, .. } => {
                Entry::QuestionAnswered { service, deployment: current, choice, by, reason }
            }
            Entry::RollbackPlanned { mut plan } => {
                plan.deployment = current;
                let target = known.deployments.values().rev().find(|deployment| deployment.version.id == plan.to.id);
                plan.to_deployment = target.map_or(current, |target| target.id);
                Entry::RollbackPlanned { plan }
            }
            other => other,
        }
    }

    fn deploy(&mut self, service: usize, deployed: &Deployed, at: i64) {
        let name = self.services[service].name.clone();
        for signal in self.services[service].signals.clone() {
            self.look(signal, at);
        }
        let before = self.current(&name);
        self.judge.deploy(&name, deployed, moment(at));
        self.services[service].attentive = self.judge.is_attentive(&name);
        let Some((deployment, started)) = self.current(&name).filter(|current| Some(*current) != before) else { return };
        let end = started.checked_add(self.services[service].window).unwrap_or(Timestamp::MAX).as_millisecond().max(at);
        self.due.push(Reverse((end, Due::WindowEnd(service, deployment.0))));
        for signal in self.services[service].signals.clone() {
            let heard = &mut self.signals[signal];
            heard.origin.get_or_insert(at);
            self.look_again(signal, at, 1);
        }
        if self.script.courses {
            self.keep_course_before(service, deployment, at);
        }
    }

    fn current(&self, name: &ServiceName) -> Option<(DeploymentId, Timestamp)> {
        self.judge.state().service(name)?.current().map(|current| (current.id, current.started))
    }

    fn look_and_go_on(&mut self, signal: usize, at: i64, until: i64) {
        self.look(signal, at);
        let heard = &self.signals[signal];
        let name = &self.services[heard.service].name;
        let watched = self.judge.is_attentive(name);
        let silent = heard.newest_total.is_none_or(|(newest, _)| at.saturating_sub(newest) > GAP);
        if silent && until.saturating_sub(at) > GAP {
            // Nothing comes before then, and what follows from silence has followed by now.
            return self.look_again(signal, until.saturating_sub(1), 1);
        }
        let steps = if watched || !heard.has_history { 1 } else { LONG_STEP };
        self.look_again(signal, at, steps);
    }

    /// The next look is so many steps after `at`, on whole steps since the first sample.
    fn look_again(&mut self, signal: usize, at: i64, steps: i64) {
        let heard = &mut self.signals[signal];
        let Some(origin) = heard.origin else { return };
        let passed = at.saturating_sub(origin).div_euclid(heard.every);
        heard.next_look = origin.saturating_add(passed.saturating_add(steps).saturating_mul(heard.every));
        self.due.push(Reverse((heard.next_look, Due::Look(signal))));
    }

    fn look(&mut self, signal: usize, at: i64) {
        let heard = &mut self.signals[signal];
        let served = &self.services[heard.service];
        let watched = self.judge.is_attentive(&served.name);
        if !watched && heard.has_history && heard.fresh.is_empty() {
            return;
        }
        let deployed = |version: usize| served.versions[version].deployed;
        let reading = heard.reading(at, watched, &self.began, deployed);
        let (service, name) = (heard.service, served.name.clone());
        let signal_name = heard.name.clone();
        self.judge.observe(&name, &signal_name, reading, moment(at));
        self.services[service].attentive = self.judge.is_attentive(&name);
        self.see_rollout(service, at);
    }

    /// Whether the versions before the current one have stopped to count.
    fn see_rollout(&mut self, service: usize, at: i64) {
        let served = &self.services[service];
        if !served.rolling_out {
            return;
        }
        let every = served.signals.iter().map(|signal| self.signals[*signal].every).max().unwrap_or(0);
        let others = served.versions.iter().enumerate().filter(|(number, _)| Some(*number) != served.current);
        let newest = others.map(|(_, other)| other.newest).max().unwrap_or(i64::MIN);
        if at.saturating_sub(newest) > every.saturating_mul(2) {
            self.services[service].rolling_out = false;
            let deployed = self.labelled(service, moment(at));
            let name = self.services[service].name.clone();
            self.judge.deploy(&name, &deployed, moment(at));
        }
    }

    fn window_ends(&mut self, service: usize, deployment: DeploymentId, at: i64) {
        let name = self.services[service].name.clone();
        if self.current(&name).map(|(current, _)| current) != Some(deployment) {
            return;
        }
        for signal in self.services[service].signals.clone() {
            self.look(signal, at);
        }
        self.judge.turn(&name, moment(at));
        self.services[service].attentive = self.judge.is_attentive(&name);
        if self.script.courses {
            self.keep_course_after(service, deployment, at);
        }
    }

    fn keep_course_before(&mut self, service: usize, deployment: DeploymentId, at: i64) {
        self.finish_course(service, deployment, at);
        let name = self.services[service].name.clone();
        let before = |heard: &Heard| {
            let points = heard.steps.newest.iter().filter(|point| point.at > at.saturating_sub(COURSE_BEFORE));
            (heard.name.clone(), points.copied().collect())
        };
        let course = self.services[service].signals.iter().map(|signal| before(&self.signals[*signal])).collect();
        self.played.courses.insert((name, deployment), course);
    }

    /// The course of the deployment before ends where another one begins.
    fn finish_course(&mut self, service: usize, next: DeploymentId, at: i64) {
        let name = self.services[service].name.clone();
        let before = self.played.courses.range((name.clone(), DeploymentId(0))..(name, next)).next_back().map(|(key, _)| key.1);
        if let Some(before) = before {
            self.keep_course_after(service, before, at);
        }
    }

    fn keep_course_after(&mut self, service: usize, deployment: DeploymentId, at: i64) {
        let name = self.services[service].name.clone();
        let Some(course) = self.played.courses.get_mut(&(name, deployment)) else { return };
        for signal in &self.services[service].signals {
            let heard = &self.signals[*signal];
            let points = course.entry(heard.name.clone()).or_default();
            let last = points.last().map_or(i64::MIN, |point| point.at);
            points.extend(heard.steps.newest.iter().filter(|point| point.at > last && point.at <= at));
        }
    }

    fn end(mut self, end: i64) -> Played {
        if end > i64::MIN {
            for signal in 0..self.signals.len() {
                self.look(signal, end);
            }
            for service in 0..self.services.len() {
                let name = self.services[service].name.clone();
                self.judge.keep_last_words(&name, moment(end));
                if let Some((deployment, _)) = self.current(&name).filter(|_| self.script.courses && self.judge.is_attentive(&name)) {
                    self.keep_course_after(service, deployment, end);
                }
            }
        }
        // What happens after the last sample happens all the same; nothing is seen of it.
        while let Some(Reverse((at, due))) = self.due.pop() {
            if let Due::Happening(number) = due {
                self.happen(number, at);
            }
        }
        for served in &self.services {
            self.judge.keep_last_words(&served.name, moment(self.now.max(end)));
        }
        let Told { courses, by_label } = self.played;
        Played { judge: self.judge, courses, by_label }
    }
}

/// When samples are needed for the deployments of a service: from the begin of its history on until it starts, and around the same hour a
/// day and a week before.
fn wanted(policy: &Service, happenings: &[(Timestamp, ServiceName, Happening)]) -> VecDeque<(i64, i64)> {
    let every = policy.signals.values().map(|signal| signal.every).max().unwrap_or_default();
    let before = |at: Timestamp, time: SignedDuration| at.checked_sub(time).unwrap_or(Timestamp::MIN).as_millisecond();
    let hours = SignedDuration::from_hours;
    // A piece of the past begins with its hour, and overlaps the one before.
    let margin = hours(1).saturating_add(every.saturating_mul(8));
    let mut spans: Vec<(i64, i64)> = Vec::new();
    for (at, _, _) in happenings.iter().filter(|(_, service, _)| *service == policy.name) {
        spans.push((before(*at, policy.decision.history.saturating_add(margin)), at.as_millisecond()));
        for ago in [24, 7 * 24] {
            spans.push((before(*at, hours(ago).saturating_add(margin)), before(*at, hours(ago - 2))));
        }
    }
    spans.sort_unstable();
    let mut wanted: VecDeque<(i64, i64)> = VecDeque::new();
    for (from, to) in spans {
        match wanted.back_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => wanted.push_back((from, to)),
        }
    }
    wanted
}

impl Served {
    /// A sample of a version comes in. One that is new, or was long gone, was deployed; those that were there at first were not.
    fn is_deployed(&mut self, version: usize, at: i64, heard: &[Heard]) -> bool {
        let newest = std::mem::replace(&mut self.versions[version].newest, at);
        if self.current == Some(version) || newest != i64::MIN && at.saturating_sub(newest) <= GONE {
            return false;
        }
        let every = self.signals.iter().map(|signal| heard[*signal].every).max().unwrap_or(0);
        if newest != i64::MIN && at.saturating_sub(newest) <= every.saturating_mul(4) {
            return false;
        }
        let first = self.signals.iter().filter_map(|signal| heard[*signal].origin).min().unwrap_or(at);
        self.current = Some(version);
        at.saturating_sub(first) > every
    }

    /// Whether a sample of this time is needed for a later deployment. Times come in order.
    fn wants(&mut self, at: i64) -> bool {
        let Some(wanted) = &mut self.wanted else { return true };
        while wanted.front().is_some_and(|(_, to)| *to < at) {
            wanted.pop_front();
        }
        wanted.front().is_some_and(|(from, _)| *from <= at)
    }
}

impl Heard {
    fn tell_apart(&mut self) {
        let mut versions: BTreeMap<String, BTreeSet<Option<usize>>> = BTreeMap::new();
        for slot in &self.slots {
            versions.entry(slot.target.clone()).or_default().insert(slot.version);
        }
        for slot in &mut self.slots {
            slot.is_apart = slot.version.is_some() && versions.get(&slot.target).is_some_and(|versions| versions.len() == 1);
        }
    }

    /// What the next slot counts; a part of a histogram is put to its other parts.
    fn kind(&mut self, kind: &Kind) -> SlotKind {
        match kind {
            Kind::Total => SlotKind::Total,
            Kind::Failed => SlotKind::Failed,
            Kind::Part { part, le, labels } => {
                let slot = self.slots.len();
                match self.histograms.binary_search_by(|(known, _)| known.cmp(labels)) {
                    Ok(place) => self.histograms[place].1.push(slot),
                    Err(place) => self.histograms.insert(place, (labels.clone(), vec![slot])),
                }
                SlotKind::Part(*part, le.clone())
            }
        }
    }

    /// Takes in a sample. Whether it is the first of all.
    fn take(&mut self, slot: usize, at: i64, sample: Sample, course: bool, current: Option<usize>) -> bool {
        let Slot { kind, pending, newest, version, is_apart, .. } = &mut self.slots[slot];
        if pending.is_empty() {
            self.fresh.push(slot);
        }
        pending.push(sample);
        let before = newest.replace(sample);
        if matches!(kind, SlotKind::Total | SlotKind::Part(Part::Count, _)) {
            self.newest_total = Some((at, slot));
        }
        if course {
            let difference =
                before.map_or(0.0, |before| if sample.value >= before.value { sample.value - before.value } else { sample.value });
            // In seconds, whatever the histogram has.
            let unit = if matches!(kind, SlotKind::Part(Part::Sum, _)) { self.family.as_ref().map_or(1.0, Family::unit) } else { 1.0 };
            self.steps.add(kind, at, self.every, unit * difference, !*is_apart || *version == current);
        }
        let is_first = self.origin.is_none();
        self.origin.get_or_insert(at);
        is_first
    }

    /// What a look gives: everything new, or why there is nothing.
    fn reading(
        &mut self,
        at: i64,
        watched: bool,
        began: &BTreeMap<u32, Timestamp>,
        deployed: impl Fn(usize) -> Option<Timestamp>,
    ) -> Reading {
        let span = self.every.saturating_mul(6).max(30_000);
        let Some((newest, _)) = self.newest_total.filter(|(newest, _)| !watched || at.saturating_sub(*newest) <= span) else {
            return Reading::Missing(Missing::NoSeries(self.selector.clone()));
        };
        if watched && at.saturating_sub(newest) > self.every.saturating_mul(2) {
            return Reading::Missing(Missing::Stale { age: SignedDuration::from_millis(at.saturating_sub(newest)) });
        }
        let number = if self.family.is_some() { self.histograms.len() } else { self.slots.len() };
        if watched && number > MOST_SERIES && self.live(at.saturating_sub(span)) > MOST_SERIES {
            for slot in self.fresh.drain(..) {
                self.slots[slot].pending.clear();
            }
            return Reading::Missing(Missing::TooLarge(format!("more than {MOST_SERIES} series of {}", self.selector)));
        }
        if self.family.is_some() {
            return self.histograms(at.saturating_sub(span), began, deployed);
        }
        let mut scrape = Scrape::default();
        for slot in self.fresh.drain(..) {
            let slot = &mut self.slots[slot];
            // As many are likely to come until the next look.
            let room = Vec::with_capacity(slot.pending.len());
            let samples = std::mem::replace(&mut slot.pending, room);
            let series = slot.series(samples, began, &deployed);
            if slot.kind == SlotKind::Failed { scrape.failed.push(series) } else { scrape.total.push(series) }
        }
        if scrape.total.is_empty()
            && let Some((_, slot)) = self.newest_total
        {
            // A source gives the newest samples again and again; one is enough to say that it is there.
            let slot = &self.slots[slot];
            scrape.total.push(slot.series(slot.newest.into_iter().collect(), began, &deployed));
        }
        Reading::Scrape(scrape)
    }

    /// Histograms with everything new, and what was new lately.
    fn histograms(&mut self, since: i64, began: &BTreeMap<u32, Timestamp>, deployed: impl Fn(usize) -> Option<Timestamp>) -> Reading {
        let Some(family) = &self.family else { return Reading::Histograms(Vec::new()) };
        let since = moment(since);
        let (mut histograms, mut flaw) = (Vec::new(), None);
        self.fresh.clear();
        for (labels, slots) in &self.histograms {
            let mut parts = Parts::default();
            let mut any = None;
            for &slot in slots {
                let slot = &mut self.slots[slot];
                let fresh = std::mem::take(&mut slot.pending);
                slot.recent.extend(fresh);
                let SlotKind::Part(part, le) = &slot.kind else { continue };
                parts.add(*part, le.as_deref(), slot.recent.iter().copied().collect());
                while slot.recent.front().is_some_and(|sample| sample.at < since) {
                    slot.recent.pop_front();
                }
                any = any.or_else(|| slot.newest.map(|_| (slot.target.clone(), slot.started(began, &deployed))));
            }
            let (runs, flawed) = parts.runs();
            flaw = flaw.or(flawed);
            let Some((target, started)) = any else { continue };
            histograms.extend(runs.into_iter().map(|run| family.histogram(labels, target.clone(), started, run)));
        }
        match flaw {
            Some(flaw) if histograms.is_empty() => Reading::Missing(Missing::Malformed(format!("{}: {flaw}", family.name()))),
            None if histograms.is_empty() => Reading::Missing(Missing::NoSeries(self.selector.clone())),
            _ => Reading::Histograms(histograms),
        }
    }

    fn live(&self, since: i64) -> usize {
        let counts = |slot: &&Slot| self.family.is_none() || matches!(slot.kind, SlotKind::Part(Part::Count, _));
        self.slots.iter().filter(counts).filter(|slot| slot.newest.is_some_and(|newest| newest.at >= moment(since))).count()
    }
}

impl Slot {
    fn series(&self, samples: Vec<Sample>, began: &BTreeMap<u32, Timestamp>, deployed: impl Fn(usize) -> Option<Timestamp>) -> Series {
        let process_started = self.started(began, deployed);
        Series { id: self.id.clone(), target: self.target.clone(), process_started, route: self.route.clone(), samples }
    }

    fn started(&self, began: &BTreeMap<u32, Timestamp>, deployed: impl Fn(usize) -> Option<Timestamp>) -> Option<Timestamp> {
        let created = self.created.and_then(|created| began.get(&created).copied());
        // Where several processes share a target, only the oldest says for sure that all are young.
        let process = || self.processes.iter().filter_map(|process| began.get(process)).min().copied();
        // By its label it counts for a version, however long before its first scrape the process began.
        created.or_else(process).max(self.version.and_then(deployed))
    }
}

impl Steps {
    fn add(&mut self, kind: &SlotKind, at: i64, every: i64, difference: f64, is_judged: bool) {
        if !difference.is_finite() || difference < 0.0 {
            return;
        }
        let end = at.div_euclid(every).saturating_add(1).saturating_mul(every);
        if self.newest.back().is_none_or(|newest| newest.at < end) {
            self.newest.push_back(Point { at: end, ..Point::default() });
            // Two windows of an hour and a half, or a day at most.
            while self.newest.front().is_some_and(|oldest| oldest.at < end.saturating_sub(24 * 3_600_000)) || self.newest.len() > 6_000 {
                self.newest.pop_front();
            }
        }
        if let Some(point) = self.newest.back_mut() {
            match kind {
                SlotKind::Total | SlotKind::Part(Part::Count, _) => {
                    point.requests += difference;
                    point.judged += if is_judged { difference } else { 0.0 };
                }
                SlotKind::Failed | SlotKind::Part(Part::Sum, _) if is_judged => point.failed += difference,
                SlotKind::Failed | SlotKind::Part(..) => {}
            }
        }
    }
}

/// A time in milliseconds. All times were checked when they were read.
fn moment(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(if milliseconds < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

/// When a process began, in seconds as metrics say it.
fn began(seconds: f64) -> Option<Timestamp> {
    #[expect(clippy::cast_possible_truncation, reason = "checked to be small")]
    (seconds > 0.0 && seconds < 1e11).then_some((seconds * 1000.0).round() as i64).and_then(|at| Timestamp::from_millisecond(at).ok())
}
