//! Stories of services from the first sight to the all-clear, with everything that gets in between.

use super::world::{Api, Behaviour, World, minutes, name, ready, seconds, version};
use super::{EffectOutcome, effect_over};
use crate::baseline::Baseline;
use crate::command::{Answer, Command};
use crate::entry::{Arrival, DeploymentId, Entry, Mark, Scope};
use crate::guard::Refusal;
use crate::lifecycle::Status;
use crate::notice::NoticeKind;
use crate::plan::{EffectRecord, Obstacle, Outcome, Phase, Void};
use crate::severity::{Response, Severity};
use crate::task::{self, Task};
use crate::version::{ChangeKind, VersionId};

/// `checkout`, where v2 was just deployed over a known good v1 and behaves like that.
fn deployed(behaviour: Behaviour) -> World {
    let mut world = World::settled();
    world.deploy("v2", behaviour);
    world
}

fn planned(world: &World) -> bool {
    world.service().open_rollback().is_some()
}

fn phase(world: &World) -> Option<Phase> {
    world.service().rollback.as_ref().map(|rollback| rollback.phase.clone())
}

fn outcome(world: &World) -> Option<Outcome> {
    world.service().rollback.as_ref()?.outcome.as_ref().map(|(_, outcome)| outcome.clone())
}

fn refusal(world: &World) -> Option<&'static str> {
    world.current().refusal.as_ref().map(Refusal::name)
}

fn mark(world: &World, id: &str) -> Mark {
    world.service().mark(&VersionId(id.to_owned()))
}

fn until_planned(world: &mut World) {
    world.until(minutes(5), planned);
}

fn until_over(world: &mut World) {
    world.until(minutes(60), |world| phase(world) == Some(Phase::Ended));
}

fn hold(world: &mut World, scope: Scope, lasting: Option<i64>) -> Answer {
    world.ask(Command::Hold { scope, reason: "database maintenance".to_owned(), lasting: lasting.map(seconds) })
}

fn checkout() -> Scope {
    Scope::Service(name("checkout"))
}

mod straight_ahead {
    use super::*;

    #[test]
    fn what_is_there_at_first_is_watched_and_becomes_known_good() {
        let mut world = World::new(&["checkout"]);
        world.pass(seconds(1));
        assert_eq!((world.current().arrival.clone(), world.current().status), (Arrival::FirstSight, Status::Watching));
        world.pass(minutes(29));
        assert_eq!(mark(&world, "v1"), Mark::Unknown);
        world.pass(minutes(1));
        assert_eq!((world.rows().as_str(), mark(&world, "v1")), ("v1 deployed", Mark::Good));
        assert_eq!(world.kinds(), []);
    }

    #[test]
    fn a_bad_deployment_is_undone_proved_and_cleared() {
        let mut world = deployed(Behaviour::Failing);
        until_planned(&mut world);
        world.pass(seconds(2));
        assert_eq!(world.rows(), "v1 deployed, v2 rolled_back, v1 deploying undoing v2");
        world.until(minutes(1), |world| matches!(phase(world), Some(Phase::Recovered { .. })));
        assert_eq!(world.rows(), "v1 deployed, v2 rolled_back, v1 watching undoing v2");
        until_over(&mut world);
        assert_eq!(world.rows(), "v1 deployed, v2 rolled_back, v1 deployed undoing v2");
        assert_eq!((mark(&world, "v1"), mark(&world, "v2")), (Mark::Good, Mark::Bad));
        assert_eq!((world.checkout().effects, outcome(&world)), (1, Some(Outcome::Recovered)));
        let kinds = [NoticeKind::Detected, NoticeKind::RollingBack, NoticeKind::Recovered, NoticeKind::AllClear];
        assert_eq!(world.kinds(), kinds);
    }

    #[test]
    fn what_fires_at_a_probe_is_proved_by_the_probe_within_its_three_rounds() {
        let mut world = deployed(Behaviour::Failing);
        until_planned(&mut world);
        world.until(minutes(1), |world| matches!(phase(world), Some(Phase::Verifying { .. })));
        let took = world.until(minutes(1), |world| outcome(world).is_some());
        assert!(took <= seconds(15), "{took:#}");
    }

    #[test]
    fn the_next_deployment_comes_when_it_comes() {
        let mut world = deployed(Behaviour::Well);
        world.pass(minutes(5));
        world.deploy("v3", Behaviour::Well);
        world.pass(minutes(31));
        assert_eq!(world.rows(), "v1 deployed, v2 superseded, v3 deployed");
        assert_eq!(mark(&world, "v2"), Mark::Unknown);
    }

    #[test]
    fn a_bad_deployment_over_an_unproved_one_goes_back_to_the_last_good_one() {
        let mut world = deployed(Behaviour::Well);
        world.pass(minutes(5));
        world.deploy("v3", Behaviour::Failing);
        until_over(&mut world);
        assert_eq!(world.rows(), "v1 deployed, v2 superseded, v3 rolled_back, v1 deployed undoing v3");
    }

    #[test]
    fn after_many_good_deployments_the_newest_good_one_is_still_the_way_back() {
        let mut world = World::settled();
        for number in 2..=9 {
            world.deploy(&format!("v{number}"), Behaviour::Well);
            world.pass(minutes(31));
        }
        world.deploy("v10", Behaviour::Failing);
        until_over(&mut world);
        assert!(world.rows().ends_with("v9 deployed, v10 rolled_back, v9 deployed undoing v10"), "{}", world.rows());
        assert!(world.service().artifacts.len() <= 5);
    }

    #[test]
    fn a_window_in_which_nothing_is_proved_is_extended_until_something_is() {
        let mut world = deployed(Behaviour::Well);
        world.checkout().probes_visible = false;
        world.pass(minutes(31));
        assert!(world.current().extended.is_some());
        assert_eq!((world.current().status, mark(&world, "v2")), (Status::Watching, Mark::Unknown));
        world.pass(minutes(60));
        assert_eq!(world.count(|entry| matches!(entry, Entry::WindowExtended { .. })), 1);
        world.checkout().probes_visible = true;
        world.pass(minutes(6));
        assert_eq!((world.current().status, mark(&world, "v2")), (Status::Deployed, Mark::Good));
    }

    #[test]
    fn a_bad_deployment_that_nobody_undoes_fails_its_window() {
        let mut world = deployed(Behaviour::Failing);
        world.checkout().change = Some(ChangeKind::IrreversibleMigration);
        world.pass(minutes(32));
        assert_eq!((world.rows().as_str(), refusal(&world)), ("v1 deployed, v2 failed", Some("migration")));
        assert_eq!(world.kinds(), [NoticeKind::Detected, NoticeKind::Blocked, NoticeKind::Failed]);
        assert!(matches!(world.roll_back(None), Answer::Planned { .. }));
        until_over(&mut world);
        assert_eq!(world.rows(), "v1 deployed, v2 rolled_back, v1 deployed undoing v2");
    }
}

mod what_counts_as_history {
    use super::*;

    #[test]
    fn what_an_operator_rolled_back_is_no_history_from_its_onset_on() {
        let mut world = World::settled();
        hold(&mut world, checkout(), None);
        world.deploy("v2", Behaviour::Failing);
        world.pass(minutes(6));
        assert!(matches!(world.roll_back(None), Answer::Planned { .. }));
        until_over(&mut world);
        world.deploy("v3", Behaviour::Well);
        world.pass(seconds(30));
        assert_eq!(longest_outage(&world), 0);
    }

    #[test]
    fn a_version_that_never_answered_since_the_daemon_began_is_told_and_left_alone() {
        let mut world = World::settled();
        world.crash();
        world.deploy("v2", Behaviour::Failing);
        world.until(minutes(4), |world| !world.kinds().is_empty());
        assert_eq!(world.kinds(), [NoticeKind::Blind]);
        assert!(world.newest(NoticeKind::Blind).headline.contains("FAILS"), "{:?}", world.newest(NoticeKind::Blind));
        world.checkout().behaviour.insert("v2".to_owned(), Behaviour::Well);
        world.pass(minutes(1));
        assert_eq!(world.kinds(), [NoticeKind::Blind, NoticeKind::Sighted]);
        assert_eq!(world.checkout_effects(), 0);
    }

    fn longest_outage(world: &World) -> u32 {
        match world.current().baselines.get(&ready()) {
            Some(Baseline::Probe(probe)) => probe.outages_lasted.longest,
            other => panic!("no baseline of probes: {other:?}"),
        }
    }

    #[test]
    fn outage_after_outage_is_found_as_fast_as_the_first() {
        let mut world = World::settled();
        let mut found = Vec::new();
        for version in ["v2", "v3", "v4", "v5"] {
            world.deploy(version, Behaviour::Failing);
            found.push(world.until(minutes(10), |world| world.service().open_rollback().is_some()));
            assert_eq!(longest_outage(&world), 0);
            until_over(&mut world);
            world.pass(minutes(2));
            if found.len() == 3 {
                world.policies.values_mut().for_each(|policy| policy.rollbacks_per_day = 10);
            }
        }
        assert!(found.iter().all(|time| *time <= found[0] + seconds(5)), "{found:?}");
    }

    #[test]
    fn the_time_of_a_bad_version_that_somebody_replaced_is_no_history() {
        let mut world = World::settled();
        hold(&mut world, checkout(), None);
        world.deploy("v2", Behaviour::Failing);
        world.pass(minutes(6));
        assert_eq!(refusal(&world), Some("hold"));
        world.deploy("v3", Behaviour::Failing);
        world.pass(seconds(30));
        assert_eq!(longest_outage(&world), 0);
        world.ask(Command::Resume { scope: checkout() });
        let found = world.until(minutes(5), |world| world.service().open_rollback().is_some());
        assert!(found <= minutes(2), "{found:#}");
    }
}

mod starts {
    use super::*;

    /// A recreated workload with this version, in which nothing serves while it starts.
    fn recreated(world: &mut World, version: &str, start: i64) {
        world.deploy(version, Behaviour::Slow(start));
        world.pass(minutes(31));
    }

    #[test]
    fn as_long_as_no_start_is_known_one_may_take_as_long_as_any() {
        let mut world = World::settled();
        recreated(&mut world, "v2", 500);
        assert_eq!(world.rows(), "v1 deployed, v2 deployed");
    }

    #[test]
    fn a_start_may_take_three_times_as_long_as_the_slowest_that_is_known() {
        let mut world = World::settled();
        recreated(&mut world, "v2", 100);
        recreated(&mut world, "v3", 250);
        assert_eq!(world.rows(), "v1 deployed, v2 deployed, v3 deployed");
        world.deploy("v4", Behaviour::CrashLoop);
        until_over(&mut world);
        let mut world = World::settled();
        recreated(&mut world, "v2", 20);
        world.deploy("v3", Behaviour::Slow(10_000));
        let found = world.until(minutes(11), planned);
        assert!(found <= minutes(2), "who usually starts in 20 s is missed soon: {found:#}");
    }
}

mod refusals {
    use super::*;

    fn refused_with(world: &mut World) -> &'static str {
        world.until(minutes(5), |world| refusal(world).is_some());
        assert_eq!(world.checkout().effects, 0);
        refusal(world).expect("a refusal")
    }

    fn refused_with_after(world: &mut World, cart: u32) -> &'static str {
        assert_eq!(world.place("cart").effects, cart);
        refused_with(world)
    }

    fn answered(answer: &Answer) -> &str {
        match answer {
            Answer::Refused { guard, .. } => guard,
            Answer::Planned { .. } => "planned",
            other => panic!("neither planned nor refused: {other:?}"),
        }
    }

    #[test]
    fn without_a_known_good_version_there_is_no_way_back() {
        let mut world = World::new(&["checkout"]);
        world.pass(minutes(5));
        world.deploy("v2", Behaviour::Failing);
        assert_eq!(refused_with(&mut world), "no-known-good");
        assert_eq!(answered(&world.roll_back(None)), "no-known-good");
        assert_eq!(answered(&world.roll_back(Some("v1"))), "planned");
    }

    #[test]
    fn versions_that_are_unknown_running_or_bad_are_no_targets() {
        let mut world = World::settled();
        assert_eq!(answered(&world.roll_back(Some("v7"))), "unknown-version");
        assert_eq!(answered(&world.roll_back(Some("shop:v1"))), "target-is-running");
        world.deploy("v2", Behaviour::Failing);
        until_over(&mut world);
        assert_eq!(answered(&world.roll_back(Some("shop:v2"))), "target-known-bad");
    }

    #[test]
    fn a_target_of_which_the_ledger_has_no_copy_is_left_to_a_platform_that_keeps_revisions() {
        let deployed = |generation| {
            let mut world = World::new(&["checkout"]);
            (world.checkout().generation, world.checkout().copies) = (generation, false);
            world.pass(minutes(31));
            world.deploy("v2", Behaviour::Failing);
            world
        };
        let mut world = deployed(None);
        assert_eq!(refused_with(&mut world), "target-gone");
        assert_eq!(answered(&world.roll_back(None)), "target-gone");
        let mut world = deployed(Some(1));
        until_planned(&mut world);
    }

    #[test]
    fn one_rollback_at_a_time() {
        let mut world = deployed(Behaviour::Failing);
        world.checkout().api = Api::Away;
        until_planned(&mut world);
        assert_eq!(answered(&world.roll_back(None)), "rollback-in-progress");
        world.checkout().api = Api::Works;
        world.pass(seconds(2));
        assert_eq!(answered(&world.roll_back(None)), "rollback-in-progress");
    }

    #[test]
    fn what_the_platform_refuses_is_told_once_and_tried_again_now_and_then() {
        let mut world = deployed(Behaviour::Failing);
        world.checkout().api = Api::Rejects("exceeded quota: pods");
        world.until(minutes(5), |world| outcome(world).is_some());
        world.pass(minutes(10));
        assert_eq!(refusal(&world), Some("refused-by-platform"));
        assert_eq!(world.count(|entry| matches!(entry, Entry::RollbackPlanned { .. })), 4, "at once, after 1, 2 and 4 minutes");
        assert_eq!(world.kinds(), [NoticeKind::Detected, NoticeKind::RollingBack, NoticeKind::Failed]);
        assert!(world.service().automatic.is_empty(), "what changed nothing counts against no limit");
        world.checkout().api = Api::Works;
        world.until(minutes(9), |world| world.checkout_effects() == 1);
        until_over(&mut world);
        assert_eq!(world.rows(), "v1 deployed, v2 rolled_back, v1 deployed undoing v2");
        assert_eq!(
            world.kinds(),
            [NoticeKind::Detected, NoticeKind::RollingBack, NoticeKind::Failed, NoticeKind::Recovered, NoticeKind::AllClear]
        );
    }

    #[test]
    fn a_program_that_failed_is_not_run_again_by_itself() {
        let mut world = World::settled();
        (world.checkout().generation, world.checkout().api) = (None, Api::Rejects("`deploy` ended with exit status: 1"));
        world.pass(seconds(5));
        world.deploy("v2", Behaviour::Failing);
        world.until(minutes(5), |world| outcome(world).is_some());
        world.pass(minutes(20));
        assert_eq!(refusal(&world), Some("already-rolled-back"));
        assert_eq!(world.count(|entry| matches!(entry, Entry::RollbackPlanned { .. })), 1);
        assert!(!world.newest(NoticeKind::Failed).paragraphs.iter().any(|words| words.contains("tried again")));
    }

    #[test]
    fn whoever_changes_the_workload_may_have_cleared_what_the_platform_refused() {
        let mut world = deployed(Behaviour::Failing);
        world.checkout().api = Api::Rejects("deployment shop/checkout is paused");
        world.until(minutes(5), |world| outcome(world).is_some());
        world.pass(seconds(5));
        assert_eq!(refusal(&world), Some("refused-by-platform"));
        let place = world.checkout();
        (place.api, place.generation) = (Api::Works, Some(9));
        world.pass(seconds(2));
        assert_eq!(world.checkout_effects(), 1);
    }

    #[test]
    fn a_workload_that_changes_again_and_again_is_not_hammered() {
        let mut world = deployed(Behaviour::Failing);
        world.checkout().api = Api::Rejects("denied by admission");
        world.until(minutes(5), |world| outcome(world).is_some());
        for generation in 10..300 {
            world.checkout().generation = Some(generation);
            world.pass(seconds(2));
        }
        let tried = world.count(|entry| matches!(entry, Entry::RollbackPlanned { .. }));
        assert!((10..=14).contains(&tried), "{tried} attempts");
    }

    #[test]
    fn a_target_that_is_gone_is_named_and_not_asked_for_again() {
        let mut world = deployed(Behaviour::Failing);
        world.checkout().api = Api::TargetGone;
        world.until(minutes(5), |world| outcome(world).is_some());
        world.pass(minutes(10));
        assert_eq!(refusal(&world), Some("target-gone"));
        assert_eq!(world.count(|entry| matches!(entry, Entry::RollbackPlanned { .. })), 1);
        world.checkout().api = Api::Works;
        assert_eq!(answered(&world.roll_back(None)), "planned");
    }

    #[test]
    fn migrations_are_left_to_people() {
        for change in [ChangeKind::ReversibleMigration, ChangeKind::IrreversibleMigration, ChangeKind::FailedMigration] {
            let mut world = deployed(Behaviour::Failing);
            world.checkout().change = Some(change);
            assert_eq!(refused_with(&mut world), "migration");
            assert!(matches!(world.roll_back(None), Answer::Planned { warnings, .. } if warnings.len() == 1));
        }
        for change in [ChangeKind::Code, ChangeKind::Configuration] {
            let mut world = deployed(Behaviour::Failing);
            world.checkout().change = Some(change);
            until_planned(&mut world);
        }
    }

    #[test]
    fn what_a_person_goes_back_to_becomes_known_good_like_any_version() {
        let mut world = World::new(&["checkout"]);
        world.pass(minutes(5));
        world.deploy("v2", Behaviour::Failing);
        assert_eq!(refused_with(&mut world), "no-known-good");
        assert_eq!(answered(&world.roll_back(Some("v1"))), "planned");
        until_over(&mut world);
        assert_eq!(mark(&world, "v1"), Mark::Unknown);
        world.until(minutes(31), |world| mark(world, "v1") == Mark::Good);
        assert_eq!(world.rows(), "v1 superseded, v2 rolled_back, v1 deployed undoing v2");
    }

    #[test]
    fn a_pause_stops_the_daemon_and_no_person() {
        let mut world = deployed(Behaviour::Failing);
        hold(&mut world, checkout(), None);
        assert_eq!(refused_with(&mut world), "hold");
        assert_eq!(answered(&world.roll_back(None)), "planned");
    }

    #[test]
    fn a_pause_with_an_end_ends_by_itself() {
        for scope in [checkout(), Scope::All] {
            let mut world = deployed(Behaviour::Failing);
            hold(&mut world, scope, Some(300));
            assert_eq!(refused_with(&mut world), "hold");
            let took = world.until(minutes(10), planned);
            assert!(took <= seconds(300), "{took:#}");
            until_over(&mut world);
            assert_eq!(world.rows(), "v1 deployed, v2 rolled_back, v1 deployed undoing v2");
        }
    }

    #[test]
    fn a_pause_that_comes_after_the_plan_stops_its_effect() {
        let mut world = deployed(Behaviour::Failing);
        world.checkout().api = Api::Away;
        until_planned(&mut world);
        hold(&mut world, Scope::All, None);
        world.checkout().api = Api::Works;
        world.pass(minutes(2));
        assert_eq!(world.checkout().effects, 0);
        world.ask(Command::Resume { scope: Scope::All });
        world.pass(seconds(2));
        assert_eq!(world.checkout().effects, 1);
    }

    #[test]
    fn three_rollbacks_a_day_are_enough() {
        let mut world = World::settled();
        for number in 2..=4 {
            world.deploy(&format!("v{number}"), Behaviour::Failing);
            world.pass(minutes(20));
        }
        assert_eq!(world.checkout().effects, 3);
        world.deploy("v5", Behaviour::Failing);
        world.until(minutes(5), |world| refusal(world).is_some());
        assert_eq!(refusal(&world), Some("rate-limit"));
        assert_eq!(answered(&world.roll_back(None)), "planned");
    }

    #[test]
    fn the_fleet_has_a_limit_of_its_own() {
        let mut world = World::all_settled(&["cart", "checkout"]);
        world.limits.rollbacks_per_hour = 1;
        world.deploy_at("cart", "v2", Behaviour::Failing);
        world.pass(minutes(10));
        world.deploy("v2", Behaviour::Failing);
        assert_eq!(refused_with_after(&mut world, 1), "rate-limit");
    }

    #[test]
    fn a_dry_run_only_tells() {
        let mut world = deployed(Behaviour::Failing);
        world.policies.get_mut(&name("checkout")).expect("a policy").dry_run = true;
        assert_eq!(refused_with(&mut world), "dry-run");
        assert!(world.newest(NoticeKind::Blocked).headline.contains("dry run"));
        assert_eq!(answered(&world.roll_back(None)), "planned");
    }

    #[test]
    fn a_dry_run_that_begins_after_the_plan_stops_its_effect() {
        let mut world = deployed(Behaviour::Failing);
        world.checkout().api = Api::Away;
        until_planned(&mut world);
        world.policies.get_mut(&name("checkout")).expect("a policy").dry_run = true;
        world.checkout().api = Api::Works;
        world.pass(minutes(12));
        assert_eq!((world.checkout().effects, refusal(&world)), (0, Some("dry-run")));
    }

    #[test]
    fn what_is_out_of_sight_is_changed_only_as_it_was_seen() {
        let mut world = deployed(Behaviour::Failing);
        world.pass(seconds(10));
        world.checkout().visible = false;
        until_planned(&mut world);
        assert_eq!(world.checkout().effects, 1);

        let mut world = deployed(Behaviour::Failing);
        world.pass(seconds(10));
        world.checkout().visible = false;
        world.deploy("v3", Behaviour::Well);
        world.checkout().dependency_down = true;
        world.until(minutes(5), |world| outcome(world).is_some());
        world.pass(minutes(5));
        assert_eq!((outcome(&world), world.checkout_effects()), (Some(Outcome::Void(Void::Moved)), 0));
        assert_eq!(world.count(|entry| matches!(entry, Entry::RollbackPlanned { .. })), 1);
        world.checkout().dependency_down = false;
        world.checkout().visible = true;
        world.pass(minutes(2));
        assert_eq!(world.rows(), "v1 deployed, v2 superseded, v3 watching");
    }

    #[test]
    fn after_a_restart_nothing_is_answered_before_the_first_look() {
        let mut world = World::settled();
        world.crash();
        assert_eq!(answered(&world.roll_back(Some("v1"))), "target-is-running");
        world.pass(seconds(1));
        world.deploy("v2", Behaviour::Well);
        world.pass(seconds(1));
        world.crash();
        assert_eq!(answered(&world.roll_back(None)), "out-of-sight");
    }

    #[test]
    fn a_rollback_is_never_rolled_back_by_itself() {
        let mut world = World::settled();
        world.deploy("v2", Behaviour::Well);
        world.pass(minutes(31));
        world.deploy("v3", Behaviour::Failing);
        world.until(minutes(5), |world| matches!(phase(world), Some(Phase::Recovered { .. })));
        world.checkout().dependency_down = true;
        world.pass(minutes(60));
        assert_eq!(world.checkout().effects, 1);
        assert!(world.rows().ends_with("v3 rolled_back, v2 failed undoing v3"), "{}", world.rows());
        assert_eq!(answered(&world.roll_back(None)), "planned");
    }
}

mod brake {
    use super::*;

    const FLEET: [&str; 4] = ["cart", "checkout", "search", "stock"];

    /// All services go bad together.
    fn together() -> World {
        let mut world = World::all_settled(&FLEET);
        for of in FLEET {
            world.deploy_at(of, "v2", Behaviour::Failing);
        }
        world.until(minutes(5), |world| world.state.brake.is_some());
        world.pass(seconds(20));
        world
    }

    fn effects(world: &World) -> u32 {
        world.places.values().map(|place| place.effects).sum()
    }

    #[test]
    fn the_second_of_a_few_services_that_goes_bad_stops_all_automatic_rollbacks_and_is_told_once() {
        let world = together();
        assert!(effects(&world) <= 1);
        let told = world.notices().filter(|notice| notice.headline.contains("no automatic rollback anywhere")).count();
        assert_eq!((told, world.count(|entry| matches!(entry, Entry::BrakeTripped { .. }))), (1, 1));
    }

    #[test]
    fn a_person_releases_the_brake() {
        let mut world = together();
        let before = effects(&world);
        world.ask(Command::Resume { scope: Scope::All });
        world.pass(seconds(2));
        assert_eq!((world.state.brake.clone(), effects(&world)), (None, 4));
        assert!(before < 4);
    }

    #[test]
    fn calm_releases_the_brake() {
        let mut world = together();
        world.pass(minutes(29));
        assert!(world.state.brake.is_some());
        world.pass(minutes(2));
        assert_eq!(world.state.brake, None);
    }

    #[test]
    fn a_brake_that_trips_between_plan_and_effect_stops_the_effect() {
        let mut world = World::all_settled(&FLEET);
        for of in FLEET {
            world.place(of).api = Api::Away;
            world.deploy_at(of, "v2", Behaviour::Failing);
        }
        world.until(minutes(5), |world| world.state.brake.is_some());
        for of in FLEET {
            world.place(of).api = Api::Works;
        }
        world.pass(minutes(5));
        assert_eq!(effects(&world), 0);
    }
}

mod people {
    use super::*;

    #[test]
    fn an_older_rollback_is_explained_as_well_as_the_newest() {
        let mut world = deployed(Behaviour::Failing);
        until_over(&mut world);
        let (first, told) = (world.history()[1].deployment, world.history()[1].why.clone());
        world.deploy("v3", Behaviour::Well);
        world.pass(minutes(1));
        assert!(matches!(world.roll_back(None), Answer::Planned { .. }));
        until_over(&mut world);
        assert_eq!(world.history()[3].why, told);
        match world.ask(Command::Explain { service: name("checkout"), deployment: Some(DeploymentId(first)) }) {
            Answer::Explanation(view) => {
                assert!(view.answer[0].starts_with("shop:v2 was rolled back to shop:v1: P0"), "{:?}", view.answer);
                assert!(view.timeline.iter().any(|(_, words)| words == "recovered"), "{:?}", view.timeline);
            }
            other => panic!("no explanation: {other:?}"),
        }
    }

    fn interrupted(mut world: World) -> World {
        world.deploy("v3", Behaviour::Well);
        world.pass(minutes(40));
        assert_eq!(world.checkout().version, "v3");
        assert_eq!(mark(&world, "v3"), Mark::Good);
        world
    }

    #[test]
    fn a_deployment_while_a_rollback_is_planned_voids_it() {
        let mut world = deployed(Behaviour::Failing);
        world.checkout().api = Api::Away;
        until_planned(&mut world);
        let mut world = interrupted(world);
        assert_eq!(outcome(&world), Some(Outcome::Void(Void::Superseded { by: version("v3") })));
        assert_eq!(world.rows(), "v1 deployed, v2 superseded, v3 deployed");
        assert_eq!((world.checkout().effects, mark(&world, "v2")), (0, Mark::Unknown));
        assert_eq!(world.kinds(), [NoticeKind::Detected, NoticeKind::RollingBack, NoticeKind::Stopped]);
    }

    #[test]
    fn a_deployment_while_a_rollback_is_rolled_out_or_verified_interrupts_it() {
        for phase_is in [|phase: Phase| matches!(phase, Phase::Applied { .. }), |phase: Phase| matches!(phase, Phase::Verifying { .. })] {
            let mut world = deployed(Behaviour::Failing);
            world.until(minutes(5), |world| phase(world).is_some_and(phase_is) && world.current().rollback_of().is_some());
            let world = interrupted(world);
            assert_eq!(outcome(&world), Some(Outcome::Interrupted { by: version("v3") }));
            assert_eq!(world.rows(), "v1 deployed, v2 rolled_back, v1 superseded undoing v2, v3 deployed");
            assert_eq!(mark(&world, "v2"), Mark::Bad);
        }
    }

    #[test]
    fn a_deployment_after_the_recovery_takes_nothing_from_it() {
        let mut world = deployed(Behaviour::Failing);
        world.until(minutes(5), |world| matches!(phase(world), Some(Phase::Recovered { .. })));
        let world = interrupted(world);
        assert_eq!((outcome(&world), phase(&world)), (Some(Outcome::Recovered), Some(Phase::Ended)));
        assert_eq!(world.kinds(), [NoticeKind::Detected, NoticeKind::RollingBack, NoticeKind::Recovered]);
    }

    #[test]
    fn who_goes_back_by_hand_is_told_of_and_left_alone() {
        let mut world = World::settled();
        world.deploy("v2", Behaviour::Well);
        world.pass(minutes(31));
        world.deploy("v3", Behaviour::Failing);
        world.pass(seconds(20));
        world.checkout().dependency_down = true;
        world.deploy("v2", Behaviour::Well);
        world.pass(minutes(20));
        assert_eq!((world.checkout().version.clone(), world.checkout_effects()), ("v2".to_owned(), 0));
        assert_eq!(world.kinds().first(), Some(&NoticeKind::Operator));
        assert_eq!(refusal(&world), Some("is-a-rollback"));
    }

    #[test]
    fn who_brings_the_bad_version_back_has_it_watched_again() {
        let mut world = deployed(Behaviour::Failing);
        until_over(&mut world);
        world.deploy("v2", Behaviour::Failing);
        world.until(minutes(5), |world| world.checkout_effects() == 2);
        until_over(&mut world);
        assert!(world.rows().ends_with("v2 rolled_back, v1 deployed undoing v2"), "{}", world.rows());
    }

    #[test]
    fn who_brings_the_bad_version_back_before_the_rollback_was_seen_interrupts_it() {
        let mut world = deployed(Behaviour::Failing);
        world.checkout().api = Api::LosesAnswers;
        world.until(minutes(5), |world| world.checkout_effects() == 1);
        world.deploy("v2", Behaviour::Well);
        world.checkout().api = Api::Works;
        world.pass(seconds(2));
        assert_eq!(outcome(&world), Some(Outcome::Interrupted { by: version("v2") }));
        assert_eq!(world.rows(), "v1 deployed, v2 rolled_back, v2 deploying");
    }

    #[test]
    fn who_deploys_before_the_rollback_was_seen_interrupts_it() {
        let mut world = deployed(Behaviour::Failing);
        world.checkout().api = Api::LosesAnswers;
        world.until(minutes(5), |world| world.checkout_effects() == 1);
        world.deploy("v3", Behaviour::Well);
        world.pass(seconds(2));
        assert_eq!(outcome(&world), Some(Outcome::Interrupted { by: version("v3") }));
        assert_eq!((world.rows().as_str(), mark(&world, "v2")), ("v1 deployed, v2 rolled_back, v3 deploying", Mark::Bad));
    }

    #[test]
    fn an_operators_rollback_goes_through_all_phases() {
        let mut world = deployed(Behaviour::Well);
        world.pass(minutes(40));
        assert!(matches!(world.roll_back(None), Answer::Planned { .. }));
        until_over(&mut world);
        assert_eq!(world.rows(), "v1 deployed, v2 rolled_back, v1 deployed undoing v2");
        assert_eq!(world.history()[1].why, "an operator asked for it");
        assert_eq!(world.kinds(), [NoticeKind::RollingBack, NoticeKind::Recovered, NoticeKind::AllClear]);
        world.deploy("v3", Behaviour::Well);
        world.pass(minutes(31));
        assert!(matches!(world.roll_back(Some("v1")), Answer::Planned { .. }));
        until_over(&mut world);
        assert_eq!(world.history()[3].why, "an operator asked for it");
    }

    #[test]
    fn a_dry_run_of_an_operator_writes_nothing() {
        let mut world = deployed(Behaviour::Well);
        world.pass(minutes(1));
        let before = world.state.seq;
        let answer = world.ask(Command::Rollback { service: name("checkout"), to: None, reason: String::new(), dry_run: true });
        assert!(matches!(answer, Answer::Planned { dry_run: true, .. }));
        assert_eq!(world.state.seq, before);
    }

    #[test]
    fn marks_decide_what_can_be_gone_back_to() {
        let mut world = World::new(&["checkout"]);
        world.pass(minutes(5));
        world.ask(Command::Mark { service: name("checkout"), version: "v1".to_owned(), mark: Mark::Good, reason: "seen it".to_owned() });
        world.deploy("v2", Behaviour::Failing);
        until_planned(&mut world);
        until_over(&mut world);
        world.ask(Command::Mark { service: name("checkout"), version: "#5".to_owned(), mark: Mark::Bad, reason: "no".to_owned() });
        let unknown =
            world.ask(Command::Mark { service: name("checkout"), version: "v99".to_owned(), mark: Mark::Bad, reason: "no".to_owned() });
        assert!(matches!(unknown, Answer::Refused { guard, .. } if guard == "unknown-version"));
    }
}

mod fixes {
    use super::super::world::errors;
    use super::*;
    use crate::service::Role;

    #[test]
    fn what_is_deployed_against_the_trouble_of_a_known_good_version_is_not_rolled_back_to_it() {
        let mut world = World::new(&["checkout"]);
        world.count_requests("checkout", &errors(), Role::Own, 300.0);
        world.pass(minutes(18));
        world.ask(Command::Mark { service: name("checkout"), version: "v1".to_owned(), mark: Mark::Good, reason: "seen it".to_owned() });
        let fails = |world: &mut World, share: f64| {
            world.checkout().traffic.get_mut(&errors()).expect("it is counted").failing = share;
        };
        fails(&mut world, 0.8);
        world.pass(minutes(3));
        assert!(world.current().verdict.is_some(), "there is no way back from the first version");
        world.deploy("v2", Behaviour::Well);
        fails(&mut world, 0.6);
        world.pass(minutes(20));
        assert_eq!((world.checkout_effects(), world.current().version.name.as_str()), (0, "shop:v2"));
    }
}

mod announcements {
    use super::*;

    #[test]
    fn a_pipeline_that_tells_late_means_the_deployment_that_was_seen() {
        let mut world = deployed(Behaviour::Well);
        world.pass(minutes(3));
        let irreversible = Some(ChangeKind::IrreversibleMigration);
        let told = |world: &mut World| {
            world.ask(Command::Deployed { service: name("checkout"), started: None, change: Some(ChangeKind::IrreversibleMigration) })
        };
        assert!(matches!(told(&mut world), Answer::Done(words) if words.contains("noted for deployment")));
        assert_eq!(Some(world.current().change), irreversible);
        assert!(matches!(told(&mut world), Answer::Done(words) if words.contains("noted for the next deployment")));
    }

    fn announce(world: &mut World, started: Option<i64>, change: Option<ChangeKind>) {
        let started = started.map(|ago| world.now - seconds(ago));
        world.ask(Command::Deployed { service: name("checkout"), started, change });
    }

    const MIGRATION: Option<ChangeKind> = Some(ChangeKind::IrreversibleMigration);

    #[test]
    fn a_notice_before_the_deployment_is_for_the_next_one() {
        let mut world = World::settled();
        announce(&mut world, None, MIGRATION);
        world.pass(seconds(30));
        world.deploy("v2", Behaviour::Well);
        world.pass(seconds(2));
        assert_eq!(world.current().change, ChangeKind::IrreversibleMigration);
        world.deploy("v3", Behaviour::Well);
        world.pass(seconds(2));
        assert_eq!(world.current().change, ChangeKind::Code);
    }

    #[test]
    fn a_notice_before_the_very_first_look_is_kept() {
        let mut world = World::new(&["checkout"]);
        announce(&mut world, None, MIGRATION);
        world.pass(seconds(2));
        assert_eq!(world.current().change, ChangeKind::IrreversibleMigration);
    }

    #[test]
    fn a_notice_right_after_the_deployment_was_seen_is_for_that_one() {
        let mut world = deployed(Behaviour::Well);
        world.pass(seconds(20));
        announce(&mut world, Some(60), MIGRATION);
        assert_eq!(world.current().change, ChangeKind::IrreversibleMigration);
        assert_eq!(world.current().seen.duration_since(world.current().started), seconds(41));
    }

    #[test]
    fn a_late_notice_that_says_when_it_started_finds_its_deployment() {
        let mut world = deployed(Behaviour::Well);
        world.pass(minutes(10));
        announce(&mut world, Some(600), MIGRATION);
        assert_eq!(world.current().change, ChangeKind::IrreversibleMigration);
        announce(&mut world, Some(5), None);
        assert_eq!(world.service().announced.as_ref().and_then(|announced| announced.started), Some(world.now - seconds(5)));
    }

    #[test]
    fn the_daemons_own_rollback_does_not_take_what_was_told_of_the_next_deployment() {
        let mut world = deployed(Behaviour::Failing);
        world.pass(seconds(70));
        announce(&mut world, None, MIGRATION);
        until_over(&mut world);
        world.deploy("v3", Behaviour::Failing);
        world.pass(minutes(3));
        assert_eq!((world.current().change, refusal(&world)), (ChangeKind::IrreversibleMigration, Some("migration")));
    }

    #[test]
    fn what_was_told_of_a_deployment_that_never_came_is_forgotten() {
        let mut world = World::settled();
        announce(&mut world, Some(0), MIGRATION);
        world.pass(minutes(120));
        world.deploy("v2", Behaviour::Well);
        world.pass(seconds(2));
        assert_eq!(world.current().change, ChangeKind::Code);
        assert_eq!(world.current().started, world.current().seen);
    }
}

mod bad_days {
    use super::*;

    #[test]
    fn an_effect_whose_answer_was_lost_is_found_on_the_object() {
        let mut world = deployed(Behaviour::Failing);
        world.checkout().api = Api::LosesAnswers;
        until_over(&mut world);
        assert_eq!(world.rows(), "v1 deployed, v2 rolled_back, v1 deployed undoing v2");
        assert_eq!(world.checkout().effects, 1);
    }

    #[test]
    fn a_platform_without_generations_shows_the_effect_by_its_version() {
        for api in [Api::Works, Api::LosesAnswers] {
            let mut world = World::settled();
            world.checkout().generation = None;
            world.deploy("v2", Behaviour::Failing);
            world.checkout().api = api;
            until_over(&mut world);
            assert_eq!(world.rows(), "v1 deployed, v2 rolled_back, v1 deployed undoing v2");
            assert_eq!(world.checkout().effects, 1);
        }
    }

    #[test]
    fn a_record_left_by_an_older_rollback_is_not_mistaken_for_the_present_one() {
        let mut world = deployed(Behaviour::Failing);
        until_over(&mut world);
        world.deploy("v3", Behaviour::Failing);
        world.checkout().api = Api::Away;
        until_planned(&mut world);
        world.deploy("v1", Behaviour::Well);
        world.pass(seconds(2));
        assert_eq!(outcome(&world), Some(Outcome::Void(Void::Superseded { by: version("v1") })));
        assert_eq!(world.current().arrival, Arrival::Deployed);
    }

    #[test]
    fn when_only_images_go_back_what_runs_is_neither_version_and_still_ours() {
        let mut world = deployed(Behaviour::Failing);
        world.checkout().suffix = "+env-of-v2";
        until_over(&mut world);
        assert_eq!(world.rows(), "v1 deployed, v2 rolled_back, v1+env-of-v2 deployed undoing v2");
        assert_eq!(world.count(|entry| matches!(entry, Entry::DeploymentSeen { arrival: Arrival::Deployed, .. })), 1);
    }

    #[test]
    fn an_autoscaler_that_moves_the_generation_costs_one_plan() {
        let mut world = deployed(Behaviour::Failing);
        world.checkout().api = Api::Away;
        until_planned(&mut world);
        let place = world.checkout();
        place.generation = place.generation.map(|generation| generation + 1);
        place.visible = false;
        place.api = Api::Works;
        world.until(minutes(1), |world| world.current().voids == 1);
        world.pass(seconds(5));
        assert_eq!(world.count(|entry| matches!(entry, Entry::RollbackPlanned { .. })), 1);
        world.checkout().visible = true;
        world.pass(seconds(2));
        assert_eq!((world.checkout().effects, world.current().rollback_of().is_some()), (1, true));
        assert_eq!(world.service().automatic.len(), 1);
    }

    #[test]
    fn who_moves_it_again_and_again_is_left_alone() {
        let mut world = deployed(Behaviour::Failing);
        until_planned_away(&mut world);
        for _ in 0..5 {
            let plan = world.service().rollback.as_ref().map(|rollback| rollback.id).expect("a plan");
            let entries = effect_over(&world.state, &name("checkout"), plan, EffectOutcome::Moved);
            let place = world.checkout();
            place.generation = place.generation.map(|generation| generation + 1);
            world.write(entries);
            world.pass(seconds(1));
        }
        assert_eq!((refusal(&world), world.checkout().effects), (Some("contested"), 0));
    }

    fn until_planned_away(world: &mut World) {
        world.checkout().api = Api::Away;
        until_planned(world);
    }

    #[test]
    fn a_plan_that_can_not_start_expires_and_a_fresh_one_is_made() {
        let mut world = deployed(Behaviour::Failing);
        until_planned_away(&mut world);
        world.pass(minutes(12));
        assert_eq!(world.count(|entry| matches!(entry, Entry::RollbackEnded { outcome: Outcome::Void(Void::Expired), .. })), 1);
        assert_eq!((world.current().voids, planned(&world)), (0, true));
        world.checkout().api = Api::Works;
        until_over(&mut world);
        assert_eq!(world.checkout().effects, 1);
    }

    #[test]
    fn a_plan_does_not_expire_while_its_last_attempt_may_still_have_its_effect() {
        let mut world = deployed(Behaviour::Failing);
        until_planned_away(&mut world);
        let plan = world.service().rollback.clone().expect("a plan");
        world.until(minutes(11), |world| world.now >= plan.plan.expires + seconds(20));
        assert_eq!((phase(&world), world.service().rollback.as_ref().map(|rollback| rollback.id)), (Some(Phase::Planned), Some(plan.id)));
        let now = world.now;
        world.checkout().since = now;
        world.checkout().version = "v1".to_owned();
        world.checkout().generation = Some(3);
        let (from, to) = (plan.plan.from.id.clone(), plan.plan.to.id.clone());
        let record = EffectRecord { plan: world.state.global(plan.id.0), from, to, known_bad: Vec::new() };
        world.checkout().record = Some(record);
        until_over(&mut world);
        assert_eq!(world.rows(), "v1 deployed, v2 rolled_back, v1 deployed undoing v2");
    }

    #[test]
    fn a_rollback_that_shows_only_after_it_was_given_up_is_still_a_rollback() {
        let mut world = World::settled();
        world.deploy("v2", Behaviour::Well);
        world.pass(minutes(31));
        world.deploy("v3", Behaviour::Failing);
        world.until(minutes(5), |world| refusal(world).is_some() || world.checkout_effects() == 1);
        world.checkout().visible = false;
        world.pass(minutes(11));
        assert!(matches!(outcome(&world), Some(Outcome::Failed(Obstacle::NotRolledOut(_)))), "{:?}", outcome(&world));
        world.checkout().visible = true;
        world.checkout().dependency_down = true;
        world.pass(minutes(5));
        assert_eq!(world.checkout().effects, 1);
        assert!(world.current().rollback_of().is_some(), "{}", world.rows());
    }

    #[test]
    fn a_platform_that_refuses_or_gives_up_ends_it() {
        for (api, obstacle) in [
            (Api::Rejects("exceeded quota"), Obstacle::Rejected("exceeded quota".to_owned())),
            (Api::Fails("killed after 300 s"), Obstacle::NotRolledOut("killed after 300 s".to_owned())),
            (Api::TargetGone, Obstacle::TargetGone),
        ] {
            let mut world = deployed(Behaviour::Failing);
            world.checkout().api = api;
            world.until(minutes(5), |world| outcome(world).is_some());
            assert_eq!(outcome(&world), Some(Outcome::Failed(obstacle)));
            assert_eq!(mark(&world, "v2"), Mark::Unknown);
            world.pass(minutes(31));
            assert_eq!(world.rows(), "v1 deployed, v2 failed");
        }
    }

    #[test]
    fn a_workload_that_is_gone_is_not_asked_for_again_and_again() {
        let mut world = deployed(Behaviour::Failing);
        world.pass(seconds(20));
        world.checkout().api = Api::Gone;
        world.until(minutes(5), |world| outcome(world).is_some());
        world.checkout().visible = false;
        world.pass(minutes(10));
        assert_eq!(outcome(&world), Some(Outcome::Void(Void::Gone)));
        assert_eq!(world.count(|entry| matches!(entry, Entry::RollbackPlanned { .. })), 1);
    }

    #[test]
    fn a_target_that_is_given_up_by_the_platform_was_not_rolled_out() {
        let mut world = deployed(Behaviour::Failing);
        world.checkout().behaviour.insert("v1".to_owned(), Behaviour::GivenUp);
        until_over(&mut world);
        assert_eq!(outcome(&world), Some(Outcome::Failed(Obstacle::NotRolledOut("progress deadline exceeded".to_owned()))));
        assert_eq!(world.rows(), "v1 deployed, v2 rolled_back, v1 failed undoing v2");
    }

    #[test]
    fn a_target_that_starts_slowly_is_given_its_time() {
        let mut world = deployed(Behaviour::Failing);
        world.checkout().behaviour.insert("v1".to_owned(), Behaviour::Slow(300));
        world.until(minutes(20), |world| outcome(world).is_some());
        assert_eq!(outcome(&world), Some(Outcome::Recovered));
        assert_eq!(world.kinds(), [NoticeKind::Detected, NoticeKind::RollingBack, NoticeKind::Recovered]);
    }

    #[test]
    fn a_crash_loop_that_flickers_ready_is_neither_rolled_out_nor_recovered() {
        let mut world = deployed(Behaviour::CrashLoop);
        world.policies.get_mut(&name("checkout")).expect("a policy").signals.clear();
        world.checkout().behaviour.insert("v1".to_owned(), Behaviour::Flickers);
        until_over(&mut world);
        assert!(!matches!(outcome(&world), Some(Outcome::Recovered)), "{:?}", outcome(&world));
        assert!(world.service().rollback.as_ref().is_some_and(|rollback| rollback.recovered.is_none()));
    }

    #[test]
    fn what_only_the_platform_saw_is_proved_by_a_rollout_that_lasts() {
        let mut world = deployed(Behaviour::CrashLoop);
        world.policies.get_mut(&name("checkout")).expect("a policy").signals.clear();
        world.until(minutes(5), |world| matches!(phase(world), Some(Phase::Verifying { .. })));
        assert_eq!(world.until(minutes(1), |world| outcome(world).is_some()), seconds(10));
        assert_eq!(outcome(&world), Some(Outcome::Recovered));
    }

    #[test]
    fn a_target_that_never_gets_ready_was_not_rolled_out() {
        let mut world = deployed(Behaviour::Failing);
        world.checkout().behaviour.insert("v1".to_owned(), Behaviour::Slow(10_000));
        until_over(&mut world);
        assert!(matches!(outcome(&world), Some(Outcome::Failed(Obstacle::NotRolledOut(_)))));
    }

    #[test]
    fn a_rollback_that_does_not_help_says_so_and_clears_the_version() {
        let mut world = deployed(Behaviour::Failing);
        until_planned(&mut world);
        world.checkout().dependency_down = true;
        until_over(&mut world);
        assert!(matches!(outcome(&world), Some(Outcome::DidNotHelp { .. })), "{:?}", outcome(&world));
        assert_eq!((world.rows().as_str(), mark(&world, "v2")), ("v1 deployed, v2 rolled_back, v1 failed undoing v2", Mark::Unknown));
        assert_eq!(world.kinds().last(), Some(&NoticeKind::DidNotHelp));
    }

    #[test]
    fn what_comes_back_after_the_recovery_was_not_cured() {
        let mut world = deployed(Behaviour::Failing);
        world.until(minutes(5), |world| matches!(phase(world), Some(Phase::Recovered { .. })));
        world.pass(minutes(5));
        world.checkout().dependency_down = true;
        until_over(&mut world);
        assert!(matches!(outcome(&world), Some(Outcome::DidNotHelp { .. })));
        assert!(world.newest(NoticeKind::DidNotHelp).headline.contains("came back"), "{:#?}", world.newest(NoticeKind::DidNotHelp));
    }

    #[test]
    fn a_rollback_of_which_nothing_can_be_seen_is_unproved() {
        let mut world = deployed(Behaviour::Failing);
        until_planned(&mut world);
        world.checkout().probes_visible = false;
        until_over(&mut world);
        assert!(matches!(outcome(&world), Some(Outcome::Unproven { .. })), "{:?}", outcome(&world));
        assert_eq!(mark(&world, "v2"), Mark::Bad);
    }

    #[test]
    fn there_is_no_all_clear_while_nothing_can_be_seen() {
        let mut world = deployed(Behaviour::Failing);
        world.until(minutes(5), |world| matches!(phase(world), Some(Phase::Recovered { .. })));
        world.checkout().probes_visible = false;
        world.pass(minutes(20));
        assert!(matches!(phase(&world), Some(Phase::Recovered { .. })));
        world.checkout().probes_visible = true;
        world.pass(seconds(10));
        assert_eq!(phase(&world), Some(Phase::Ended));
    }

    #[test]
    fn a_source_that_went_away_is_told_once_and_not_said_to_be_back_after_a_restart() {
        let mut world = deployed(Behaviour::Well);
        world.pass(minutes(1));
        world.checkout().probes_visible = false;
        world.pass(minutes(5));
        assert_eq!(world.kinds(), [NoticeKind::Blind]);
        world.crash();
        world.pass(minutes(5));
        assert_eq!(world.kinds(), [NoticeKind::Blind]);
        world.checkout().probes_visible = true;
        world.pass(seconds(10));
        assert_eq!(world.kinds(), [NoticeKind::Blind, NoticeKind::Sighted]);
    }

    #[test]
    fn a_source_that_nothing_depends_on_any_more_is_not_said_to_be_back() {
        let mut world = deployed(Behaviour::Failing);
        world.checkout().change = Some(ChangeKind::IrreversibleMigration);
        world.pass(minutes(20));
        world.checkout().probes_visible = false;
        world.pass(minutes(20));
        assert_eq!(world.current().status, Status::Failed);
        assert_eq!(world.notices().filter(|notice| notice.kind == NoticeKind::Sighted).count(), 0);
        assert!(world.service().blind.is_empty());
    }

    /// What the daemon does must not depend on when it is killed.
    #[test]
    fn a_daemon_that_is_killed_after_any_record_ends_where_it_would_have_ended() {
        for api in [Api::Works, Api::LosesAnswers] {
            let story = |kill_after| {
                let mut world = World::settled();
                world.kill_after = kill_after;
                world.deploy("v2", Behaviour::CrashLoop);
                world.checkout().api = api.clone();
                world.pass(minutes(30));
                assert_eq!(world.rows(), "v1 deployed, v2 rolled_back, v1 deployed undoing v2", "{kill_after:?}");
                assert_eq!(world.checkout().effects, 1);
                assert_eq!((mark(&world, "v1"), mark(&world, "v2")), (Mark::Good, Mark::Bad));
                let kinds = [NoticeKind::Detected, NoticeKind::RollingBack, NoticeKind::Recovered, NoticeKind::AllClear];
                assert_eq!(world.kinds(), kinds, "{kill_after:?}");
                world.state.seq
            };
            let first = World::settled().state.seq;
            let last = story(None);
            for seq in first..=last {
                story(Some(seq));
            }
        }
    }

    #[test]
    fn an_empty_ledger_learns_from_the_object_what_is_bad() {
        let mut world = World::new(&["checkout"]);
        let (from, to) = (VersionId("v0".to_owned()), VersionId("v1".to_owned()));
        world.checkout().record = Some(EffectRecord { plan: "other-12".to_owned(), from: from.clone(), to, known_bad: vec![from] });
        world.pass(seconds(1));
        assert_eq!((world.current().arrival.clone(), mark(&world, "v0")), (Arrival::FirstSight, Mark::Bad));
    }
}

mod tasks {
    use super::*;

    #[test]
    fn what_is_suspect_is_read_more_often_and_never_less() {
        let world = deployed(Behaviour::Well);
        let policy = |every| {
            let mut policy = world.policies[&name("checkout")].clone();
            policy.signals.values_mut().for_each(|signal| signal.every = every);
            policy
        };
        let every = |every, suspect| {
            task::of_service(&world.state, &policy(every), suspect).into_iter().find_map(|task| match task {
                Task::Read { every, .. } => Some(every),
                _ => None,
            })
        };
        assert_eq!(
            (every(seconds(15), false), every(seconds(15), true), every(seconds(2), true)),
            (Some(seconds(15)), Some(seconds(5)), Some(seconds(2)))
        );
    }

    #[test]
    fn probes_are_read_in_haste_only_while_a_rollback_is_proved() {
        let mut world = deployed(Behaviour::Failing);
        let every = |world: &World| {
            task::of_service(&world.state, &world.policies[&name("checkout")], false).into_iter().find_map(|task| match task {
                Task::Read { every, .. } => Some(every),
                _ => None,
            })
        };
        until_planned(&mut world);
        assert_eq!(every(&world), Some(seconds(5)));
        world.until(minutes(5), |world| matches!(phase(world), Some(Phase::Verifying { .. })));
        assert_eq!(every(&world), Some(seconds(1)));
        until_over(&mut world);
        assert_eq!(every(&world), Some(seconds(5)));
    }

    #[test]
    fn a_row_that_only_tells_hides_no_row_that_acts() {
        let mut world = World::settled();
        let matrix = &mut world.policies.get_mut(&name("checkout")).expect("a policy").matrix;
        matrix.complete_outage.response = Response::Notify;
        world.deploy("v2", Behaviour::Failing);
        until_planned(&mut world);
        let (_, verdict) = world.current().verdict.as_ref().expect("a verdict");
        assert_eq!((verdict.severity, verdict.response), (Severity::P1, Response::RollBack));
    }

    #[test]
    fn a_verdict_that_only_asks_changes_nothing() {
        let mut world = World::settled();
        let matrix = &mut world.policies.get_mut(&name("checkout")).expect("a policy").matrix;
        for row in [&mut matrix.complete_outage, &mut matrix.error_ratio] {
            (row.response, row.severity) = (Response::Ask, Severity::P2);
        }
        world.deploy("v2", Behaviour::Failing);
        world.pass(minutes(20));
        assert_eq!(world.kinds().first(), Some(&NoticeKind::ApprovalWanted));
        assert_eq!(world.checkout().effects, 0);
    }
}
