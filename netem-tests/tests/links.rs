//! The link profiles in `configs/links`.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

use netem_tests::Profile;

#[test]
fn every_file_is_the_link_that_its_name_says() {
    let ten_ms_of_jitter = Profile::default().jitter_ms(10).loss_pct(1);
    let links = [
        ("clean", Profile::default()),
        ("loss-1", Profile::default().loss_pct(1)),
        ("loss-5", Profile::default().loss_pct(5)),
        ("loss-10", Profile::default().loss_pct(10)),
        ("loss-20", Profile::default().loss_pct(20)),
        ("loss-30", Profile::default().loss_pct(30)),
        ("burst", Profile::default().gilbert_elliott(1, 10)),
        ("slow", Profile::delay_ms(40).rate_mbit(10).loss_pct(5)),
        (
            "far",
            Profile::delay_ms(100)
                .rate_mbit(100)
                .loss_pct(2)
                .queue_packets(1000),
        ),
        ("jitter", ten_ms_of_jitter),
        (
            "narrow",
            Profile::delay_ms(25).rate_mbit(1).queue_packets(20),
        ),
    ];

    check(&directory(), &links);
}

#[test]
fn the_links_that_no_goal_names_are_those_of_their_names() {
    let links = [
        (
            "cross-border",
            Profile::delay_ms(90)
                .rate_mbit(200)
                .loss_pct(8)
                .queue_packets(1500),
        ),
        (
            "lte",
            Profile::delay_ms(30)
                .rate_mbit(40)
                .jitter_ms(15)
                .gilbert_elliott(0.1, 20),
        ),
        (
            "satellite",
            Profile::delay_ms(300)
                .rate_mbit(20)
                .loss_pct(1)
                .to_near(|way| way.rate_mbit(5).queue_packets(150)),
        ),
        (
            "wifi",
            Profile::delay_ms(5)
                .rate_mbit(60)
                .jitter_ms(3)
                .queue_packets(250)
                .loss_pct(3)
                .reorder_pct(2)
                .duplicate_pct(1),
        ),
    ];

    check(&directory().join("other"), &links);
}

#[test]
fn a_missing_file_is_named() {
    let error = Profile::load("no/such/link.toml").unwrap_err();

    assert!(
        error
            .to_string()
            .starts_with("no/such/link.toml: cannot read it"),
        "{error}"
    );
}

/// Checks that the folder has these links and no others.
fn check(directory: &Path, links: &[(&str, Profile)]) {
    for (name, expected) in links {
        let path = directory.join(format!("{name}.toml"));
        assert_eq!(Profile::load(path).unwrap(), *expected, "{name}");
    }
    let entries = fs::read_dir(directory).unwrap();
    let files = entries.filter(|entry| entry.as_ref().unwrap().path().is_file());
    assert_eq!(files.count(), links.len());
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/links")
}
