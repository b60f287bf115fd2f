//! Stories of what is said and not seen: declared impacts, alerts, and questions with their answers.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::world::{Behaviour, World, minutes, name, seconds};
use crate::alert::{Alert, Heard, IMPACT_LABEL, Ignored, Rule, Rules};
use crate::command::{Answer, Command};
use crate::entry::{Actor, Entry, Mark, Scope};
use crate::guard::Refusal;
use crate::lifecycle::Status;
use crate::notice::NoticeKind;
use crate::plan::{Outcome, Phase};
use crate::severity::{Choice, Impact, Severity};
use crate::version::VersionId;
use crate::view::{self, ExplainView, Sight};

/// `checkout`, where v2 runs well over a known good v1.
fn deployed() -> World {
    let mut world = World::settled();
    world.deploy("v2", Behaviour::Well);
    world.pass(minutes(2));
    world
}

fn declare(world: &mut World, impact: Impact) -> Answer {
    let reason = "orders lose their totals".to_owned();
    world.ask(Command::Declare { service: name("checkout"), impact, reason, resolved: false, dry_run: false })
}

fn resolve(world: &mut World, impact: Impact) -> String {
    let reason = String::new();
    match world.ask(Command::Declare { service: name("checkout"), impact, reason, resolved: true, dry_run: false }) {
        Answer::Done(words) => words,
        other => panic!("{other:?}"),
    }
}

fn answer(world: &mut World, choice: Choice) -> Answer {
    world.ask(Command::Answer { service: name("checkout"), choice, reason: "I looked".to_owned(), dry_run: false })
}

fn follows(answer: &Answer) -> &str {
    match answer {
        Answer::Declared { follows, .. } => follows,
        other => panic!("{other:?}"),
    }
}

fn outcome(world: &World) -> Option<Outcome> {
    world.service().rollback.as_ref()?.outcome.as_ref().map(|(_, outcome)| outcome.clone())
}

fn until_over(world: &mut World) {
    world.until(minutes(60), |world| world.service().rollback.as_ref().is_some_and(|rollback| rollback.phase == Phase::Ended));
}

fn explained(world: &World) -> ExplainView {
    let (policy, evidence) = (&world.policies[&name("checkout")], &world.evidence[&name("checkout")]);
    let sight = Sight { state: &world.state, policy, limits: &world.limits, evidence, now: world.now };
    view::explain(sight, None).expect("a deployment")
}

fn answers(world: &World) -> String {
    explained(world).answer.join(" ")
}

mod declared {
    use super::*;

    #[test]
    fn corruption_that_a_person_declares_is_rolled_back_at_once_and_a_person_is_sent_to_look() {
        let mut world = deployed();
        let answer = declare(&mut world, Impact::DataCorruption);
        assert_eq!(follows(&answer), "rolling back checkout from shop:v2 to shop:v1");
        assert!(matches!(answer, Answer::Declared { severity: Severity::P0, known: false, guard: None, .. }), "{answer:?}");
        world.pass(seconds(2));
        assert_eq!(world.rows(), "v1 deployed, v2 rolled_back, v1 deploying undoing v2");
        until_over(&mut world);
        assert_eq!(outcome(&world), Some(Outcome::Recovered));
        let recovered = world.newest(NoticeKind::Recovered);
        assert_eq!(recovered.headline, "checkout: rolled back from shop:v2 to shop:v1: please look whether the data corruption is over");
        assert!(recovered.paragraphs[0].contains("declared by alice, and nothing here sees it"), "{recovered:#?}");
        let detected = world.newest(NoticeKind::Detected);
        assert_eq!(detected.headline, "checkout: data corruption on shop:v2, declared by alice");
    }

    #[test]
    fn a_version_that_passed_its_window_hours_ago_is_still_rolled_back_on_a_persons_word() {
        let mut world = deployed();
        world.pass(minutes(120));
        assert_eq!(world.current().status, Status::Deployed);
        assert_eq!(follows(&declare(&mut world, Impact::DataCorruption)), "rolling back checkout from shop:v2 to shop:v1");
        until_over(&mut world);
        assert_eq!(world.rows(), "v1 deployed, v2 rolled_back, v1 deployed undoing v2");
        assert_eq!(world.service().mark(&VersionId("v2".to_owned())), Mark::Bad);
    }

    #[test]
    fn the_same_word_twice_is_said_once_and_acted_on_once() {
        let mut world = deployed();
        declare(&mut world, Impact::SecurityBreach);
        let again = declare(&mut world, Impact::SecurityBreach);
        assert!(matches!(&again, Answer::Declared { known: true, .. }), "{again:?}");
        assert_eq!(follows(&again), "it is being rolled back to shop:v1 already");
        until_over(&mut world);
        assert_eq!(world.count(|entry| matches!(entry, Entry::ImpactDeclared { .. })), 1);
        assert_eq!(world.checkout_effects(), 1);
    }

    #[test]
    fn a_dry_run_says_what_would_follow_and_changes_nothing() {
        let mut world = deployed();
        let before = world.records.len();
        let (service, reason) = (name("checkout"), "only asking".to_owned());
        let answer = world.ask(Command::Declare { service, impact: Impact::DataCorruption, reason, resolved: false, dry_run: true });
        assert_eq!(follows(&answer), "rolling back checkout from shop:v2 to shop:v1");
        assert_eq!(world.records.len(), before);
    }

    #[test]
    fn a_guard_that_stands_in_the_way_is_named_in_the_answer_and_what_was_foreseen_is_what_happens() {
        let mut world = deployed();
        world.ask(Command::Hold { scope: Scope::All, reason: "data centre move".to_owned(), lasting: None });
        let answer = declare(&mut world, Impact::DataCorruption);
        assert!(matches!(&answer, Answer::Declared { guard: Some(guard), to: None, .. } if guard == "hold"), "{answer:?}");
        assert_eq!(
            follows(&answer),
            "the matrix says roll back, but hold stands in the way: alice paused automatic rollbacks: data centre move"
        );
        assert_eq!(world.current().refusal.as_ref().map(Refusal::name), Some("hold"));
        world.ask(Command::Resume { scope: Scope::All });
        until_over(&mut world);
        assert_eq!(outcome(&world), Some(Outcome::Recovered));
    }

    #[test]
    fn what_is_withdrawn_before_it_could_be_acted_on_leaves_the_version_to_prove_itself() {
        let mut world = deployed();
        world.ask(Command::Hold { scope: Scope::All, reason: "wait".to_owned(), lasting: None });
        declare(&mut world, Impact::DataCorruption);
        assert_eq!(resolve(&mut world, Impact::DataCorruption), "data corruption of shop:v2 at checkout is withdrawn");
        assert!(world.newest(NoticeKind::Withdrawn).headline.contains("alice says that there is no data corruption on shop:v2 any more"));
        world.ask(Command::Resume { scope: Scope::All });
        world.pass(minutes(31));
        assert_eq!((world.rows().as_str(), world.checkout_effects()), ("v1 deployed, v2 deployed", 0));
        assert!(resolve(&mut world, Impact::DataCorruption).contains("nothing was withdrawn"));
    }

    #[test]
    fn a_version_that_somebody_calls_bad_does_not_become_known_good_nor_the_way_back() {
        let mut world = deployed();
        world.pass(minutes(40));
        world.ask(Command::Hold { scope: Scope::All, reason: "wait".to_owned(), lasting: None });
        declare(&mut world, Impact::DataCorruption);
        world.deploy("v3", Behaviour::Well);
        world.pass(minutes(1));
        let way_back = world.service().known_good(&VersionId("v3".to_owned())).map(|good| good.version.id.0.clone());
        assert_eq!(way_back.as_deref(), Some("v1"));
    }

    #[test]
    fn a_blemish_is_told_and_nothing_is_changed() {
        let mut world = deployed();
        assert_eq!(
            follows(&declare(&mut world, Impact::MinorFault)),
            "the matrix says notify only: operators are told, and nothing is changed"
        );
        world.pass(minutes(31));
        assert_eq!((world.rows().as_str(), world.kinds()), ("v1 deployed, v2 deployed", vec![NoticeKind::Detected]));
    }

    #[test]
    fn what_a_rollback_brought_is_never_rolled_back_on_a_word_either() {
        let mut world = deployed();
        declare(&mut world, Impact::DataCorruption);
        world.until(minutes(5), |world| outcome(world) == Some(Outcome::Recovered));
        let answer = declare(&mut world, Impact::DataCorruption);
        assert!(matches!(&answer, Answer::Declared { to: None, .. }), "{answer:?}");
        world.pass(minutes(60));
        assert_eq!(world.checkout_effects(), 1);
        assert!(matches!(outcome(&world), Some(Outcome::DidNotHelp { .. })), "{:?}", outcome(&world));
    }

    #[test]
    fn a_daemon_that_is_killed_after_any_entry_carries_on_with_the_word() {
        let all = {
            let mut world = deployed();
            declare(&mut world, Impact::DataCorruption);
            until_over(&mut world);
            (world.state.seq, world.rows())
        };
        for kill in 8..=all.0 {
            let mut world = deployed();
            world.kill_after = Some(kill);
            declare(&mut world, Impact::DataCorruption);
            until_over(&mut world);
            assert_eq!((world.rows(), world.checkout_effects()), (all.1.clone(), 1), "killed after {kill}");
        }
    }

    #[test]
    fn explain_says_who_said_what_and_when() {
        let mut world = deployed();
        declare(&mut world, Impact::DataCorruption);
        let view = explained(&world);
        assert!(view.timeline.iter().any(|(_, what)| what == "alice said: data corruption (orders lose their totals)"), "{view:#?}");
        assert!(answers(&world).contains("P0 data corruption, declared by alice: orders lose their totals"), "{}", answers(&world));
    }
}

mod alerts {
    use super::*;

    fn rules() -> Rules {
        let labels = [("severity", "critical"), ("kind", "corruption")].map(|(label, value)| (label.to_owned(), value.to_owned()));
        let rule = Rule { labels: BTreeMap::from(labels), impact: Impact::DataCorruption, service: None, pending: None };
        Rules { rules: vec![rule], ..Rules::default() }
    }

    fn alert(starts: Timestamp) -> Alert {
        let labels = [("alertname", "WrongTotals"), ("service", "checkout"), ("severity", "critical"), ("kind", "corruption")];
        Alert {
            name: "WrongTotals".to_owned(),
            fingerprint: "a1b2".to_owned(),
            labels: labels.map(|(label, value)| (label.to_owned(), value.to_owned())).into(),
            reason: "totals don't add up".to_owned(),
            firing: true,
            starts,
            ends: None,
        }
    }

    fn resolved(starts: Timestamp, ends: Timestamp) -> Alert {
        Alert { firing: false, ends: Some(ends), ..alert(starts) }
    }

    fn fires(world: &mut World) -> Alert {
        let alert = alert(world.now);
        let heard = world.deliver(&rules(), std::slice::from_ref(&alert));
        assert_eq!(heard, [Heard::Declared(name("checkout"), Impact::DataCorruption)]);
        alert
    }

    fn words(world: &World) -> usize {
        world.count(|entry| matches!(entry, Entry::ImpactDeclared { .. } | Entry::ImpactWithdrawn { .. }))
    }

    #[test]
    fn many_alerts_of_little_weight_keep_no_worse_one_out() {
        let mut world = deployed();
        let starts = world.now;
        let minor = |number: u32| Alert {
            fingerprint: format!("minor-{number}"),
            labels: BTreeMap::from([("service".to_owned(), "checkout".to_owned()), (IMPACT_LABEL.to_owned(), "minor_fault".to_owned())]),
            ..alert(starts)
        };
        let heard = world.deliver(&rules(), &(0..60).map(minor).collect::<Vec<_>>());
        assert_eq!(heard.iter().filter(|heard| matches!(heard, Heard::Declared(..))).count(), 7);
        fires(&mut world);
        world.until(minutes(5), |world| world.kinds().contains(&NoticeKind::RollingBack));
    }

    #[test]
    fn an_alert_in_the_window_is_rolled_back_and_recovered_once_it_is_resolved() {
        let mut world = deployed();
        let alert = fires(&mut world);
        world.until(minutes(5), |world| {
            matches!(world.service().rollback.as_ref().map(|rollback| &rollback.phase), Some(Phase::Verifying { .. }))
        });
        world.pass(minutes(3));
        assert_eq!(outcome(&world), None, "it still fires");
        let rollback = explained(&world).rollback.expect("it is under way");
        assert_eq!(rollback.lacks, ["alert WrongTotals still fires"]);
        assert!(rollback.proof_until.is_some_and(|until| until > world.now));
        let now = world.now;
        world.deliver(&rules(), &[resolved(alert.starts, now)]);
        world.pass(seconds(5));
        assert_eq!(outcome(&world), Some(Outcome::Recovered));
        assert!(world.newest(NoticeKind::Recovered).headline.ends_with("rolled back from shop:v2 to shop:v1, recovered"));
        let detected = world.newest(NoticeKind::Detected);
        assert_eq!(detected.headline, "checkout: data corruption on shop:v2, declared by alert WrongTotals");
    }

    #[test]
    fn an_alert_that_still_fires_when_the_time_is_up_shows_that_going_back_did_not_help() {
        let mut world = deployed();
        fires(&mut world);
        world.until(minutes(20), |world| outcome(world).is_some());
        assert!(matches!(outcome(&world), Some(Outcome::DidNotHelp { .. })), "{:?}", outcome(&world));
        let told = world.newest(NoticeKind::DidNotHelp);
        assert!(told.paragraphs[0].contains("alert WrongTotals still fires"), "{told:#?}");
    }

    #[test]
    fn what_fired_before_the_deployment_is_not_its_doing_and_explain_says_so() {
        let mut world = deployed();
        let before = world.current().not_before - seconds(1);
        let early = alert(before);
        assert_eq!(world.deliver(&rules(), &[early]), [Heard::Declared(name("checkout"), Impact::DataCorruption)]);
        world.pass(minutes(31));
        assert_eq!((world.rows().as_str(), world.checkout_effects()), ("v1 deployed, v2 deployed", 0));
        let view = explained(&world);
        let said: Vec<_> = view.findings.iter().map(|finding| finding.words.clone()).collect();
        assert!(said.iter().any(|words| words.starts_with("it began before this deployment, at ")), "{said:?}");
    }

    #[test]
    fn what_an_alert_sees_begins_before_it_fires_by_as_long_as_it_waits() {
        let mut world = deployed();
        let mut rules = rules();
        rules.rules[0].pending = Some(minutes(10));
        let alert = alert(world.now);
        world.deliver(&rules, &[alert]);
        world.pass(minutes(1));
        assert_eq!(world.checkout_effects(), 0, "it was pending before v2 was there");
    }

    #[test]
    fn late_doubled_and_replayed_deliveries_change_nothing() {
        let mut world = deployed();
        world.ask(Command::Hold { scope: Scope::All, reason: "only words".to_owned(), lasting: None });
        let first = fires(&mut world);
        world.pass(minutes(1));
        let ended = world.now;
        let over = resolved(first.starts, ended);
        for alert in [&first, &first, &over, &over, &first, &over, &first] {
            world.deliver(&rules(), std::slice::from_ref(alert));
            world.pass(seconds(10));
        }
        assert_eq!(words(&world), 2);
        assert!(!world.current().is_declared());
        let again = alert(world.now);
        world.deliver(&rules(), std::slice::from_ref(&again));
        assert_eq!(world.deliver(&rules(), &[over]), [Heard::Ignored(Ignored::Over)], "an old end ends nothing new");
        assert!(world.current().is_declared());
        world.crash();
        assert_eq!(world.deliver(&rules(), &[again]), [Heard::Known]);
    }

    #[test]
    fn an_end_that_overtakes_its_beginning_is_kept_in_mind() {
        let mut world = deployed();
        let (starts, ends) = (world.now - seconds(50), world.now - seconds(5));
        world.deliver(&rules(), &[resolved(starts, ends)]);
        assert_eq!(world.deliver(&rules(), &[alert(starts)]), [Heard::Ignored(Ignored::Over)]);
        world.pass(minutes(31));
        assert_eq!((world.rows().as_str(), words(&world)), ("v1 deployed, v2 deployed", 1));
    }

    #[test]
    fn what_comes_from_the_future_from_nowhere_or_about_nothing_is_ignored_with_its_reason() {
        let mut world = deployed();
        let now = world.now;
        let with = |label: &str, value: &str| {
            let mut alert = alert(now);
            alert.labels.insert(label.to_owned(), value.to_owned());
            alert
        };
        let mut nameless = alert(now);
        nameless.labels.remove("service");
        for (alert, why) in [
            (alert(now + minutes(6)), Ignored::FromTheFuture),
            (alert(Timestamp::MAX), Ignored::FromTheFuture),
            (with("kind", "other"), Ignored::NoRule),
            (with("service", "ghost"), Ignored::UnknownService("ghost".to_owned())),
            (with("service", "../../etc"), Ignored::UnknownService("../../etc".to_owned())),
            (with(IMPACT_LABEL, "doom"), Ignored::NoSuchImpact("doom".to_owned())),
            (nameless, Ignored::NoService("service".to_owned())),
            (Alert { ends: Some(now - seconds(1)), ..alert(now - seconds(9)) }, Ignored::Over),
        ] {
            assert_eq!(world.deliver(&rules(), &[alert]), [Heard::Ignored(why)]);
        }
        assert_eq!(words(&world), 0);
    }

    #[test]
    fn outside_every_window_an_alert_is_nobodys_deployment() {
        let mut world = World::settled();
        let alert = alert(world.now);
        assert_eq!(world.deliver(&rules(), &[alert]), [Heard::Ignored(Ignored::NotWatched)]);
    }

    #[test]
    fn a_label_on_the_alert_says_by_itself_what_it_stands_for() {
        let mut world = deployed();
        let mut alert = alert(world.now);
        alert.labels.insert(IMPACT_LABEL.to_owned(), "minor_fault".to_owned());
        assert_eq!(world.deliver(&rules(), &[alert]), [Heard::Declared(name("checkout"), Impact::MinorFault)]);
        world.pass(minutes(1));
        assert_eq!((world.checkout_effects(), world.kinds()), (0, vec![NoticeKind::Detected]));
    }

    #[test]
    fn an_alert_of_which_nothing_is_heard_any_more_is_over_by_itself() {
        let mut world = deployed();
        world.ask(Command::Hold { scope: Scope::All, reason: "only words".to_owned(), lasting: None });
        fires(&mut world);
        let rules = Rules { forgotten_after: minutes(10), ..rules() };
        world.pass(minutes(5));
        assert!(world.current().is_declared());
        let again = alert(world.now - minutes(5));
        world.deliver(&rules, &[again]);
        world.pass(SignedDuration::from_hours(5));
        assert!(!world.current().is_declared());
        let ended = world.count(|entry| matches!(entry, Entry::ImpactWithdrawn { by: Actor::Daemon, .. }));
        assert_eq!(ended, 1);
    }

    #[test]
    fn a_restart_loses_no_alert() {
        let mut world = deployed();
        world.ask(Command::Hold { scope: Scope::All, reason: "wait".to_owned(), lasting: None });
        fires(&mut world);
        world.crash();
        world.pass(seconds(5));
        world.ask(Command::Resume { scope: Scope::All });
        world.pass(minutes(1));
        assert_eq!(world.rows(), "v1 deployed, v2 rolled_back, v1 watching undoing v2");
    }
}

mod asked {
    use super::*;

    fn asked() -> World {
        let mut world = deployed();
        let answer = declare(&mut world, Impact::FeatureBroken);
        assert!(follows(&answer).starts_with("the matrix says ask: an answer is waited for until "), "{answer:?}");
        world
    }

    fn by_default(choice: Choice) -> World {
        let mut world = deployed();
        let policy = world.policies.get_mut(&name("checkout")).expect("a policy");
        policy.matrix.feature_broken.answer_default = choice;
        policy.matrix.feature_broken.answer_within = minutes(10);
        declare(&mut world, Impact::FeatureBroken);
        world
    }

    #[test]
    fn the_question_says_until_when_what_happens_then_and_how_to_answer() {
        let world = by_default(Choice::RollBack);
        let question = world.newest(NoticeKind::ApprovalWanted);
        assert!(
            question.paragraphs.iter().any(|words| words.starts_with("If nobody answers within 10m (until ")
                && words.ends_with("it goes back to shop:v1, if it is still so.")),
            "{question:#?}"
        );
        let commands: Vec<_> = question.next.iter().filter_map(|(_, command)| command.as_deref()).collect();
        assert_eq!(commands, ["rollbackd approve checkout", "rollbackd reject checkout", "rollbackd explain checkout"]);
    }

    #[test]
    fn who_approves_asks_for_the_rollback() {
        let mut world = asked();
        assert!(matches!(answer(&mut world, Choice::RollBack), Answer::Planned { .. }));
        until_over(&mut world);
        assert_eq!(world.rows(), "v1 deployed, v2 rolled_back, v1 deployed undoing v2");
        assert!(
            world.newest(NoticeKind::RollingBack).paragraphs[0]
                .contains("asked for by alice: approved after P2 single feature broken: I looked")
        );
        assert!(matches!(answer(&mut world, Choice::RollBack), Answer::Refused { guard, .. } if guard == "no-question"));
    }

    #[test]
    fn who_rejects_is_not_asked_again_and_the_version_stays() {
        let mut world = asked();
        assert!(matches!(answer(&mut world, Choice::Keep), Answer::Done(_)));
        resolve(&mut world, Impact::FeatureBroken);
        declare(&mut world, Impact::FeatureBroken);
        world.pass(minutes(90));
        assert_eq!(world.kinds().iter().filter(|kind| **kind == NoticeKind::ApprovalWanted).count(), 1);
        assert_eq!(world.checkout_effects(), 0);
        assert!(
            matches!(answer(&mut world, Choice::Keep), Answer::Refused { why, .. } if why.contains("answered already: alice says that it stays"))
        );
    }

    #[test]
    fn when_nobody_answers_in_time_it_stays_unless_the_matrix_says_otherwise() {
        for (choice, effects) in [(Choice::Keep, 0), (Choice::RollBack, 1)] {
            let mut world = by_default(choice);
            world.pass(minutes(9));
            assert_eq!((world.checkout_effects(), world.current().question.is_some()), (0, true));
            world.pass(minutes(2));
            assert_eq!((world.checkout_effects(), world.kinds().contains(&NoticeKind::Answered)), (effects, true), "{choice:?}");
        }
    }

    #[test]
    fn going_back_by_default_takes_that_it_is_still_so() {
        let mut world = by_default(Choice::RollBack);
        world.pass(minutes(9));
        resolve(&mut world, Impact::FeatureBroken);
        world.pass(minutes(30));
        assert_eq!((world.rows().as_str(), world.checkout_effects()), ("v1 deployed, v2 deployed", 0));
    }

    #[test]
    fn going_back_by_default_is_stopped_by_every_guard() {
        let mut world = by_default(Choice::RollBack);
        world.ask(Command::Hold { scope: Scope::All, reason: "wait".to_owned(), lasting: None });
        world.pass(minutes(12));
        assert_eq!(world.checkout_effects(), 0);
        assert_eq!(world.current().refusal.as_ref().map(Refusal::name), Some("hold"));
        assert!(
            answers(&world).contains("nobody answered in time, so it goes back. It was not rolled back: alice paused"),
            "{}",
            answers(&world)
        );
    }

    #[test]
    fn something_worse_is_acted_on_while_the_question_is_open_and_after_it_was_rejected() {
        for reject in [false, true] {
            let mut world = asked();
            if reject {
                answer(&mut world, Choice::Keep);
            }
            declare(&mut world, Impact::DataCorruption);
            assert_eq!(world.current().question, None);
            until_over(&mut world);
            assert_eq!(world.checkout_effects(), 1);
        }
    }

    #[test]
    fn a_question_outlives_a_restart_with_its_deadline() {
        let mut world = by_default(Choice::Keep);
        world.pass(minutes(5));
        world.crash();
        world.pass(minutes(4));
        assert!(world.current().question.is_some());
        world.pass(minutes(2));
        assert_eq!(world.current().question, None);
        assert_eq!(world.count(|entry| matches!(entry, Entry::QuestionAnswered { .. })), 1);
    }

    #[test]
    fn a_window_does_not_pass_while_somebody_is_asked() {
        let mut world = deployed();
        world.pass(minutes(20));
        declare(&mut world, Impact::FeatureBroken);
        world.pass(minutes(15));
        assert_eq!(world.current().status, Status::Watching);
        assert!(world.current().question.is_some());
    }

    #[test]
    fn the_next_deployment_ends_the_question() {
        let mut world = asked();
        world.deploy("v3", Behaviour::Well);
        world.pass(minutes(60));
        assert_eq!(world.rows(), "v1 deployed, v2 superseded, v3 deployed");
        assert_eq!(world.count(|entry| matches!(entry, Entry::QuestionAnswered { .. })), 0);
    }
}

mod judged {
    use super::*;

    #[test]
    fn what_a_person_let_stay_no_longer_keeps_it_from_being_known_good_and_explain_says_so() {
        let mut world = deployed();
        declare(&mut world, Impact::FeatureBroken);
        answer(&mut world, Choice::Keep);
        world.pass(minutes(45));
        assert_eq!((world.current().status, world.service().mark(&VersionId("v2".to_owned()))), (Status::Deployed, Mark::Good));
        let expected = "alice judged it, so the single feature broken that alice declared no longer keeps shop:v2 from being known good.";
        assert!(answers(&world).contains(expected), "{}", answers(&world));
        assert_eq!(explained(&world).service.summary, "P2 single feature broken, but alice let it stay");
    }

    #[test]
    fn what_nobody_answered_is_judged_by_nobody() {
        let mut world = deployed();
        declare(&mut world, Impact::FeatureBroken);
        world.pass(minutes(60));
        assert_eq!((world.current().status, world.current().answered.is_some()), (Status::Watching, true));
        let summary = "P2 single feature broken, but nobody answered in time, so it stays; watched on";
        assert_eq!(explained(&world).service.summary, summary);
    }

    #[test]
    fn what_is_said_after_the_judgement_is_not_judged() {
        let mut world = deployed();
        declare(&mut world, Impact::FeatureBroken);
        answer(&mut world, Choice::Keep);
        resolve(&mut world, Impact::FeatureBroken);
        world.pass(minutes(1));
        declare(&mut world, Impact::FeatureBroken);
        world.pass(minutes(45));
        assert_eq!(world.current().status, Status::Watching);
    }
}

mod evidence_of_then {
    use super::*;

    #[test]
    fn what_was_found_first_stays_in_the_story_when_something_worse_is_found() {
        let mut world = deployed();
        declare(&mut world, Impact::FeatureBroken);
        world.pass(minutes(3));
        declare(&mut world, Impact::DataCorruption);
        let decided = world.now;
        until_over(&mut world);
        let view = explained(&world);
        let found: Vec<&str> = view.timeline.iter().map(|(_, what)| what.as_str()).filter(|what| what.starts_with("found: ")).collect();
        let because = "declared by alice: orders lose their totals";
        assert_eq!(found, [format!("found: P2 single feature broken, {because}"), "found: P0 data corruption".to_owned()]);
        assert_eq!(view.found_at, Some(decided));
    }

    #[test]
    fn what_the_checks_said_when_a_rollback_was_planned_is_shown_and_what_was_found_after_it_as_well() {
        let mut world = World::settled();
        world.deploy("v2", Behaviour::Failing);
        world.until(minutes(5), |world| world.service().open_rollback().is_some());
        let planned = world.now;
        world.checkout().dependency_down = true;
        until_over(&mut world);
        let view = explained(&world);
        assert_eq!((view.deployment.version.name.as_str(), view.found_at), ("shop:v2", Some(planned)));
        let failing = view.findings.iter().filter(|one| one.finding.signal.0 == "probe.ready").map(|one| one.words.as_str()).next();
        assert!(failing.is_some_and(|words| words.starts_with("100 % failing since")), "{failing:?}");
        let after = view.timeline.iter().any(|(at, what)| *at > planned && what.starts_with("found on shop:v1: P0 complete outage"));
        assert!(after, "{:#?}", view.timeline);
    }
}
