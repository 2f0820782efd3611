//! `includes`, `start`, `enabled`.

use std::fs;

use super::*;

fn load(dir: &Path, text: &str) -> Result<Loaded<ClientConfig>, String> {
    let file = dir.join("frpc.toml");
    fs::write(&file, text).unwrap();
    let options = LoadOptions {
        env: false,
        ..LoadOptions::default()
    };
    load_client(&file, &options).map_err(|errors| errors.to_string())
}

fn names(config: &ClientConfig) -> Vec<&str> {
    config
        .proxies
        .iter()
        .map(|proxy| proxy.name.as_str())
        .collect()
}

#[test]
fn included_files_bring_their_proxies_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let conf = dir.path().join("conf.d");
    fs::create_dir(&conf).unwrap();
    fs::create_dir(conf.join("folder.toml")).unwrap();
    fs::write(
        conf.join("b.toml"),
        "user = \"x\"\n[[proxies]]\nname = \"b\"\ntype = \"tcp\"\n",
    )
    .unwrap();
    fs::write(conf.join("a.yaml"), "proxies: [{name: a, type: udp}]\n").unwrap();
    fs::write(
        conf.join("c.json"),
        "{\"proxies\": [{\"name\": \"c\", \"type\": \"tcp\"}]}",
    )
    .unwrap();
    fs::write(conf.join("other.txt"), "}{").unwrap();
    let text = format!(
        "includes = [\"{0}/*.toml\", \"{0}/[ac].*\"]\n[[proxies]]\nname = \"z\"\ntype = \"tcp\"",
        conf.display(),
    );

    let config = load(dir.path(), &text).unwrap().config;

    assert_eq!(
        names(&config),
        ["a", "b", "c", "z"],
        "in the order of their names"
    );
    assert_eq!(config.user, "");
}

#[test]
fn errors_name_the_included_file() {
    let dir = tempfile::tempdir().unwrap();
    let conf = dir.path().join("conf.d");
    fs::create_dir(&conf).unwrap();
    let bad = "[[proxies]]\nname = \"a\"\ntype = \"tcp\"\nfoo = 1\nlocalPort = -1\n";
    fs::write(conf.join("a.toml"), bad).unwrap();
    let text = format!(
        "includes = [\"{}/*\"]\n[[proxies]]\nname = \"a\"\ntype = \"tcp\"",
        conf.display(),
    );
    let file = conf.join("a.toml");
    let file = file.display();
    assert_eq!(
        lines(load(dir.path(), &text)),
        [
            format!("{file}:2:1: proxies[0].name: proxy name [a] is duplicated"),
            format!(
                "{file}:4:1: proxies[0].foo: decode proxy at index 0: unmarshal ProxyConfig \
                 error: json: unknown field \"foo\""
            ),
            format!(
                "{file}:5:1: proxies[0].localPort: proxy a: localPort: localPort: port number -1 \
                 must be in the range 0..65535"
            ),
        ]
    );
}

#[test]
fn a_missing_folder_is_an_error_and_an_empty_one_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display();
    let text = format!("includes = [\"{at}/nope/*.toml\"]");
    let errors = lines(load(dir.path(), &text));
    let file = dir.path().join("frpc.toml");
    let expected = format!(
        "{}:1:13: includes[0]: stat {at}/nope: no such file or directory",
        file.display(),
    );
    assert_eq!(errors, [expected]);
    fs::create_dir(dir.path().join("empty")).unwrap();
    assert!(load(dir.path(), &format!("includes = [\"{at}/empty/*\"]")).is_ok());
}

#[test]
fn what_is_not_started_or_not_enabled_is_neither_used_nor_checked() {
    let text = r#"
        start = ["a", "v", "nobody"]
        [[proxies]]
        name = "a"
        type = "tcp"
        [[proxies]]
        name = "b"
        type = "http"
        [[visitors]]
        name = "v"
        type = "stcp"
        serverName = "x"
        bindPort = 1
        enabled = false
    "#;
    let config = client(text).unwrap().config;
    assert_eq!(names(&config), ["a"]);
    assert_eq!(config.visitors, []);
}

#[test]
fn names_differ_also_among_the_disabled() {
    let text =
        "[[proxies]]\nname='a'\ntype='tcp'\n[[proxies]]\nname='a'\ntype='tcp'\nenabled=false";
    assert_eq!(
        client_errors(text),
        ["frpc.toml:5:1: proxies[1].name: proxy name [a] is duplicated"]
    );
}
