//! Stories in which more than the time before is compared with: the replicas that still run the version before, others that suffer, and
//! each route by itself.

use super::*;

/// One target of the service with counters of its own.
#[derive(Clone)]
struct Pod {
    name: &'static str,
    route: Option<&'static str>,
    started: i64,
    total: f64,
    failed: f64,
}

fn pod(name: &'static str, started: i64) -> Pod {
    Pod { name, route: None, started, total: 0.0, failed: 0.0 }
}

fn route(route: &'static str) -> Pod {
    Pod { route: Some(route), total: 1e6, ..pod("pod-1", START - 90_000) }
}

impl Pod {
    fn count(&mut self, requests: f64, failed: f64) {
        self.total += requests;
        self.failed += failed;
    }

    fn series(&self, what: &str, value: f64, now: i64) -> Series {
        Series {
            id: format!("{what} {} {:?}", self.name, self.route),
            target: self.name.to_owned(),
            process_started: Some(at(self.started)),
            route: self.route.map(str::to_owned),
            samples: vec![Sample { at: at(now), value }],
        }
    }
}

/// Lets an interval of 15 s pass, and looks at all pods.
fn look_at(world: &mut World, signal: &SignalName, pods: &[&Pod]) {
    let of = |what: &str, value: fn(&Pod) -> f64| pods.iter().map(|pod| pod.series(what, value(pod), world.now)).collect();
    let scrape = Scrape { total: of("all", |pod| pod.total), failed: of("5xx", |pod| pod.failed) };
    world.read(signal, &Reading::Scrape(scrape));
}

mod beside_the_version_before {
    use super::*;

    /// Half of the traffic goes to the old pod and half to the new one, for as long as the rollout takes. Gives the verdict with the seconds
    /// that it took, and ln of the odds of a broken feature in the end.
    fn rollout(requests: f64, old_fails: f64, new_fails: f64) -> (Option<(i64, Verdict)>, f64) {
        let mut world = World::new(service_with_errors());
        let mut old = pod("old", START - 90_000);
        world.now = START - 3_600;
        look_at(&mut world, &errors(), &[&old]);
        for _ in 0..240 {
            world.now += 15;
            old.count(requests, if old.total % 100.0 < requests { 1.0 } else { 0.0 });
            look_at(&mut world, &errors(), &[&old]);
        }
        let progressing = workload(Rollout::Progressing, 1, 2, Vec::new());
        let steady = Workload { version: Version { id: VersionId("1".to_owned()), name: "shop:v1".to_owned() }, ..complete() };
        world.look(&steady);
        world.look(&progressing);
        world.deploy();
        let mut new = pod("new", START + 2);
        let verdict = world.until_verdict(80, |world| {
            world.now += 15;
            old.count(requests, old_fails * requests);
            new.count(requests, new_fails * requests);
            world.look(&progressing);
            look_at(world, &errors(), &[&old, &new]);
        });
        let numbers = world.finding(&errors(), Impact::FeatureBroken).numbers.expect("numbers");
        (verdict, numbers.log_evidence)
    }

    #[test]
    fn what_befalls_both_versions_is_not_the_new_ones_doing() {
        let (verdict, log_evidence) = rollout(100.0, 0.6, 0.6);
        assert!(verdict.is_none() && log_evidence < 0.0, "{log_evidence} {verdict:?}");
    }

    #[test]
    fn what_befalls_the_new_one_alone_is_found_during_the_rollout() {
        let (after, verdict) = rollout(100.0, 0.01, 0.6).0.expect("a verdict");
        assert_eq!(verdict.impact, Impact::ErrorRatio);
        assert!((60 + 120..=60 + 150).contains(&after), "{after}");
    }

    #[test]
    fn a_little_worse_than_a_bad_one_is_not_found() {
        let (verdict, log_evidence) = rollout(100.0, 0.35, 0.6);
        assert!(verdict.is_none() && log_evidence < 0.0, "{log_evidence} {verdict:?}");
    }

    #[test]
    fn twice_as_bad_as_hardly_anything_is_not_bad() {
        let (verdict, log_evidence) = rollout(100.0, 0.0, 0.01);
        assert!(verdict.is_none() && log_evidence < 0.0, "{log_evidence} {verdict:?}");
    }
}

mod beside_others {
    use super::*;

    fn neighbours() -> SignalName {
        SignalName("control.neighbours".to_owned())
    }

    fn service_with_control() -> Service {
        let control = SignalPolicy { role: Role::Control, ..policy(SignalKind::Errors, 15) };
        service(&[(errors(), policy(SignalKind::Errors, 15)), (ready(), policy(SignalKind::Probe, 5)), (neighbours(), control)])
    }

    struct Neighbourhood {
        world: World,
        own: Pod,
        other: Pod,
    }

    impl Neighbourhood {
        fn deployed() -> Self {
            let mut world = World::new(service_with_control());
            world.now = START - 7_200;
            world.probe(720, &[true]);
            let mut neighbourhood = Self { world, own: pod("own", START - 90_000), other: pod("other", START - 90_000) };
            neighbourhood.pass(241, (0.0, 0.0), true);
            neighbourhood.world.now = START;
            neighbourhood.world.deploy();
            neighbourhood.own = pod("own-2", START);
            neighbourhood.pass(5, (0.0, 0.0), true);
            neighbourhood
        }

        /// Lets intervals pass in which these shares of 100 requests fail, and probes pass or fail.
        fn pass(&mut self, intervals: u32, (own, other): (f64, f64), probe: bool) {
            for _ in 0..intervals {
                for _ in 0..3 {
                    self.world.probe(1, &[probe]);
                }
                self.own.count(100.0, own * 100.0);
                self.other.count(100.0, other * 100.0);
                look_at(&mut self.world, &errors(), &[&self.own]);
                look_at(&mut self.world, &neighbours(), &[&self.other]);
            }
        }

        /// The verdict within so many intervals like this.
        fn verdict(&mut self, intervals: u32, shares: (f64, f64), probe: bool) -> Option<Verdict> {
            (0..intervals).find_map(|_| {
                self.pass(1, shares, probe);
                self.world.verdict()
            })
        }
    }

    #[test]
    fn what_others_suffer_too_is_not_this_deployments_doing_and_the_numbers_say_so() {
        let mut neighbourhood = Neighbourhood::deployed();
        assert_eq!(neighbourhood.verdict(40, (0.6, 0.4), true), None);
        let numbers = neighbourhood.world.finding(&errors(), Impact::ErrorRatio).numbers.expect("numbers");
        assert_eq!(numbers.ambient, Some(1.0), "five times 40 % is everything");
        assert_eq!(neighbourhood.verdict(60, (0.0, 0.0), true), None, "nor after it is over");
    }

    #[test]
    fn a_shared_outage_that_shows_to_probes_is_not_this_deployments_doing() {
        let mut neighbourhood = Neighbourhood::deployed();
        neighbourhood.pass(2, (0.3, 0.3), true);
        assert_eq!(neighbourhood.verdict(40, (1.0, 0.3), false), None);
        assert_eq!(neighbourhood.world.gate(&ready(), Impact::CompleteOutage), Some(Gate::Attribution));
        assert_eq!(neighbourhood.verdict(60, (0.0, 0.0), true), None, "nor after it is over");
    }

    #[test]
    fn what_is_five_times_worse_than_others_is_found_all_the_same() {
        let mut neighbourhood = Neighbourhood::deployed();
        let verdict = neighbourhood.verdict(40, (0.8, 0.04), true).expect("a verdict");
        assert_eq!(verdict.impact, Impact::ErrorRatio);
    }

    #[test]
    fn others_that_are_well_change_nothing() {
        let mut neighbourhood = Neighbourhood::deployed();
        let verdict = neighbourhood.verdict(12, (0.8, 0.0), true).expect("a verdict");
        assert_eq!((verdict.impact, verdict.decisive().and_then(|one| one.numbers.as_ref()?.ambient)), (Impact::ErrorRatio, None));
    }

    #[test]
    fn what_stays_bad_after_others_are_well_again_is_this_deployments_doing() {
        let mut neighbourhood = Neighbourhood::deployed();
        assert_eq!(neighbourhood.verdict(20, (0.7, 0.5), true), None);
        assert!(neighbourhood.verdict(40, (0.7, 0.0), true).is_some());
    }
}

mod routes {
    use super::*;
    use crate::evidence::routes::BUSIEST;

    fn policy_with_history() -> SignalPolicy {
        SignalPolicy { has_history: true, ..policy(SignalKind::Errors, 15) }
    }

    /// Samples of an hour, or a minute of what follows it, of all routes: each with its requests and failures of an interval.
    fn scrape(routes: &mut [Pod], from: i64, intervals: i64, counts: &[(f64, f64)]) -> Scrape {
        let mut scrape = Scrape::default();
        for (route, (requests, failed)) in routes.iter_mut().zip(counts) {
            let (mut total, mut errors) = (route.series("all", 0.0, from), route.series("5xx", 0.0, from));
            (total.samples, errors.samples) = (Vec::new(), Vec::new());
            for number in 1..=intervals {
                route.count(*requests, *failed);
                total.samples.push(Sample { at: at(from + 15 * number), value: route.total });
                errors.samples.push(Sample { at: at(from + 15 * number), value: route.failed });
            }
            scrape.total.push(total);
            scrape.failed.push(errors);
        }
        scrape
    }

    fn verdict_of(counts: &[(f64, f64)]) -> Option<(i64, Verdict)> {
        let mut world = World::new(service(&[(errors(), policy_with_history())]));
        let mut routes: Vec<Pod> = ["/", "/search", "/cart", "/pay", "/login", "/help", "/about"].map(route).into();
        let usual: Vec<(f64, f64)> = counts.iter().map(|(requests, _)| (*requests, 0.0)).collect();
        let history = scrape(&mut routes, START - 3_600, 240, &usual);
        world.now = START;
        let start = at(START);
        world.evidence.watch(&world.service, DeploymentId(7), start, PATIENCE, start);
        let baseline = Evidence::baseline_of_history(&world.service, &errors(), &history, start, &[]);
        world.evidence.set_baselines(&world.service, &BTreeMap::from([(errors(), baseline)]));
        world.evidence.observe_workload(&world.service, &complete(), start);
        world.until_verdict(60, |world| {
            let look = scrape(&mut routes, world.now, 1, counts);
            world.now += 15;
            world.read(&errors(), &Reading::Scrape(look));
        })
    }

    #[test]
    fn one_route_that_fails_is_a_broken_feature_however_little_it_is_of_the_whole() {
        let (after, verdict) = verdict_of(&[(600.0, 0.0), (100.0, 0.0), (6.0, 4.0)]).expect("a verdict");
        let numbers = verdict.decisive().and_then(|one| one.numbers.clone()).expect("numbers");
        assert_eq!((verdict.impact, numbers.route.as_deref()), (Impact::FeatureBroken, Some("/cart")));
        assert!(after <= 60 + 180, "{after}");
    }

    #[test]
    fn a_route_that_hardly_anybody_uses_says_nothing() {
        let verdict = verdict_of(&[(600.0, 0.0), (100.0, 0.0), (0.25, 0.25)]);
        assert!(verdict.is_none(), "15 requests in the quarter of an hour: {verdict:?}");
    }

    #[test]
    fn only_the_busiest_routes_are_watched() {
        let busy = [(60.0, 0.0); BUSIEST];
        let verdict = verdict_of(&[&busy[..], &[(20.0, 20.0)]].concat());
        let route = verdict.and_then(|(_, verdict)| verdict.decisive()?.numbers.clone()?.route);
        assert_eq!(route, None);
    }
}
