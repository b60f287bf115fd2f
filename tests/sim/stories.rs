//! Stories on virtual time, with the durations that the daemon has by default: what operators are promised, proved once each.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;
use rollbackd::platform::kubernetes::Kind;
use rollbackd_core::command::{Answer, Command};
use rollbackd_core::entry::{Arrival, Entry, Mark, MarkReason, Record, Scope};
use rollbackd_core::guard::Limits;
use rollbackd_core::notice::NoticeKind;
use rollbackd_core::plan::{Outcome, Void};
use rollbackd_core::service::{Restore, Service, ServiceName, SignalKind};
use rollbackd_core::severity::Severity;
use tokio::time::sleep;

use super::audit::audit;
use super::cluster::Behaviour;
use super::host::{Host, Mutation, Plan, errors_signal};
use super::script::{over, runtime, service, trace};
use super::store::Death;
use super::world::{Fault, What, World, operator};

const PROBES: (SignalKind, bool) = (SignalKind::Probe, false);
const PROMETHEUS: (SignalKind, bool) = (SignalKind::Errors, true);

/// Most of the requests fail, and the health endpoint says that all is well.
const HALF_BROKEN: Behaviour = Behaviour::Failing { share: 0.6, after: Duration::ZERO, probes: false };

struct Story {
    world: World,
    host: Host,
    plan: Plan,
}

impl Story {
    /// Services that have been running for long, each with 30 requests in a second, and a daemon that sees them for the first time.
    fn begin(services: Vec<Service>) -> Self {
        Self::with(services, 30.0, None)
    }

    fn with(services: Vec<Service>, traffic: f64, dies_at: Option<(u64, Death)>) -> Self {
        Self::of_kinds(services, BTreeMap::new(), traffic, dies_at)
    }

    fn of_kind(service: Service, kind: Kind) -> Self {
        let kinds = BTreeMap::from([(service.name.clone(), kind)]);
        Self::of_kinds(vec![service], kinds, 30.0, None)
    }

    fn of_kinds(services: Vec<Service>, kinds: BTreeMap<ServiceName, Kind>, traffic: f64, dies_at: Option<(u64, Death)>) -> Self {
        let world = World::new(7);
        for service in &services {
            let name = service.name.as_str();
            let now = world.now();
            let kind = kinds.get(&service.name).copied().unwrap_or(Kind::Deployment);
            world.lock().cluster.create(name, kind, &v1(name), 3, traffic, now);
        }
        let services: BTreeMap<_, _> = services.into_iter().map(|service| (service.name.clone(), service)).collect();
        let (limits, destinations, mutation) = (Limits::default(), vec!["mail"], Mutation::default());
        let plan = Plan { services, kinds, limits, destinations, mutation, dies_at };
        let host = Host::start(&world, plan.clone());
        Self { world, host, plan }
    }

    async fn minutes(&self, minutes: u64) {
        sleep(Duration::from_secs(minutes * 60)).await;
    }

    fn deploy(&self, service: &str, image: &str, behaviour: Behaviour) {
        self.world.lock().cluster.behaviours.insert(image.to_owned(), behaviour);
        self.world.deploy(service, image);
    }

    fn running(&self, service: &str) -> String {
        self.world.lock().cluster.running(service)
    }

    fn records(&self) -> Vec<Record> {
        self.host.records()
    }

    fn entries<T>(&self, pick: impl Fn(&Entry) -> Option<T>) -> Vec<T> {
        self.records().iter().filter_map(|record| pick(&record.entry)).collect()
    }

    fn effects(&self) -> usize {
        self.world.lock().trace.iter().filter(|fact| matches!(fact.what, What::Applied { .. })).count()
    }

    fn outcomes(&self) -> Vec<Outcome> {
        self.entries(|entry| match entry {
            Entry::RollbackEnded { outcome, .. } => Some(outcome.clone()),
            _ => None,
        })
    }

    fn refusals(&self) -> Vec<&'static str> {
        self.entries(|entry| match entry {
            Entry::RollbackRefused { refusal, .. } => Some(refusal.name()),
            _ => None,
        })
    }

    /// Each notice once, in the order of the ledger.
    fn notices(&self) -> Vec<NoticeKind> {
        let inner = self.world.lock();
        let delivered = inner.trace.iter().filter_map(|fact| match &fact.what {
            What::Delivered { notice, .. } => Some((notice.id.rsplit('-').next()?.parse::<u64>().ok()?, notice.kind)),
            _ => None,
        });
        delivered.collect::<BTreeMap<u64, NoticeKind>>().into_values().collect()
    }

    /// The time from the newest deployment by a person to the first record after it that is picked.
    fn after_deployment(&self, pick: impl Fn(&Entry) -> bool) -> SignedDuration {
        let deployed = {
            let inner = self.world.lock();
            let newest = inner.trace.iter().rev().find(|fact| matches!(fact.what, What::Deployed { .. }));
            newest.expect("somebody deployed").at
        };
        let records = self.records();
        let found = records.iter().find(|record| record.at >= deployed && pick(&record.entry));
        found.unwrap_or_else(|| panic!("no such record after the deployment:\n{}", self.told())).at.duration_since(deployed)
    }

    /// Waits until the ledger says it, for an hour at most.
    async fn until(&self, pick: impl Fn(&Entry) -> bool) {
        let said = async {
            while !self.records().iter().any(|record| pick(&record.entry)) {
                self.world.written().await;
            }
        };
        let happened = tokio::time::timeout(Duration::from_hours(1), said).await;
        assert!(happened.is_ok(), "it never happened:\n{}", self.told());
    }

    fn told(&self) -> String {
        trace(&over(&self.world, &self.host, &self.plan, false))
    }

    /// The net holds for stories, too.
    fn end(&self) {
        let violations = audit(&over(&self.world, &self.host, &self.plan, true));
        assert!(violations.is_empty(), "{violations:#?}\n{}", self.told());
    }
}

fn v1(name: &str) -> String {
    format!("shop/{name}:v1")
}

fn probed(name: &str) -> Service {
    service(name, &[PROBES], false)
}

fn measured(name: &str) -> Service {
    service(name, &[PROBES, PROMETHEUS], false)
}

fn planned(entry: &Entry) -> bool {
    matches!(entry, Entry::RollbackPlanned { .. })
}

fn seconds(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn an_outage_that_probes_see_is_decided_after_six_rounds_of_a_clean_history() {
    let story = Story::begin(vec![probed("shop")]);
    story.minutes(120).await;
    story.deploy("shop", "shop/shop:v2", Behaviour::OUTAGE);
    story.minutes(30).await;

    let rolled_out = story.after_deployment(|entry| matches!(entry, Entry::RolledOut { .. }));
    let decided = story.after_deployment(planned);
    assert!(decided <= rolled_out + seconds(6 * 5 + 1), "rolled out after {rolled_out:#}, decided after {decided:#}");
    assert_eq!(story.running("shop"), v1("shop"));
    assert_eq!(story.outcomes(), [Outcome::Recovered]);
    assert_eq!(story.notices(), [NoticeKind::Detected, NoticeKind::RollingBack, NoticeKind::Recovered, NoticeKind::AllClear]);
    story.end();
}

#[tokio::test(start_paused = true)]
async fn sixty_percent_errors_are_rolled_back_as_p1_within_the_promise() {
    let story = Story::begin(vec![measured("shop")]);
    story.minutes(60).await;
    story.deploy("shop", "shop/shop:v2", HALF_BROKEN);
    story.minutes(40).await;

    let decided = story.after_deployment(planned);
    assert!((seconds(60 + 120)..seconds(60 + 120 + 45)).contains(&decided), "grace and hold are 180 s, it took {decided:#}");
    let severities = story.entries(|entry| match entry {
        Entry::VerdictReached { verdict, .. } => Some(verdict.severity),
        _ => None,
    });
    assert!(severities.contains(&Severity::P1), "{severities:?}");
    let recovered = story.after_deployment(|entry| matches!(entry, Entry::RollbackEnded { outcome: Outcome::Recovered, .. }));
    assert!(recovered < SignedDuration::from_mins(15), "it took {recovered:#}");
    assert_eq!((story.running("shop"), story.effects()), (v1("shop"), 1));
    story.end();
}

#[tokio::test(start_paused = true)]
async fn a_healthy_release_is_promoted_after_half_an_hour_and_nobody_is_bothered() {
    let story = Story::begin(vec![measured("shop")]);
    story.minutes(90).await;
    story.deploy("shop", "shop/shop:v2", Behaviour::GOOD);
    story.minutes(60).await;

    let passed = story.after_deployment(|entry| matches!(entry, Entry::WindowPassed { .. }));
    assert!((SignedDuration::from_mins(30)..seconds(1805)).contains(&passed), "{passed:#}");
    assert_eq!((story.running("shop").as_str(), story.effects()), ("shop/shop:v2", 0));
    assert_eq!(story.notices(), []);
    story.end();
}

#[tokio::test(start_paused = true)]
async fn a_quiet_service_is_watched_on_and_never_rolled_back() {
    let quiet = service("night", &[PROMETHEUS], false);
    let story = Story::with(vec![quiet], 0.0, None);
    story.minutes(40).await;
    story.deploy("night", "shop/night:v2", HALF_BROKEN);
    story.minutes(180).await;

    let extended = story.after_deployment(|entry| matches!(entry, Entry::WindowExtended { .. }));
    assert!((SignedDuration::from_mins(30)..seconds(1805)).contains(&extended), "{extended:#}");
    assert_eq!((story.running("night").as_str(), story.effects()), ("shop/night:v2", 0));
    story.end();
}

#[tokio::test(start_paused = true)]
async fn a_prometheus_that_is_away_for_ten_minutes_is_told_and_rolls_nothing_back() {
    let story = Story::begin(vec![measured("shop")]);
    story.minutes(60).await;
    story.deploy("shop", "shop/shop:v2", Behaviour::GOOD);
    story.minutes(5).await;
    story.world.breaks(Fault::PrometheusAway);
    let gone = story.world.now();
    story.minutes(10).await;
    story.world.mends(Fault::PrometheusAway);
    story.minutes(40).await;

    let blinded = story.records().into_iter().find(|record| matches!(record.entry, Entry::Blinded { .. })).expect("it is told").at;
    let after = blinded.duration_since(gone);
    assert!((seconds(120)..seconds(120 + 20)).contains(&after), "told after {after:#}");
    assert_eq!(story.notices(), [NoticeKind::Blind, NoticeKind::Sighted]);
    assert_eq!((story.running("shop").as_str(), story.effects()), ("shop/shop:v2", 0));
    story.end();
}

#[tokio::test(start_paused = true)]
async fn nobody_is_called_blind_who_was_not_asked() {
    let story = Story::begin(vec![measured("shop")]);
    // Between windows Prometheus is not asked.
    story.minutes(120).await;
    story.deploy("shop", "shop/shop:v2", Behaviour::GOOD);
    story.minutes(5).await;
    assert_eq!(story.notices(), []);
    story.end();
}

#[tokio::test(start_paused = true)]
async fn a_fix_that_arrives_just_after_the_decision_is_left_alone() {
    let story = Story::begin(vec![measured("shop")]);
    story.minutes(60).await;
    story.deploy("shop", "shop/shop:v2", HALF_BROKEN);
    story.until(planned).await;
    story.deploy("shop", "shop/shop:v3", Behaviour::GOOD);
    story.minutes(60).await;

    assert!(matches!(story.outcomes()[..], [Outcome::Void(Void::Moved | Void::Superseded { .. })]), "{:?}", story.outcomes());
    assert_eq!((story.running("shop").as_str(), story.effects()), ("shop/shop:v3", 0));
    story.end();
}

#[tokio::test(start_paused = true)]
async fn a_fix_that_arrives_while_the_rollback_is_verified_is_left_alone() {
    let story = Story::begin(vec![measured("shop")]);
    story.minutes(60).await;
    story.deploy("shop", "shop/shop:v2", HALF_BROKEN);
    story.until(|entry| matches!(entry, Entry::RollbackRolledOut { .. })).await;
    story.deploy("shop", "shop/shop:v3", Behaviour::GOOD);
    story.minutes(120).await;

    assert!(matches!(story.outcomes()[..], [Outcome::Interrupted { .. }]), "{:?}", story.outcomes());
    assert_eq!((story.running("shop").as_str(), story.effects()), ("shop/shop:v3", 1));
    story.end();
}

#[tokio::test(start_paused = true)]
async fn when_the_known_good_version_is_bad_too_it_stops_and_calls_a_person() {
    let story = Story::begin(vec![probed("shop")]);
    story.minutes(120).await;
    story.deploy("shop", "shop/shop:v2", Behaviour::OUTAGE);
    sleep(Duration::from_secs(10)).await;
    if let Some(workload) = story.world.lock().cluster.workloads.get_mut("shop") {
        workload.dependency_down = true;
    }
    story.minutes(60).await;

    assert!(matches!(story.outcomes()[..], [Outcome::DidNotHelp { .. }]), "{:?}", story.outcomes());
    assert_eq!(story.effects(), 1);
    assert!(story.notices().contains(&NoticeKind::DidNotHelp));
    let cleared = story.entries(|entry| match entry {
        Entry::Marked { mark: Mark::Unknown, reason: MarkReason::NotToBlame(_), .. } => Some(()),
        _ => None,
    });
    assert_eq!(cleared.len(), 1, "what was left is not to blame");
    story.end();
}

#[tokio::test(start_paused = true)]
async fn without_a_known_good_version_a_person_is_called() {
    let story = Story::begin(vec![probed("shop")]);
    story.minutes(5).await;
    story.deploy("shop", "shop/shop:v2", Behaviour::CrashLoop);
    story.minutes(40).await;

    assert_eq!(story.refusals(), ["no-known-good"]);
    assert!(story.notices().contains(&NoticeKind::Blocked));
    assert_eq!(story.effects(), 0);
    story.end();
}

#[tokio::test(start_paused = true)]
async fn a_person_who_goes_back_by_hand_is_not_helped() {
    let story = Story::begin(vec![probed("shop")]);
    story.minutes(60).await;
    story.deploy("shop", "shop/shop:v2", Behaviour::OUTAGE);
    sleep(Duration::from_secs(15)).await;
    story.world.undo("shop");
    story.minutes(60).await;

    assert_eq!((story.running("shop"), story.effects()), (v1("shop"), 0));
    assert_eq!(story.notices(), [NoticeKind::Operator]);
    story.end();
}

#[tokio::test(start_paused = true)]
async fn an_autoscaler_at_work_is_no_deployment() {
    let story = Story::begin(vec![measured("shop")]);
    story.minutes(60).await;
    story.deploy("shop", "shop/shop:v2", Behaviour::GOOD);
    for replicas in [5, 2, 4, 3, 6] {
        story.minutes(5).await;
        story.world.scale("shop", replicas);
    }
    story.minutes(30).await;

    let seen = story.entries(|entry| match entry {
        Entry::DeploymentSeen { .. } => Some(()),
        _ => None,
    });
    assert_eq!((seen.len(), story.effects()), (2, 0));
    assert_eq!(story.entries(|entry| matches!(entry, Entry::WindowPassed { .. }).then_some(())).len(), 2);
    story.end();
}

#[tokio::test(start_paused = true)]
async fn an_autoscaler_between_decision_and_effect_costs_a_second_plan_and_nothing_else() {
    let story = Story::begin(vec![measured("shop")]);
    story.minutes(60).await;
    story.deploy("shop", "shop/shop:v2", HALF_BROKEN);
    story.until(planned).await;
    story.world.scale("shop", 5);
    story.minutes(40).await;

    assert_eq!(story.outcomes(), [Outcome::Void(Void::Moved), Outcome::Recovered]);
    assert_eq!((story.running("shop"), story.effects()), (v1("shop"), 1));
    story.end();
}

#[tokio::test(start_paused = true)]
async fn a_deployment_that_could_not_be_seen_costs_one_void_plan_and_no_storm() {
    let story = Story::begin(vec![measured("shop")]);
    story.minutes(60).await;
    story.deploy("shop", "shop/shop:v2", Behaviour::GOOD);
    story.minutes(2).await;
    story.world.breaks(Fault::ApiAway);
    story.minutes(1).await;
    story.deploy("shop", "shop/shop:v3", HALF_BROKEN);
    story.until(planned).await;
    story.world.mends(Fault::ApiAway);
    story.minutes(60).await;

    let voids = story.outcomes().iter().filter(|outcome| matches!(outcome, Outcome::Void(_))).count();
    assert_eq!((voids, story.effects()), (1, 1), "{}", story.told());
    assert_eq!(story.running("shop"), v1("shop"));
    story.end();
}

#[tokio::test(start_paused = true)]
async fn three_services_that_go_bad_together_trip_the_brake() {
    let story = Story::begin(vec![probed("basket"), probed("checkout"), probed("search"), probed("shipping")]);
    story.minutes(120).await;
    for name in ["basket", "checkout", "search", "shipping"] {
        story.deploy(name, &format!("shop/{name}:v2"), Behaviour::OUTAGE);
    }
    story.minutes(25).await;

    let brakes = story.entries(|entry| matches!(entry, Entry::BrakeTripped { .. }).then_some(()));
    assert_eq!(brakes.len(), 1);
    assert!(story.effects() <= 2, "{} rollbacks", story.effects());
    assert!(story.refusals().contains(&"fleet-brake"), "{:?}", story.refusals());

    let answer = story.host.ask(Command::Resume { scope: Scope::All }).await;
    assert!(matches!(answer, Some(Answer::Done(_))));
    story.minutes(60).await;
    assert!(["basket", "checkout", "search", "shipping"].into_iter().all(|name| story.running(name) == v1(name)), "{}", story.told());
    story.end();
}

#[tokio::test(start_paused = true)]
async fn two_bad_deployments_in_a_row_lead_back_to_the_last_good_one() {
    let story = Story::begin(vec![measured("shop")]);
    story.minutes(60).await;
    story.deploy("shop", "shop/shop:v2", Behaviour::CrashLoop);
    sleep(Duration::from_secs(40)).await;
    story.deploy("shop", "shop/shop:v3", Behaviour::ImagePull);
    story.minutes(40).await;

    assert_eq!((story.running("shop"), story.effects()), (v1("shop"), 1));
    assert_eq!(story.outcomes(), [Outcome::Recovered]);
    story.end();
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_delays_notices_and_loses_none() {
    let story = Story::begin(vec![measured("shop")]);
    story.minutes(60).await;
    story.deploy("shop", "shop/shop:v2", HALF_BROKEN);
    story.until(planned).await;
    story.world.breaks(Fault::LedgerFull);
    story.minutes(3).await;
    story.world.mends(Fault::LedgerFull);
    story.minutes(40).await;

    assert_eq!((story.running("shop"), story.effects()), (v1("shop"), 1));
    story.end();
}

#[tokio::test(start_paused = true)]
async fn a_pause_holds_and_its_end_lets_go() {
    let story = Story::begin(vec![measured("shop")]);
    story.minutes(60).await;
    let hold = Command::Hold { scope: Scope::All, reason: "an exercise".to_owned(), lasting: None };
    assert!(matches!(story.host.ask(hold).await, Some(Answer::Done(_))), "{:?} asked", operator());
    story.deploy("shop", "shop/shop:v2", HALF_BROKEN);
    story.minutes(10).await;
    assert_eq!((story.effects(), story.refusals()), (0, vec!["hold"]));

    assert!(matches!(story.host.ask(Command::Resume { scope: Scope::All }).await, Some(Answer::Done(_))));
    story.minutes(40).await;
    assert_eq!((story.running("shop"), story.effects()), (v1("shop"), 1));
    story.end();
}

/// A short story with one rollback, in which the daemon dies once.
async fn rollback_with_a_death(dies_at: Option<(u64, Death)>) -> Story {
    let story = Story::with(vec![service("shop", &[PROBES, PROMETHEUS], true)], 30.0, dies_at);
    story.world.lock().cluster.scrape_every = Duration::from_secs(5);
    story.minutes(5).await;
    story.deploy("shop", "shop/shop:v2", Behaviour::OUTAGE);
    story.minutes(6).await;
    story
}

/// Plays it on a runtime of its own, with which its world ends.
fn played(dies_at: Option<(u64, Death)>) -> Story {
    runtime().block_on(rollback_with_a_death(dies_at))
}

fn dies_at_each_write(death: Death) {
    let calm = played(None);
    let (written, notices) = (calm.records().len() as u64, calm.notices());
    assert_eq!((calm.running("shop"), calm.effects(), calm.outcomes()), (v1("shop"), 1, vec![Outcome::Recovered]), "{}", calm.told());
    calm.end();

    for at in 1..=written {
        let story = played(Some((at, death)));
        let end = (story.running("shop"), story.effects(), story.outcomes());
        assert_eq!(end, (v1("shop"), 1, vec![Outcome::Recovered]), "death {death:?} record {at}:\n{}", story.told());
        // Who looks late may see a smaller impact first, so that what was detected can be told twice.
        let turns = |notices: &[NoticeKind]| -> Vec<NoticeKind> {
            let detected = [NoticeKind::Detected, NoticeKind::ApprovalWanted];
            notices.iter().copied().filter(|kind| !detected.contains(kind)).collect()
        };
        assert_eq!(turns(&story.notices()), turns(&notices), "death {death:?} record {at}:\n{}", story.told());
        story.end();
    }
}

#[test]
fn a_death_before_any_write_changes_neither_the_rollback_nor_the_notices() {
    dies_at_each_write(Death::Before);
}

#[test]
fn a_death_after_any_write_changes_neither_the_rollback_nor_the_notices() {
    dies_at_each_write(Death::After);
}

#[tokio::test(start_paused = true)]
async fn what_a_rollback_brought_is_a_deployment_of_its_own() {
    let story = rollback_with_a_death(None).await;
    let arrivals = story.entries(|entry| match entry {
        Entry::DeploymentSeen { arrival, .. } => Some(arrival.clone()),
        _ => None,
    });
    assert!(matches!(arrivals[..], [Arrival::FirstSight, Arrival::Deployed, Arrival::Rollback { .. }]), "{arrivals:?}");
    assert!(story.plan.services.values().all(|service| service.signals.contains_key(&errors_signal())));
    story.end();
}

/// A version that never gets ready is rolled back, and the workload gets well again.
async fn a_version_that_never_gets_ready(mut of: Service, kind: Kind, restore: Restore) {
    of.restore = restore;
    let story = Story::of_kind(of, kind);
    story.minutes(60).await;
    story.deploy("shop", "shop/shop:v2", Behaviour::CrashLoop);
    story.minutes(60).await;

    assert_eq!((story.running("shop"), story.effects()), (v1("shop"), 1), "{}", story.told());
    assert_eq!(story.outcomes(), [Outcome::Recovered], "{}", story.told());
    let now = story.world.now();
    assert!(story.world.lock().cluster.is_well("shop", now));
    story.end();
}

#[tokio::test(start_paused = true)]
async fn a_stateful_set_that_waits_for_its_broken_pod_is_freed() {
    a_version_that_never_gets_ready(measured("shop"), Kind::StatefulSet, Restore::Template).await;
}

#[tokio::test(start_paused = true)]
async fn a_daemon_set_goes_back_like_anything_else() {
    a_version_that_never_gets_ready(measured("shop"), Kind::DaemonSet, Restore::Template).await;
}

/// What runs after it is neither of the two versions; it is judged as one that a rollback brought all the same.
#[tokio::test(start_paused = true)]
async fn only_the_image_goes_back_where_that_is_asked_for() {
    for kind in [Kind::Deployment, Kind::StatefulSet, Kind::DaemonSet] {
        a_version_that_never_gets_ready(measured("shop"), kind, Restore::Image).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_settings_stay_when_only_the_image_goes_back() {
    let mut shop = measured("shop");
    shop.restore = Restore::Image;
    let story = Story::begin(vec![shop]);
    story.minutes(60).await;
    story.deploy("shop", "shop/shop:v2", HALF_BROKEN);
    story.minutes(60).await;

    let template = story.world.lock().cluster.workloads["shop"].template.clone();
    assert_eq!(template["spec"]["containers"][0]["env"][0]["value"], "settings of shop/shop:v2");
    let arrivals = story.entries(|entry| match entry {
        Entry::DeploymentSeen { arrival, .. } => Some(arrival.clone()),
        _ => None,
    });
    assert!(matches!(arrivals[..], [Arrival::FirstSight, Arrival::Deployed, Arrival::Rollback { .. }]), "{arrivals:?}");
    assert_eq!(story.outcomes(), [Outcome::Recovered]);
    story.end();
}

/// The hotfix is held up by the broken pod of the version before it, and so is the way back.
#[tokio::test(start_paused = true)]
async fn a_stateful_set_is_freed_from_the_pods_of_every_version_that_did_not_come_up() {
    let story = Story::of_kind(measured("shop"), Kind::StatefulSet);
    story.minutes(60).await;
    story.deploy("shop", "shop/shop:v2", Behaviour::CrashLoop);
    sleep(Duration::from_secs(40)).await;
    story.deploy("shop", "shop/shop:v3", Behaviour::ImagePull);
    sleep(Duration::from_secs(40)).await;
    let back = Command::Rollback {
        service: story.plan.services.keys().next().expect("one").clone(),
        to: None,
        reason: "enough".to_owned(),
        dry_run: false,
    };
    assert!(matches!(story.host.ask(back).await, Some(Answer::Planned { .. })), "{}", story.told());
    story.minutes(40).await;

    assert_eq!((story.running("shop"), story.effects()), (v1("shop"), 1), "{}", story.told());
    let now = story.world.now();
    assert!(story.world.lock().cluster.is_well("shop", now), "{}", story.told());
    assert!(matches!(story.outcomes()[..], [Outcome::Recovered]), "{}", story.told());
    story.end();
}

#[tokio::test(start_paused = true)]
async fn a_lost_ledger_leaves_what_the_object_knows() {
    let story = Story::begin(vec![measured("shop")]);
    story.minutes(60).await;
    story.deploy("shop", "shop/shop:v2", HALF_BROKEN);
    // Prometheus's last hour must not hold what the new ledger does not know to be an incident.
    story.minutes(70).await;
    assert_eq!((story.running("shop"), story.effects()), (v1("shop"), 1));

    story.host.lose_ledger();
    story.world.kill();
    story.minutes(60).await;

    let found = story.entries(|entry| match entry {
        Entry::Marked { version, mark: Mark::Bad, reason: MarkReason::FoundOnObject, .. } => Some(version.clone()),
        _ => None,
    });
    assert_eq!(found.len(), 1, "{}", story.told());
    assert_eq!((story.running("shop"), story.effects()), (v1("shop"), 1), "nothing was decided on an empty memory");
    assert_eq!(story.entries(|entry| matches!(entry, Entry::WindowPassed { .. }).then_some(())).len(), 1, "{}", story.told());

    // The bad version comes back, and goes again.
    story.world.deploy("shop", "shop/shop:v2");
    story.minutes(40).await;
    assert_eq!((story.running("shop"), story.effects()), (v1("shop"), 2), "{}", story.told());
    story.end();
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_is_lost_in_the_middle_of_a_rollback_costs_no_second_effect() {
    let story = Story::begin(vec![measured("shop")]);
    story.minutes(60).await;
    story.deploy("shop", "shop/shop:v2", HALF_BROKEN);
    story.until(|entry| matches!(entry, Entry::RollbackApplied { .. })).await;
    story.host.lose_ledger();
    story.world.kill();
    story.minutes(90).await;

    assert_eq!((story.running("shop"), story.effects()), (v1("shop"), 1), "{}", story.told());
    story.end();
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_jumps_an_hour_forward_and_back_decides_nothing() {
    let story = Story::begin(vec![measured("shop")]);
    story.minutes(60).await;
    story.deploy("shop", "shop/shop:v2", Behaviour::GOOD);
    for offset in [3_600, -3_600, 0] {
        story.minutes(4).await;
        story.world.lock().wall_offset = offset;
        story.world.kill();
    }
    story.minutes(60).await;

    let verdicts = story.entries(|entry| matches!(entry, Entry::VerdictReached { .. }).then_some(()));
    assert_eq!((verdicts.len(), story.effects(), story.running("shop").as_str()), (0, 0, "shop/shop:v2"), "{}", story.told());
    assert_eq!(story.entries(|entry| matches!(entry, Entry::WindowPassed { .. }).then_some(())).len(), 2, "{}", story.told());
    story.end();
}

#[tokio::test(start_paused = true)]
async fn a_bad_version_is_rolled_back_across_a_jump_of_the_wall_clock() {
    for offset in [3_600, -3_600] {
        let story = Story::begin(vec![probed("shop")]);
        story.minutes(120).await;
        story.deploy("shop", "shop/shop:v2", Behaviour::CrashLoop);
        sleep(Duration::from_secs(30)).await;
        story.world.lock().wall_offset = offset;
        story.world.kill();
        story.minutes(60).await;

        assert_eq!((story.running("shop"), story.effects()), (v1("shop"), 1), "{}", story.told());
        assert_eq!(story.outcomes(), [Outcome::Recovered], "{}", story.told());
        story.end();
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_fell_silent_delays_a_look_by_a_minute_at_most() {
    let story = Story::begin(vec![probed("shop")]);
    story.minutes(118).await;
    story.world.breaks(Fault::SilentWatch);
    story.minutes(2).await;
    story.deploy("shop", "shop/shop:v2", Behaviour::OUTAGE);
    story.minutes(30).await;

    let seen = story.after_deployment(|entry| matches!(entry, Entry::DeploymentSeen { arrival: Arrival::Deployed, .. }));
    assert!(seen <= seconds(61), "seen after {seen:#}");
    assert_eq!((story.running("shop"), story.effects()), (v1("shop"), 1), "{}", story.told());
    assert_eq!(story.outcomes(), [Outcome::Recovered]);
    story.end();
}

/// S23.
#[tokio::test(start_paused = true)]
async fn a_dry_run_decides_the_same_at_the_same_moment_and_sends_nothing() {
    let mut decided = Vec::new();
    for dry_run in [false, true] {
        let mut shop = measured("shop");
        shop.dry_run = dry_run;
        let story = Story::begin(vec![shop]);
        story.minutes(60).await;
        story.deploy("shop", "shop/shop:v2", HALF_BROKEN);
        story.minutes(20).await;
        let answered = |entry: &Entry| matches!(entry, Entry::RollbackPlanned { .. } | Entry::RollbackRefused { .. });
        let verdicts = |entry: &Entry| match entry {
            Entry::VerdictReached { verdict, .. } => Some((verdict.severity, verdict.impact)),
            _ => None,
        };
        decided.push((story.after_deployment(answered), story.entries(verdicts).into_iter().next()));
        let sent = story.world.lock().trace.iter().filter(|fact| matches!(fact.what, What::Sent { .. })).count();
        assert_eq!((sent, story.effects()), if dry_run { (0, 0) } else { (1, 1) });
        if dry_run {
            assert_eq!(story.refusals(), ["dry-run"]);
        }
        story.end();
    }
    assert_eq!(decided[0], decided[1]);
}

/// S18: what happens to one service changes nothing for another.
#[tokio::test(start_paused = true)]
async fn a_service_in_trouble_changes_nothing_for_another() {
    let mut decisions = Vec::new();
    for in_trouble in [false, true] {
        let story = Story::begin(vec![measured("basket"), measured("checkout")]);
        story.minutes(60).await;
        if in_trouble {
            story.deploy("basket", "shop/basket:v2", HALF_BROKEN);
            let absurd = [("rollbackd.dev/record", "{".repeat(9_000)), ("rollbackd.dev/change", "\u{202e}".repeat(100))];
            let mut inner = story.world.lock();
            let annotations = &mut inner.cluster.workloads.get_mut("basket").expect("it is there").annotations;
            annotations.extend(absurd.map(|(key, value)| (key.to_owned(), value)));
        }
        story.minutes(1).await;
        story.deploy("checkout", "shop/checkout:v2", HALF_BROKEN);
        story.minutes(90).await;
        let of_checkout = |entry: &Entry| {
            let name = entry.service().filter(|service| service.as_str() == "checkout");
            name.map(|_| std::mem::discriminant(entry))
        };
        decisions.push((story.entries(of_checkout), story.running("checkout")));
        story.end();
    }
    assert_eq!(decisions[0], decisions[1]);
    assert_eq!(decisions[0].1, v1("checkout"));
}

/// S1, S2, S13 with no help from a lease: each has a ledger of its own, and both decide.
#[tokio::test(start_paused = true)]
async fn two_daemons_on_one_workload_roll_back_once() {
    let story = Story::begin(vec![measured("shop")]);
    let twin = Host::start_as("twin", &story.world, story.plan.clone());
    story.minutes(60).await;
    story.deploy("shop", "shop/shop:v2", HALF_BROKEN);
    story.minutes(120).await;

    assert_eq!((story.running("shop"), story.effects()), (v1("shop"), 1), "{}", story.told());
    let plans = |records: Vec<Record>| records.iter().filter(|record| planned(&record.entry)).count();
    assert!(plans(story.records()) <= 1 && plans(twin.records()) <= 1, "{}", story.told());
}

/// S19 and F55: a configuration that comes in the middle of a rollback.
#[tokio::test(start_paused = true)]
async fn a_rollback_goes_on_under_another_configuration() {
    let mut story = Story::begin(vec![measured("shop")]);
    story.minutes(60).await;
    story.deploy("shop", "shop/shop:v2", HALF_BROKEN);
    story.until(planned).await;
    for policy in story.plan.services.values_mut() {
        policy.window = SignedDuration::from_mins(45);
        policy.dry_run = true;
    }
    assert!(story.host.reload(&story.plan).await);
    story.minutes(60).await;

    assert_eq!(story.effects(), story.outcomes().iter().filter(|outcome| **outcome == Outcome::Recovered).count(), "{}", story.told());
    assert_eq!(story.outcomes().len(), 1, "{}", story.told());
}

/// What fails is the version that the fix replaces, as long as its pods still serve.
#[tokio::test(start_paused = true)]
async fn a_fix_that_rolls_out_slowly_is_not_blamed_for_what_it_replaces() {
    let story = Story::begin(vec![measured("shop")]);
    story.minutes(60).await;
    story.deploy("shop", "shop/shop:v2", Behaviour::Failing { share: 1.0, after: Duration::ZERO, probes: false });
    sleep(Duration::from_secs(7)).await;
    story.deploy("shop", "shop/shop:v3", Behaviour::Good { ready_after: Duration::from_secs(150) });
    story.minutes(60).await;

    assert_eq!((story.running("shop").as_str(), story.effects()), ("shop/shop:v3", 0), "{}", story.told());
    story.end();
}

/// As above, where the daemon itself knows that what is replaced was bad, and a person puts it right.
#[tokio::test(start_paused = true)]
async fn a_persons_fix_in_a_pause_is_not_blamed_for_the_incident_that_it_ends() {
    let story = Story::begin(vec![measured("shop")]);
    story.minutes(60).await;
    let hold = Command::Hold { scope: Scope::All, reason: "we fix it".to_owned(), lasting: None };
    assert!(matches!(story.host.ask(hold).await, Some(Answer::Done(_))));
    story.deploy("shop", "shop/shop:v2", Behaviour::Failing { share: 1.0, after: Duration::ZERO, probes: false });
    story.minutes(10).await;
    assert_eq!(story.refusals(), ["hold"]);
    story.deploy("shop", "shop/shop:v3", Behaviour::Good { ready_after: Duration::from_secs(90) });
    assert!(matches!(story.host.ask(Command::Resume { scope: Scope::All }).await, Some(Answer::Done(_))));
    story.minutes(60).await;

    assert_eq!((story.running("shop").as_str(), story.effects()), ("shop/shop:v3", 0), "{}", story.told());
    story.end();
}

/// Who was broken before, as far as the little that is remembered goes, is no measure for who comes after.
#[tokio::test(start_paused = true)]
async fn a_broken_past_does_not_make_a_broken_version_known_good() {
    let story = Story::begin(vec![probed("shop")]);
    story.minutes(60).await;
    story.deploy("shop", "shop/shop:v2", Behaviour::OUTAGE);
    sleep(Duration::from_secs(20)).await;
    // What it saw before dies with it.
    story.world.kill();
    sleep(Duration::from_secs(30)).await;
    story.deploy("shop", "shop/shop:v3", Behaviour::OUTAGE);
    story.minutes(60).await;

    let promoted = story.entries(|entry| match entry {
        Entry::WindowPassed { deployment, .. } => Some(*deployment),
        _ => None,
    });
    assert_eq!(promoted.len(), 1, "only v1: {}", story.told());
    story.end();
}

/// Nobody but a person can free it: it is no rollback of ours, so that pod is not ours to delete.
#[tokio::test(start_paused = true)]
async fn a_fix_that_waits_for_the_broken_pod_before_it_is_told() {
    let story = Story::of_kind(measured("shop"), Kind::StatefulSet);
    story.minutes(60).await;
    story.deploy("shop", "shop/shop:v2", Behaviour::CrashLoop);
    sleep(Duration::from_secs(40)).await;
    story.deploy("shop", "shop/shop:v3", Behaviour::GOOD);
    story.minutes(60).await;

    assert_eq!((story.running("shop").as_str(), story.effects()), ("shop/shop:v3", 0), "{}", story.told());
    assert!(!story.notices().is_empty(), "{}", story.told());
    story.end();
}
