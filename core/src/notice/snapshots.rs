//! One whole notice of each kind as operators read it, so that a change of words is seen.

use std::fmt::Write as _;

use super::{Notice, NoticeKind};
use crate::command::{Answer, Command};
use crate::decide::world::{Api, Behaviour, World, errors, minutes, name, neighbours, seconds};
use crate::entry::Scope;
use crate::service::{Role, SignalName};
use crate::severity::{Impact, Response, Severity};
use crate::version::ChangeKind;
use crate::words;

fn text(notice: &Notice) -> String {
    let mut text = format!("{}\n", notice.headline);
    for paragraph in &notice.paragraphs {
        let _ = writeln!(text, "  {paragraph}");
    }
    for (label, value) in &notice.facts {
        let _ = writeln!(text, "  {label}: {value}");
    }
    for (words, command) in &notice.next {
        let _ = writeln!(text, "  > {words} {}", command.as_deref().unwrap_or_default());
    }
    text.trim_end().to_owned()
}

fn newest(world: &World, kind: NoticeKind) -> String {
    text(world.newest(kind))
}

fn deployed(behaviour: Behaviour) -> World {
    let mut world = World::settled();
    world.deploy("v2", behaviour);
    world
}

fn until(world: &mut World, kind: NoticeKind) -> String {
    world.until(minutes(60), |world| world.kinds().contains(&kind));
    newest(world, kind)
}

/// The answer of `rollbackd explain`.
/// Somebody says that something is wrong, or no longer is.
fn declare(world: &mut World, impact: Impact, resolved: bool) {
    let reason = "orders lose their totals".to_owned();
    world.ask(Command::Declare { service: name("checkout"), impact, reason, resolved, dry_run: false });
}

fn explained(world: &mut World) -> String {
    match world.ask(Command::Explain { service: name("checkout"), deployment: None }) {
        Answer::Explanation(view) => {
            let timeline = view.timeline.iter().map(|(at, words)| format!("  {} {words}", words::time(*at)));
            let lines: Vec<_> = view.answer.iter().cloned().chain(timeline).collect();
            format!("explain: {}\n  {}\n{}", view.deployment.version, view.service.summary, lines.join("\n"))
        }
        other => panic!("no explanation: {other:?}"),
    }
}

fn all() -> Vec<(NoticeKind, String)> {
    use NoticeKind::{
        AllClear, Answered, ApprovalWanted, Blind, Blocked, Detected, DidNotHelp, Failed, Operator, Recovered, RollingBack, Sighted,
        Stopped, Withdrawn,
    };
    let mut told = Vec::new();
    let mut world = deployed(Behaviour::Failing);
    told.extend([Detected, RollingBack, Recovered, AllClear].map(|kind| (kind, until(&mut world, kind))));
    told.push((AllClear, explained(&mut world)));

    let mut world = deployed(Behaviour::Failing);
    world.until(minutes(5), |world| world.service().open_rollback().is_some());
    world.checkout().dependency_down = true;
    told.push((DidNotHelp, until(&mut world, DidNotHelp)));

    let mut world = deployed(Behaviour::Failing);
    until(&mut world, Recovered);
    world.pass(minutes(5));
    world.checkout().dependency_down = true;
    told.push((DidNotHelp, until(&mut world, DidNotHelp)));

    let mut world = deployed(Behaviour::Failing);
    world.checkout().api = Api::Rejects("pods \"checkout\" is forbidden: exceeded quota");
    told.push((Failed, until(&mut world, Failed)));

    let mut world = deployed(Behaviour::Failing);
    until(&mut world, RollingBack);
    world.checkout().probes_visible = false;
    told.push((Failed, until(&mut world, Failed)));
    told.push((Blind, newest(&world, Blind)));

    let mut world = deployed(Behaviour::Failing);
    world.checkout().change = Some(ChangeKind::IrreversibleMigration);
    told.push((Blocked, until(&mut world, Blocked)));
    told.push((Blocked, explained(&mut world)));
    told.push((Failed, until(&mut world, Failed)));

    let mut world = World::settled();
    let matrix = &mut world.policies.get_mut(&name("checkout")).expect("a policy").matrix;
    for row in [&mut matrix.complete_outage, &mut matrix.error_ratio] {
        (row.response, row.severity) = (Response::Ask, Severity::P2);
    }
    world.deploy("v2", Behaviour::Failing);
    told.push((ApprovalWanted, until(&mut world, ApprovalWanted)));
    told.push((Answered, until(&mut world, Answered)));
    told.push((Answered, explained(&mut world)));

    let mut world = deployed(Behaviour::Well);
    world.pass(minutes(90));
    declare(&mut world, Impact::DataCorruption, false);
    told.push((Detected, newest(&world, Detected)));
    told.push((Recovered, until(&mut world, Recovered)));
    told.push((Recovered, explained(&mut world)));

    let mut world = deployed(Behaviour::Well);
    world.pass(minutes(1));
    declare(&mut world, Impact::MinorFault, false);
    declare(&mut world, Impact::MinorFault, true);
    told.push((Withdrawn, newest(&world, Withdrawn)));

    let mut world = deployed(Behaviour::Well);
    world.pass(minutes(1));
    world.checkout().probes_visible = false;
    world.pass(minutes(3));
    world.checkout().probes_visible = true;
    told.push((Sighted, until(&mut world, Sighted)));

    let mut world = deployed(Behaviour::Failing);
    world.checkout().api = Api::Away;
    until(&mut world, RollingBack);
    world.deploy("v3", Behaviour::Well);
    told.push((Stopped, until(&mut world, Stopped)));
    told.push((Stopped, explained(&mut world)));

    let mut world = deployed(Behaviour::Failing);
    world.pass(seconds(20));
    world.deploy("v1", Behaviour::Well);
    told.push((Operator, until(&mut world, Operator)));

    told.extend(warnings());

    let fleet = ["cart", "checkout", "search"];
    let mut world = World::all_settled(&fleet);
    for of in fleet {
        world.deploy_at(of, "v2", Behaviour::Failing);
    }
    world.until(minutes(5), |world| world.state.brake.is_some());
    let tripped = world.notices().find(|notice| notice.service.is_none()).map(text);
    told.push((Blocked, tripped.expect("the brake is told")));
    world.ask(Command::Resume { scope: Scope::All });
    told.push((Operator, newest(&world, Operator)));

    let mut world = World::settled();
    let lasting = Some(seconds(3600));
    world.ask(Command::Hold { scope: Scope::All, reason: "database maintenance".to_owned(), lasting });
    told.push((Operator, newest(&world, Operator)));
    told
}

/// What is told without a verdict.
fn warnings() -> Vec<(NoticeKind, String)> {
    use NoticeKind::{HeldBack, TooLittleTraffic, Undecided};
    let settled = |requests: f64| {
        let mut world = World::settled();
        world.count_requests("checkout", &errors(), Role::Own, requests);
        world
    };
    let fail = |world: &mut World, signal: &SignalName, share: f64| {
        world.checkout().traffic.get_mut(signal).expect("it is counted").failing = share;
    };
    let mut told = Vec::new();
    let mut world = settled(100.0);
    world.count_requests("checkout", &neighbours(), Role::Control, 100.0);
    world.deploy("v2", Behaviour::Well);
    world.pass(minutes(3));
    fail(&mut world, &errors(), 0.6);
    fail(&mut world, &neighbours(), 0.1);
    told.extend([HeldBack, Undecided].map(|kind| (kind, until(&mut world, kind))));
    told.push((Undecided, explained(&mut world)));

    let mut world = settled(60.0);
    world.deploy("v2", Behaviour::Well);
    world.pass(minutes(2));
    for _ in 0..9 {
        for share in [0.7, 0.0] {
            fail(&mut world, &errors(), share);
            world.pass(minutes(1));
        }
    }
    told.push((Undecided, newest(&world, Undecided)));
    world.until(minutes(400), |world| world.kinds().contains(&NoticeKind::AllClear));
    told.push((NoticeKind::AllClear, newest(&world, NoticeKind::AllClear)));

    let mut world = settled(0.25);
    world.deploy("v2", Behaviour::Well);
    told.push((TooLittleTraffic, until(&mut world, TooLittleTraffic)));
    told
}

#[test]
fn every_kind_of_notice_says_what_happened_why_and_what_to_do() {
    let told: Vec<String> = all().into_iter().map(|(kind, text)| format!("{kind:?}\n{text}")).collect();
    let told = told.join("\n\n");
    let expected = include_str!("snapshots.txt");
    assert!(told == expected.trim_end(), "the notices have other words now; if that is meant, this is the new text:\n{told}\n<<<");
}
