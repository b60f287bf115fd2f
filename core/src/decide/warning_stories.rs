//! Stories in which nothing is decided, and people hear of it all the same, once.

use super::world::{Behaviour, World, errors, minutes, neighbours, seconds};
use crate::entry::Entry;
use crate::lifecycle::Status;
use crate::notice::{Notice, NoticeKind};
use crate::service::Role;
use crate::severity::Severity;

/// `checkout` with so many requests in 15 seconds, and v1 known good.
fn settled(requests: f64) -> World {
    let mut world = World::settled();
    world.count_requests("checkout", &errors(), Role::Own, requests);
    world
}

/// The same beside neighbours that have as many.
fn settled_beside_others(requests: f64) -> World {
    let mut world = settled(requests);
    world.count_requests("checkout", &neighbours(), Role::Control, requests);
    world
}

fn fail(world: &mut World, own: f64, others: f64) {
    for (signal, share) in [(errors(), own), (neighbours(), others)] {
        if let Some(traffic) = world.checkout().traffic.get_mut(&signal) {
            traffic.failing = share;
        }
    }
}

fn told(world: &World, kind: NoticeKind) -> Vec<&Notice> {
    world.notices().filter(|notice| notice.kind == kind).collect()
}

fn warned(world: &World) -> usize {
    world.count(|entry| matches!(entry, Entry::Warned { .. }))
}

fn whole(notice: &Notice) -> String {
    let facts = notice.facts.iter().map(|(label, value)| format!("{label}: {value}"));
    let next = notice.next.iter().map(|(words, command)| format!("{words} {}", command.as_deref().unwrap_or_default()));
    [notice.headline.clone()].into_iter().chain(notice.paragraphs.iter().cloned()).chain(facts).chain(next).collect::<Vec<_>>().join("\n")
}

mod overdue {
    use super::*;

    /// Most of it fails for a minute, and none for a minute, again and again.
    fn flap(world: &mut World, minutes: i64) {
        for _ in 0..minutes / 2 {
            for share in [0.7, 0.0] {
                fail(world, share, 0.0);
                world.pass(seconds(60));
            }
        }
    }

    #[test]
    fn what_is_suspect_for_as_long_as_was_promised_is_told_once_with_its_evidence_and_what_can_be_done() {
        let mut world = settled(60.0);
        world.deploy("v2", Behaviour::Well);
        world.pass(minutes(2));
        flap(&mut world, 14);
        assert_eq!(told(&world, NoticeKind::Undecided), Vec::<&Notice>::new());
        flap(&mut world, 10);
        let [notice] = told(&world, NoticeKind::Undecided)[..] else { panic!("{:?}", world.kinds()) };
        let text = whole(notice);
        for said in [
            "checkout: is it a high error ratio on shop:v2? Suspected for 15m",
            "if nothing had changed",
            "Why it is not decided: waits until it has persisted",
            "rollbackd rollback checkout",
            "rollbackd declare checkout",
        ] {
            assert!(text.contains(said), "{said:?} is not in\n{text}");
        }
        assert_eq!(notice.severity, Some(Severity::P1));
        world.crash();
        flap(&mut world, 8);
        assert_eq!((told(&world, NoticeKind::Undecided).len(), world.checkout_effects()), (1, 0), "nor again after a restart");
    }

    #[test]
    fn whoever_was_warned_is_told_that_it_passed_its_window_after_all() {
        let mut world = settled(60.0);
        world.deploy("v2", Behaviour::Well);
        world.pass(minutes(2));
        flap(&mut world, 18);
        world.until(minutes(400), |world| world.current().status == Status::Deployed);
        assert_eq!(told(&world, NoticeKind::AllClear)[0].headline, "checkout: all clear: shop:v2 passed its window after all");
    }

    #[test]
    fn a_calm_version_is_warned_of_by_nobody() {
        let mut world = settled_beside_others(60.0);
        world.deploy("v2", Behaviour::Well);
        fail(&mut world, 0.005, 0.6);
        world.until(minutes(60), |world| world.current().status == Status::Deployed);
        assert_eq!((warned(&world), told(&world, NoticeKind::AllClear).len()), (0, 0));
    }
}

mod shared {
    use super::*;

    #[test]
    fn a_rollback_that_is_held_back_because_others_fail_too_is_told_once() {
        let mut world = settled_beside_others(100.0);
        world.deploy("v2", Behaviour::Well);
        world.pass(minutes(3));
        fail(&mut world, 0.6, 0.4);
        world.pass(minutes(14));
        let [notice] = told(&world, NoticeKind::HeldBack)[..] else { panic!("{:?}", world.kinds()) };
        let text = whole(notice);
        for said in ["checkout: error ratio too high on shop:v2, but control.neighbours fails as well: held back", "is not held against it"]
        {
            assert!(text.contains(said), "{said:?} is not in\n{text}");
        }
        assert_eq!((notice.severity, world.checkout_effects()), (Some(Severity::P1), 0));
        world.crash();
        world.pass(minutes(10));
        assert_eq!(told(&world, NoticeKind::HeldBack).len(), 1, "nor again after a restart");
    }

    #[test]
    fn whoever_knows_that_others_hold_it_back_is_not_told_that_the_promise_is_over() {
        let mut world = settled_beside_others(100.0);
        let policy = world.policies.values_mut().next().expect("a policy");
        policy.matrix.error_ratio.within = Some(minutes(4));
        world.deploy("v2", Behaviour::Well);
        world.pass(minutes(3));
        fail(&mut world, 1.0, 0.0);
        world.pass(seconds(30));
        fail(&mut world, 1.0, 0.9);
        world.pass(minutes(10));
        assert_eq!((told(&world, NoticeKind::HeldBack).len(), told(&world, NoticeKind::Undecided).len()), (1, 0), "{:?}", world.kinds());
    }

    #[test]
    fn what_is_held_back_for_a_quarter_of_an_hour_calls_a_person() {
        let mut world = settled_beside_others(100.0);
        world.deploy("v2", Behaviour::Well);
        world.pass(minutes(3));
        fail(&mut world, 0.6, 0.4);
        world.until(minutes(10), |world| world.kinds().contains(&NoticeKind::HeldBack));
        world.pass(minutes(14));
        assert_eq!(told(&world, NoticeKind::Undecided).len(), 0);
        world.pass(minutes(2));
        let [notice] = told(&world, NoticeKind::Undecided)[..] else { panic!("{:?}", world.kinds()) };
        assert_eq!(notice.headline, "checkout: error ratio too high on shop:v2 for 15m, still held back: please look");
    }

    #[test]
    fn what_stays_bad_when_others_are_well_again_is_rolled_back_after_all() {
        let mut world = settled_beside_others(100.0);
        world.deploy("v2", Behaviour::Well);
        world.pass(minutes(3));
        fail(&mut world, 0.7, 0.5);
        world.pass(minutes(8));
        assert_eq!((told(&world, NoticeKind::HeldBack).len(), world.checkout_effects()), (1, 0));
        fail(&mut world, 0.7, 0.0);
        world.until(minutes(20), |world| world.kinds().contains(&NoticeKind::RollingBack));
    }
}

mod late {
    use super::*;

    #[test]
    fn a_promise_that_cannot_be_kept_at_this_traffic_is_told_once_and_not_again_for_the_next_deployment() {
        let mut world = settled(0.25);
        world.deploy("v2", Behaviour::Well);
        world.pass(minutes(25));
        let [notice] = told(&world, NoticeKind::TooLittleTraffic)[..] else { panic!("{:?}", world.kinds()) };
        assert_eq!(notice.severity, Some(Severity::P3));
        assert!(whole(notice).contains("would be found after about 35m, later than the 15m promised; only probe.ready can tell earlier"));
        world.deploy("v3", Behaviour::Well);
        world.pass(minutes(25));
        assert_eq!((told(&world, NoticeKind::TooLittleTraffic).len(), warned(&world)), (1, 1));
    }

    #[test]
    fn a_service_that_sleeps_at_night_and_is_probed_warns_nobody() {
        let mut world = settled(0.0);
        world.deploy("v2", Behaviour::Well);
        world.pass(minutes(25));
        assert_eq!(warned(&world), 0);
    }

    #[test]
    fn a_restart_is_not_taken_for_little_traffic() {
        let mut world = settled(60.0);
        world.deploy("v2", Behaviour::Well);
        for _ in 0..5 {
            world.pass(minutes(5));
            world.crash();
        }
        assert_eq!(warned(&world), 0);
    }
}
