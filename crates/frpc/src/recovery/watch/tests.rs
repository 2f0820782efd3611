use super::*;
use RecoveryPart::{Login, Reprobe, Restart, Rollback, Switch};

const INTERVAL: Duration = Duration::from_secs(30);

/// A watch in simulated time.
struct Run {
    watch: Watch,
    now: Instant,
    began: Instant,
    means: Means,
}

impl Run {
    fn new(steps_per_hour: usize) -> Self {
        let now = Instant::now();
        Self {
            watch: Watch::new(INTERVAL, steps_per_hour),
            now,
            began: now,
            means: Means {
                steps: [Reprobe, Switch, Login, Restart, Rollback].into(),
                ..Means::default()
            },
        }
    }

    fn look(&mut self, sights: &[Sight]) -> Vec<Act> {
        let acts = self.watch.look(self.now, sights, &self.means);
        self.now += INTERVAL;
        acts
    }

    /// The steps of as many looks that see `sights`, with their times in seconds.
    fn steps(&mut self, n_looks: usize, sights: &[Sight]) -> Vec<(u64, RecoveryPart)> {
        let mut steps = Vec::new();
        for _ in 0..n_looks {
            let at = (self.now - self.began).as_secs();
            let acts = self.look(sights);
            steps.extend(acts.iter().filter_map(|act| match act {
                Act::Step { step, .. } => Some((at, *step)),
                _ => None,
            }));
        }
        steps
    }
}

fn sight(trouble: Trouble, subject: &str) -> Sight {
    Sight {
        trouble,
        subject: subject.to_owned(),
        text: format!("{} {subject}", trouble.name()),
    }
}

fn levels(acts: &[Act]) -> Vec<AlertLevel> {
    let levels = acts.iter().filter_map(|act| match act {
        Act::Raise { level, .. } => Some(*level),
        _ => None,
    });
    levels.collect()
}

#[test]
fn steps_come_one_after_the_other_and_each_has_its_time() {
    let mut run = Run::new(100);
    run.means.rollback_changes_all = true;
    let steps = run.steps(12, &[sight(Trouble::Stall, "")]);
    let expected = [
        (0, Reprobe),
        (30, Switch),
        (90, Login),
        (150, Restart),
        (240, Rollback),
    ];
    assert_eq!(steps, expected);
}

#[test]
fn at_the_top_the_ladder_begins_anew_after_a_pause_that_doubles() {
    let mut run = Run::new(100);
    let steps = run.steps(200, &[sight(Trouble::Errors, "")]);
    let times: Vec<u64> = steps.iter().map(|(at, _)| *at).collect();
    assert_eq!(times[..4], [0, 330, 960, 2190]);
    let pauses: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(
        pauses.windows(2).all(|pair| pair[1] >= pair[0]),
        "{pauses:?}"
    );
}

#[test]
fn never_more_steps_are_taken_in_an_hour_than_allowed() {
    for steps_per_hour in [0, 1, 5] {
        let mut run = Run::new(steps_per_hour);
        let all = [
            sight(Trouble::Login, ""),
            sight(Trouble::Stall, ""),
            sight(Trouble::WorkConns, ""),
        ];
        let steps = run.steps(1000, &all);
        let felt: Vec<u64> = steps
            .iter()
            .filter(|(_, step)| *step != Reprobe)
            .map(|(at, _)| *at)
            .collect();
        assert_eq!(felt.is_empty(), steps_per_hour == 0);
        for (idx, at) in felt.iter().enumerate() {
            let within = felt[idx..].iter().take_while(|later| **later < at + 3600);
            assert!(within.count() <= steps_per_hour, "{felt:?}");
        }
    }
}

#[test]
fn that_no_more_is_done_is_told_and_so_is_that_it_is_again() {
    let mut run = Run::new(1);
    let mut raised = 0;
    let mut resolved = 0;
    for _ in 0..130 {
        for act in run.look(&[sight(Trouble::WorkConns, "")]) {
            match act {
                Act::Raise { key, .. } if key == BUDGET => raised += 1,
                Act::Resolve { key, .. } if key == BUDGET => resolved += 1,
                _ => {}
            }
        }
    }
    assert!(raised >= 1 && resolved >= 1, "{raised} {resolved}");
}

#[test]
fn one_look_is_chance_and_two_are_trouble() {
    let mut run = Run::new(100);
    let sights = [sight(Trouble::Login, "")];
    assert_eq!(levels(&run.look(&sights)), [AlertLevel::Info]);
    assert_eq!(levels(&run.look(&sights)), [AlertLevel::Critical]);
    assert_eq!(run.look(&[]), []);
    let acts = run.look(&[]);
    assert!(
        matches!(&acts[..], [Act::Resolve { key, .. }] if key == "login"),
        "{acts:?}"
    );
    assert!(run.watch.cases().is_empty());
}

#[test]
fn what_comes_back_soon_goes_on_where_it_was() {
    let mut run = Run::new(100);
    let sights = [sight(Trouble::Stall, "")];
    assert_eq!(run.steps(2, &sights).len(), 2);
    run.steps(4, &[]);
    assert_eq!(run.steps(1, &sights), [(180, Login)]);
    run.steps(100, &[]);
    let steps = run.steps(1, &sights);
    assert!(matches!(steps[..], [(_, Reprobe)]), "{steps:?}");
}

#[test]
fn what_users_feel_is_done_by_one_step_at_a_time() {
    let mut run = Run::new(100);
    let sights = [sight(Trouble::Stall, ""), sight(Trouble::WorkConns, "")];
    let steps = run.steps(40, &sights);
    let felt: Vec<u64> = steps
        .iter()
        .filter(|(_, step)| *step != Reprobe)
        .map(|(at, _)| *at)
        .collect();
    assert!(
        felt.windows(2).all(|pair| pair[1] - pair[0] >= 60),
        "{felt:?}"
    );
}

#[test]
fn a_step_that_is_off_or_has_nothing_to_do_is_left_out() {
    let mut run = Run::new(100);
    run.means.steps = [Reprobe, Restart].into();
    let steps = run.steps(4, &[sight(Trouble::Stall, "")]);
    assert_eq!(steps, [(0, Reprobe), (30, Restart)]);
}

#[test]
fn a_proxy_is_rolled_back_only_if_that_changes_it() {
    let mut run = Run::new(100);
    run.means.rollback_changes = ["moved".to_owned()].into();
    run.means.rollback_changes_all = true;
    let steps = run.steps(4, &[sight(Trouble::Local, "same")]);
    assert_eq!(steps, [(0, Reprobe)]);
    let steps = run.steps(4, &[sight(Trouble::Local, "moved")]);
    assert_eq!(steps, [(120, Reprobe), (150, Rollback)]);
}

#[test]
fn a_local_service_that_is_down_cuts_off_nobody() {
    for trouble in [Trouble::Local, Trouble::Proxy, Trouble::Errors] {
        let mut run = Run::new(100);
        let steps = run.steps(500, &[sight(trouble, "web")]);
        assert!(steps.iter().all(|(_, step)| *step == Reprobe), "{steps:?}");
    }
}

#[test]
fn troubles_without_end_are_cut() {
    let mut run = Run::new(100);
    let sights: Vec<_> = (0..1000)
        .map(|n| sight(Trouble::Local, &n.to_string()))
        .collect();
    run.look(&sights);
    assert_eq!(run.watch.cases().len(), MAX_CASES);
}
