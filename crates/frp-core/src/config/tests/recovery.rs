//! `recovery` and `alerts`, and texts that are kept.

use super::*;

fn client(text: &str, options: &LoadOptions) -> Result<ClientConfig, ConfigErrors> {
    let input = Input::Text(Path::new("frpc.toml"), text.as_bytes());
    load::client(&input, None, options, &Env::sealed(&[])).map(|loaded| loaded.config)
}

#[test]
fn without_keys_recovery_is_on_and_nobody_is_told() {
    let config = client("", &LoadOptions::default()).unwrap();
    assert_eq!(config.recovery, RecoveryConfig::default());
    assert!(config.alerts.is_empty());
}

#[test]
fn zero_seconds_turn_off_and_parts_are_named() {
    let text = "[recovery]\nconfirmSeconds = 0\nwatchSeconds = 5\noff = [\"switch\", \"alerts\"]\n";
    let recovery = client(text, &LoadOptions::default()).unwrap().recovery;
    assert_eq!(recovery.confirm, None);
    assert_eq!(recovery.watch, Some(std::time::Duration::from_secs(5)));
    assert_eq!(recovery.off, [RecoveryPart::Switch, RecoveryPart::Alerts]);
}

#[test]
fn what_makes_no_sense_is_named_with_its_place() {
    let text = "[recovery]\nconfirmSeconds = -1\noff = [\"everything\"]\n\
                [[alerts]]\ntype = \"pigeon\"\n\
                [[alerts]]\ntype = \"webhook\"\nurl = \"ftp://x\"\nlevel = \"loud\"\n";
    let errors = client(text, &LoadOptions::default())
        .unwrap_err()
        .to_string();
    for part in [
        "frpc.toml:2",
        "recovery.confirmSeconds: -1 must be in the range 1..3600",
        "invalid recovery.off",
        "invalid alerts.type",
        "alerts.url must be an http or https URL",
        "invalid alerts.level",
    ] {
        assert!(errors.contains(part), "{part} is not in:\n{errors}");
    }
}

#[test]
fn a_command_has_to_be_allowed_outside_of_the_file() {
    let text = "[[alerts]]\ntype = \"command\"\ncommand = \"/bin/true\"\n";
    let errors = client(text, &LoadOptions::default())
        .unwrap_err()
        .to_string();
    assert!(
        errors.contains("\"AlertCommand\" is not enabled"),
        "{errors}"
    );
    let allowed = LoadOptions {
        allow_unsafe: vec!["AlertCommand".to_owned()],
        ..LoadOptions::default()
    };
    let alerts = client(text, &allowed).unwrap().alerts;
    assert_eq!(alerts[0].level, AlertLevel::Warning);
}

#[test]
fn a_webhooks_secrets_are_not_shown() {
    let text = "[[alerts]]\ntype = \"webhook\"\nurl = \"https://h/secret-path\"\n\
                headers = { Authorization = \"secret-word\" }\n";
    let config = client(text, &LoadOptions::default()).unwrap();
    let shown = format!("{config:?}");
    assert!(!shown.contains("secret-path") && !shown.contains("secret-word"));
}

#[test]
fn kept_texts_load_as_their_files_did_when_those_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let more = dir.path().join("more.toml");
    let proxy = "[[proxies]]\nname = \"b\"\ntype = \"tcp\"\nlocalPort = 1\nremotePort = 2\n";
    std::fs::write(&more, proxy).unwrap();
    let path = dir.path().join("frpc.toml");
    let main = format!(
        "user = \"u\"\nincludes = [{:?}]\n",
        more.display().to_string()
    );
    std::fs::write(&path, main).unwrap();
    let options = LoadOptions {
        env: false,
        ..LoadOptions::default()
    };

    let (loaded, texts) = load_client_with_texts(&path, &options);
    let loaded = loaded.unwrap();
    drop(dir);
    assert_eq!((texts.included.len(), loaded.config.proxies.len()), (1, 1));
    let again = load_client_from_texts(&texts, &options).unwrap();
    assert_eq!(again.config, loaded.config);
    assert!(!format!("{texts:?}").contains("remotePort"));
}
