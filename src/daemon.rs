//! The loop: an event comes in, the core says which entries follow, they are made durable, they are folded, and what has to be in progress
//! is set anew. One task owns the state; everything else sends it values. Nothing here knows how anything is done.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rollbackd_core::alert::{self, Alert, Heard, Rules};
use rollbackd_core::command::{self, Answer, Command, Desk};
use rollbackd_core::decide;
use rollbackd_core::entry::{Actor, Entry, Record};
use rollbackd_core::evidence::Evidence;
use rollbackd_core::guard::Limits;
use rollbackd_core::lifecycle::State;
use rollbackd_core::observation::Missing;
use rollbackd_core::plan::{Phase, PlanId};
use rollbackd_core::service::{Service, ServiceName, SignalName};
use rollbackd_core::task::{self, Route};
use rollbackd_core::words;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::executor::{Adapters, Executor, List, Seen};
use crate::ledger::{Ledger, LedgerError};
use crate::platform::Report;

mod journal;

/// What a configuration becomes once its adapters are made.
#[derive(Debug)]
pub struct Setup {
    /// The services.
    pub policies: BTreeMap<ServiceName, Service>,
    /// Limits over all services.
    pub limits: Limits,
    /// Which notices go where.
    pub routes: BTreeMap<String, Route>,
    /// What alerts stand for.
    pub alerts: Rules,
    /// Everything that touches the world.
    pub adapters: Adapters,
}

/// What others ask the daemon for.
#[derive(Debug)]
enum Request {
    Command { command: Box<Command>, by: Actor, reply: oneshot::Sender<Answer> },
    Alerts { alerts: Vec<Alert>, reply: oneshot::Sender<Result<Vec<Heard>, String>> },
    Reload { setup: Box<Setup>, reply: oneshot::Sender<()> },
}

/// The way to ask the daemon for something.
#[derive(Clone, Debug)]
pub struct Handle(mpsc::Sender<Request>);

impl Handle {
    /// Asks, and waits for the answer. None when the daemon has ended.
    pub async fn ask(&self, command: Command, by: Actor) -> Option<Answer> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Request::Command { command: Box::new(command), by, reply }).await.ok()?;
        answer.await.ok()
    }

    /// Delivers alerts, and waits for what becomes of each; or why they could not be recorded. None when the daemon has ended.
    pub async fn hear(&self, alerts: Vec<Alert>) -> Option<Result<Vec<Heard>, String>> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Request::Alerts { alerts, reply }).await.ok()?;
        answer.await.ok()
    }

    /// Goes on with another configuration. False when the daemon has ended.
    pub async fn reload(&self, setup: Setup) -> bool {
        let (reply, done) = oneshot::channel();
        let sent = self.0.send(Request::Reload { setup: Box::new(setup), reply }).await;
        sent.is_ok() && done.await.is_ok()
    }
}

/// How often deadlines are looked at when nothing else happens.
const TICK: Duration = Duration::from_secs(1);
/// Events that may wait; a sender that finds it full waits too, so a flood slows its sources and not the memory.
const EVENTS_WAITING: usize = 1024;
/// Requests that may wait.
const REQUESTS_WAITING: usize = 64;
/// So many rounds of rules may follow one event. The longest chain of a service is under ten; more is a fault of ours.
const ROUNDS: usize = 32;
/// Notices that are under way to one destination at once.
const NOTICES_AT_ONCE: usize = 4;

/// The daemon.
pub struct Daemon {
    state: State,
    setup: Configured,
    evidence: BTreeMap<ServiceName, Evidence>,
    ledger: Box<dyn Ledger>,
    clock: Clock,
    executor: Executor,
    seen: mpsc::Receiver<Seen>,
    requests: mpsc::Receiver<Request>,
    /// What tasks that end by themselves brought while the ledger could not be written. They don't come again, so it is seen again at each
    /// tick. Bounded: each such task brings one thing, and stays on its list until that is written.
    unwritten: Vec<Seen>,
    /// The services that are read more often because something is suspect.
    suspects: BTreeSet<ServiceName>,
    troubles: Troubles,
}

/// A setup without its adapters, which the executor has.
struct Configured {
    policies: BTreeMap<ServiceName, Service>,
    limits: Limits,
    routes: BTreeMap<String, Route>,
    alerts: Rules,
    /// How often signals were to be looked at that are looked at as they are scraped.
    told: BTreeMap<(ServiceName, SignalName), SignedDuration>,
}

impl Configured {
    fn of(setup: Setup) -> (Self, Adapters) {
        let Setup { policies, limits, routes, alerts, adapters } = setup;
        (Self { policies, limits, routes, alerts, told: BTreeMap::new() }, adapters)
    }

    /// Signals that are as they were keep the pace of their scrapes.
    fn keep_paces(&mut self, before: &Self) {
        for ((service, signal), told) in &before.told {
            let ours = before.policies.get(service).and_then(|policy| policy.signals.get(signal));
            let new = self.policies.get_mut(service).and_then(|policy| policy.signals.get_mut(signal));
            let Some((ours, new)) = ours.zip(new) else { continue };
            if new.every == *told && new.source == ours.source {
                new.every = ours.every;
                self.told.insert((service.clone(), signal.clone()), *told);
            }
        }
    }
}

/// What is wrong with the daemon itself.
#[derive(Default)]
struct Troubles {
    ledger: Option<String>,
    fatal: Option<LedgerError>,
    broken: BTreeSet<ServiceName>,
}

impl Troubles {
    fn words(&self) -> Vec<String> {
        let broken = self.broken.iter().map(|service| format!("judging {service} broke; it is not guarded until a restart"));
        self.ledger.iter().map(|why| format!("the ledger can't be written, so nothing is done: {why}")).chain(broken).collect()
    }
}

impl Daemon {
    /// Reads the ledger and begins where it ends. `wall` is the time by the wall clock, `name` the name of a ledger that is still empty.
    ///
    /// # Errors
    /// When the ledger can't be read or written.
    pub fn open(mut ledger: Box<dyn Ledger>, wall: Timestamp, name: &str, setup: Setup) -> Result<(Self, Handle), LedgerError> {
        let mut state = State::default();
        ledger.replay(&mut |record| state.apply(&record))?;
        let clock = Clock::begin(wall, (state.seq > 0).then_some(state.at));
        let (seen_sender, seen) = mpsc::channel(EVENTS_WAITING);
        let (request_sender, requests) = mpsc::channel(REQUESTS_WAITING);
        let (setup, adapters) = Configured::of(setup);
        let executor = Executor::new(adapters, clock, seen_sender);
        let evidence = setup.policies.iter().map(|(name, policy)| (name.clone(), Evidence::new(policy))).collect();
        let troubles = Troubles::default();
        let mut daemon = Self {
            state,
            setup,
            evidence,
            ledger,
            clock,
            executor,
            seen,
            requests,
            unwritten: Vec::new(),
            suspects: BTreeSet::new(),
            troubles,
        };
        if daemon.state.seq == 0 {
            daemon.append(vec![Entry::LedgerBegun { ledger: name.to_owned() }])?;
        }
        daemon.know_destinations()?;
        Ok((daemon, Handle(request_sender)))
    }

    /// Runs until `shutdown`. `heartbeat` is called at least every two seconds as long as the loop turns.
    ///
    /// # Errors
    /// When the ledger can't be trusted any more: nobody knows then whether the last entries are durable, so only a new start, which reads
    /// what is there, can go on.
    pub async fn run(mut self, shutdown: CancellationToken, mut heartbeat: impl FnMut()) -> Result<(), LedgerError> {
        self.set_all_tasks();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if let Some(error) = self.troubles.fatal.take() {
                return Err(error);
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                _ = tick.tick() => {
                    heartbeat();
                    for seen in std::mem::take(&mut self.unwritten) {
                        self.see(seen);
                    }
                    self.turn_all();
                }
                Some(request) = self.requests.recv() => self.request(request),
                Some(seen) = self.seen.recv() => self.see(seen),
            }
        }
    }

    /// Takes in what a task saw.
    fn see(&mut self, seen: Seen) {
        let now = self.clock.now();
        match seen {
            Seen::Workload(service, report) => {
                self.observe(&service, |evidence, policy| match report {
                    Report::Seen(workload) => evidence.observe_workload(policy, &workload, now),
                    Report::Missing(missing) => evidence.lose_workload(missing, now),
                    Report::Gone => evidence.lose_workload(Missing::Refused("the workload does not exist".to_owned()), now),
                });
            }
            Seen::Reading(service, signal, reading) => {
                self.observe(&service, |evidence, policy| evidence.observe(policy, &signal, &reading, now));
            }
            Seen::Pace(service, signal, pace) => self.keep_pace(&service, &signal, pace),
            Seen::History(ref service, deployment, ref signal, ref past, _) => {
                let Some(policy) = self.setup.policies.get(service) else { return };
                let entries = decide::history_read(&self.state, policy, deployment, signal, past);
                self.write_and_turn(&service.clone(), entries, seen);
            }
            Seen::Effect(ref service, plan, ref outcome) => {
                let entries = decide::effect_over(&self.state, service, plan, outcome.clone());
                self.write_and_turn(&service.clone(), entries, seen);
            }
            Seen::Delivered(notice, ref destination) => {
                let entry = Entry::NoticeDelivered { notice, destination: destination.clone() };
                self.settle(entry, seen);
            }
            Seen::Abandoned(notice, ref destination, ref why) => {
                let entry = Entry::NoticeAbandoned { notice, destination: destination.clone(), why: why.clone() };
                self.settle(entry, seen);
            }
        }
    }

    fn observe(&mut self, service: &ServiceName, take_in: impl FnOnce(&mut Evidence, &Service)) {
        let (Some(policy), Some(evidence)) = (self.setup.policies.get(service), self.evidence.get_mut(service)) else { return };
        if self.troubles.broken.contains(service) {
            return;
        }
        if catch_unwind(AssertUnwindSafe(|| take_in(evidence, policy))).is_err() {
            self.quarantine(service);
            return;
        }
        self.turn(service);
    }

    /// What is scraped more rarely than it was to be looked at is judged at its own pace.
    fn keep_pace(&mut self, service: &ServiceName, signal: &SignalName, pace: SignedDuration) {
        if self.troubles.broken.contains(service) {
            return;
        }
        let Some(policy) = self.setup.policies.get_mut(service) else { return };
        let Some(of_signal) = policy.signals.get_mut(signal) else { return };
        let key = (service.clone(), signal.clone());
        let told = self.setup.told.get(&key).copied().unwrap_or(of_signal.every);
        let every = if pace > told.saturating_mul(3) / 2 { pace } else { told };
        if every == of_signal.every {
            return;
        }
        if every > told {
            tracing::info!(%service, %signal, told = %words::duration(told), every = %words::duration(every), "scraped more rarely than it was to be looked at");
        } else {
            tracing::info!(%service, %signal, every = %words::duration(every), "scraped as often as it was to be looked at");
        }
        of_signal.every = every;
        self.setup.told.insert(key, told);
        if let Some(evidence) = self.evidence.get_mut(service) {
            evidence.begin_anew(policy, signal);
        }
        self.set_tasks(service);
    }

    /// One bad service never stops the others.
    fn quarantine(&mut self, service: &ServiceName) {
        tracing::error!(%service, "judging this service broke; it is not guarded until a restart");
        self.troubles.broken.insert(service.clone());
        self.executor.set(List::Service(service.clone()), Vec::new(), self.pending(service));
    }

    fn turn_all(&mut self) {
        let entries = decide::decide_fleet(&self.state, self.clock.now());
        if !entries.is_empty() && self.write(entries) {
            self.set_all_tasks();
        }
        let services: Vec<_> = self.setup.policies.keys().cloned().collect();
        for service in services {
            self.turn(&service);
        }
        // A notice that waited for an older one of its incident may have waited long enough.
        if !self.state.outbox.is_empty() {
            self.set_notices();
        }
    }

    fn write_and_turn(&mut self, service: &ServiceName, entries: Vec<Entry>, seen: Seen) {
        if !entries.is_empty() {
            if self.write(entries) {
                self.set_tasks(service);
            } else {
                self.unwritten.push(seen);
            }
        }
        self.turn(service);
    }

    /// Asks all rules about one service, again and again until none has anything to say.
    fn turn(&mut self, service: &ServiceName) {
        let mut changed = false;
        for _ in 0..ROUNDS {
            let (Some(policy), Some(evidence)) = (self.setup.policies.get(service), self.evidence.get_mut(service)) else { break };
            if self.troubles.broken.contains(service) {
                return;
            }
            let now = self.clock.now();
            let (state, limits) = (&self.state, &self.setup.limits);
            let Ok(entries) = catch_unwind(AssertUnwindSafe(|| decide::decide(state, policy, limits, evidence, now))) else {
                self.quarantine(service);
                return;
            };
            if entries.is_empty() || !self.write(entries) {
                break;
            }
            changed = true;
        }
        if changed || self.is_suspect(service) != self.suspects.contains(service) {
            self.set_tasks(service);
        }
    }

    fn settle(&mut self, entry: Entry, seen: Seen) {
        if self.write(vec![entry]) {
            self.set_notices();
        } else {
            self.unwritten.push(seen);
        }
    }

    /// Makes entries durable and folds them. False when they could not be made durable: where the ledger is well (a full disk) nothing
    /// happened, and as every rule looks at levels, it is tried again by itself; where it is not, the daemon ends.
    fn write(&mut self, entries: Vec<Entry>) -> bool {
        match self.append(entries) {
            Ok(()) => {
                if self.troubles.ledger.take().is_some() {
                    tracing::info!("the ledger can be written again");
                }
                true
            }
            Err(error @ LedgerError::Io { .. }) => {
                tracing::error!(error = %journal::chain(&error), "the ledger can't be trusted any more, ending");
                self.troubles.fatal.get_or_insert(error);
                false
            }
            Err(error) => {
                let why = journal::chain(&error);
                if self.troubles.ledger.as_ref() != Some(&why) {
                    tracing::error!(error = %why, "the ledger can't be written, so nothing is done until it can");
                    self.troubles.ledger = Some(why);
                }
                false
            }
        }
    }

    fn append(&mut self, entries: Vec<Entry>) -> Result<(), LedgerError> {
        let records: Vec<Record> = self.ledger.append(self.clock.now(), entries)?;
        for record in &records {
            self.state.apply(record);
            journal::record(&self.state, record);
        }
        Ok(())
    }

    fn know_destinations(&mut self) -> Result<(), LedgerError> {
        let names: BTreeSet<String> = self.setup.routes.keys().cloned().collect();
        if self.state.destinations.keys().eq(names.iter()) {
            return Ok(());
        }
        self.append(vec![Entry::DestinationsKnown { names }])
    }

    fn set_all_tasks(&mut self) {
        let services: Vec<_> = self.setup.policies.keys().cloned().collect();
        for service in services {
            self.set_tasks_of(&service);
        }
        self.set_notices();
    }

    fn set_tasks(&mut self, service: &ServiceName) {
        self.set_tasks_of(service);
        self.set_notices();
    }

    fn set_tasks_of(&mut self, service: &ServiceName) {
        if let Some(policy) = self.setup.policies.get(service) {
            let suspect = self.is_suspect(service);
            if suspect {
                self.suspects.insert(service.clone())
            } else {
                self.suspects.remove(service)
            };
            self.executor.set(List::Service(service.clone()), task::of_service(&self.state, policy, suspect), self.pending(service));
        }
    }

    fn is_suspect(&self, service: &ServiceName) -> bool {
        self.evidence.get(service).is_some_and(|evidence| evidence.is_suspect(self.clock.now()))
    }

    /// The plan whose effect may be under way.
    fn pending(&self, service: &ServiceName) -> Option<PlanId> {
        let rollback = self.state.service(service)?.open_rollback()?;
        (rollback.phase == Phase::Planned).then_some(rollback.id)
    }

    fn set_notices(&mut self) {
        self.executor.set(List::Notices, task::deliveries(&self.state, &self.setup.routes, NOTICES_AT_ONCE, self.clock.now()), None);
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Command { command, by, reply } => {
                let answer = self.answer(*command, &by);
                let _ = reply.send(answer);
            }
            Request::Alerts { alerts, reply } => {
                let heard = self.hear(&alerts);
                let _ = reply.send(heard);
            }
            Request::Reload { setup, reply } => {
                self.reload(*setup);
                let _ = reply.send(());
            }
        }
    }

    fn hear(&mut self, alerts: &[Alert]) -> Result<Vec<Heard>, String> {
        let (entries, heard) = alert::hear(&self.state, &self.setup.policies, &self.setup.alerts, alerts, self.clock.now());
        if entries.is_empty() {
            return Ok(heard);
        }
        let services: BTreeSet<ServiceName> = entries.iter().filter_map(Entry::service).cloned().collect();
        if !self.write(entries) {
            return Err(self.troubles.words().join("; "));
        }
        for service in &services {
            self.set_tasks(service);
            self.turn(service);
        }
        Ok(heard)
    }

    fn answer(&mut self, command: Command, by: &Actor) -> Answer {
        let troubles = self.troubles.words();
        let desk = Desk {
            state: &self.state,
            policies: &self.setup.policies,
            evidence: &self.evidence,
            limits: &self.setup.limits,
            notices_waiting: task::waiting(&self.state, &self.setup.routes),
            troubles: &troubles,
            now: self.clock.now(),
        };
        let (entries, answer) = command::handle(desk, command, by);
        if entries.is_empty() {
            return answer;
        }
        if !self.write(entries) {
            return Answer::Failed(self.troubles.words().join("; "));
        }
        self.set_all_tasks();
        self.turn_all();
        answer
    }

    /// Everything in progress but effects is begun anew under the new configuration; what was seen of a service stays where its policy did not change.
    fn reload(&mut self, setup: Setup) {
        let (mut setup, adapters) = Configured::of(setup);
        setup.keep_paces(&self.setup);
        self.evidence.retain(|name, _| setup.policies.get(name) == self.setup.policies.get(name));
        for (name, policy) in &setup.policies {
            self.evidence.entry(name.clone()).or_insert_with(|| Evidence::new(policy));
        }
        self.executor.replace(adapters);
        self.setup = setup;
        self.troubles.broken.clear();
        if let Err(error) = self.know_destinations() {
            tracing::error!(error = %journal::chain(&error), "the new destinations can't be recorded; they get no notices yet");
        }
        self.set_all_tasks();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Environment};

    /// As a file with one signal says it that is to be looked at once `every`.
    fn configured(every: &str) -> Configured {
        let text = format!(
            "[prometheus.main]\nurl = 'http://127.0.0.1:9/'\n[services.shop]\nplatform.command = {{ current = ['/bin/true'], deploy = ['/bin/true'] \
             }}\nerrors = {{ prometheus = 'main', total = 'r', failed = 'r{{code=~\"5..\"}}', every = '{every}' }}\n"
        );
        let read = config::parse(&text, "rollbackd.toml", &Environment::default());
        let config = read.unwrap_or_else(|wrong| panic!("{wrong}"));
        let policies = config.services.iter().map(|(name, service)| (name.clone(), service.policy.clone())).collect();
        let (limits, routes, alerts) = (Limits::default(), BTreeMap::new(), config.alerts.clone());
        Configured::of(Setup { policies, limits, routes, alerts, adapters: Adapters::default() }).0
    }

    fn every(configured: &mut Configured) -> &mut SignedDuration {
        let shop = configured.policies.values_mut().next().expect("there is one service");
        &mut shop.signals.values_mut().next().expect("it has one signal").every
    }

    #[test]
    fn a_reload_keeps_the_pace_of_the_scrapes_and_whoever_changes_it_is_heeded() {
        let (minute, quarter) = (SignedDuration::from_mins(1), SignedDuration::from_secs(15));
        let mut before = configured("15s");
        *every(&mut before) = minute;
        let key = before.policies.iter().map(|(name, shop)| (name.clone(), shop.signals.keys().next().cloned().expect("one"))).next();
        before.told.insert(key.expect("one"), quarter);
        for (told, expected) in [("15s", minute), ("30s", SignedDuration::from_secs(30))] {
            let mut reloaded = configured(told);
            reloaded.keep_paces(&before);
            assert_eq!(*every(&mut reloaded), expected, "{told}");
            assert_eq!(reloaded.told.is_empty(), expected != minute);
        }
    }
}
