//! The environment over the file over the defaults; flags instead of a file.

use super::*;

fn client_env(text: &str, env: &[(&str, &str)]) -> Result<Loaded<ClientConfig>, String> {
    client_named("frpc.toml", text, env, true)
}

#[test]
fn the_environment_goes_over_the_file() {
    let text = "serverAddr = \"file\"\nuser = \"file\"\nmetadatas = { a = \"file\", b = \"file\" }";
    let env = [
        ("HOLDFAST_SERVER_ADDR", "env"),
        ("holdfast_serverPort", " 7001 "),
        ("HOLDFAST_TRANSPORT__TLS__ENABLE", "false"),
        ("HOLDFAST_AUTH__TOKEN", "12345"),
        ("HOLDFAST_METADATAS__b", "env"),
        ("HOLDFAST_START", "a, b,"),
        ("HOLDFAST_LOGIN_FAIL_EXIT", "0"),
        ("HOLDFASTER", "not ours"),
        ("SERVER_ADDR", "not ours"),
    ];
    let config = client_env(text, &env).unwrap().config;
    assert_eq!(config.server_addr, "env");
    assert_eq!(config.user, "file");
    assert_eq!(config.server_port, 7001);
    assert!(!config.transport.tls.enable);
    assert_eq!(
        config.auth.token.expose(),
        "12345",
        "digits stay text where text is asked for"
    );
    assert_eq!(config.metadatas["a"], "file");
    assert_eq!(config.metadatas["b"], "env");
    assert_eq!(config.start, ["a", "b"]);
    assert!(!config.login_fail_exit);
}

#[test]
fn errors_from_the_environment_name_the_variable() {
    for (name, value, expected) in [
        (
            "HOLDFAST_SERVER_PORT",
            "x",
            "HOLDFAST_SERVER_PORT: serverPort: field \"serverPort\": cannot unmarshal string into \
             int",
        ),
        (
            "HOLDFAST_SERVER_PORT",
            "70000",
            "HOLDFAST_SERVER_PORT: serverPort: serverPort: port number 70000 must be in the range \
             0..65535",
        ),
        (
            "HOLDFAST_SERVER_ADR",
            "x",
            "HOLDFAST_SERVER_ADR: did you mean \"HOLDFAST_SERVER_ADDR\"?: no such key",
        ),
        (
            "HOLDFAST_TRANSPORT",
            "best",
            "HOLDFAST_TRANSPORT: transport.protocol: invalid transport.protocol, optional values \
             are [tcp kcp quic websocket wss auto]",
        ),
        (
            "HOLDFAST_PROXIES",
            "x",
            "HOLDFAST_PROXIES: proxies: cannot be given as text; use a file",
        ),
        (
            "HOLDFAST_AUTH",
            "x",
            "HOLDFAST_AUTH: auth: is a table: give one of its keys",
        ),
        (
            "HOLDFAST_LOG__LEVEL",
            "loud",
            "HOLDFAST_LOG__LEVEL: log.level: invalid log level, optional values are [trace debug \
             info warn error]",
        ),
    ] {
        assert_eq!(lines(client_env("", &[(name, value)])), [expected]);
    }
}

#[test]
fn a_variable_of_the_other_program_is_not_for_us() {
    assert!(client_env("", &[("HOLDFAST_BIND_PORT", "1")]).is_ok());
    assert!(server_with("", &[("HOLDFAST_SERVER_ADDR", "x")], true).is_ok());
}

#[test]
fn unknown_variables_only_matter_when_strict() {
    let env = [("HOLDFAST_NOPE", "1")];
    assert!(client_named("frpc.toml", "", &env, true).is_err());
    assert!(client_named("frpc.toml", "", &env, false).is_ok());
}

#[test]
fn the_environments_proxy_is_the_last_resort() {
    let env = [("http_proxy", "http://u:p@proxy:3128")];
    let url = client_env("", &env)
        .unwrap()
        .config
        .transport
        .proxy_url
        .unwrap();
    assert_eq!(url.url().port(), Some(3128));
    assert_eq!(format!("{url:?}"), "http://***@proxy:3128");
    let text = "transport.proxyURL = \"socks5://other:1080\"";
    let url = client_env(text, &env)
        .unwrap()
        .config
        .transport
        .proxy_url
        .unwrap();
    assert_eq!(url.url().scheme(), "socks5");
    let bad = [("http_proxy", "proxy:3128")];
    assert!(lines(client_env("", &bad))[0].ends_with("must be an http or socks5 URL"));
}

fn from_flags(flags: &[Flag]) -> Result<Loaded<ServerConfig>, String> {
    let options = LoadOptions::default();
    let result = load::server(&Input::Flags(flags), &options, &Env::sealed(&[]));
    result.map_err(|errors| errors.to_string())
}

#[test]
fn flags_make_a_configuration_by_themselves() {
    let flags = [
        Flag::new("--bind-port", "bindPort", "7001"),
        Flag::new("--allow-ports", "allowPorts", "1000-2000,3000"),
        Flag::new("--tls-only", "transport.tls.force", "true"),
        Flag::new("--token", "auth.token", "x"),
    ];
    let config = from_flags(&flags).unwrap().config;
    assert_eq!(config.bind_port, 7001);
    assert_eq!(config.allow_ports.to_string(), "1000-2000,3000");
    assert!(config.allow_ports.contains(1500) && !config.allow_ports.contains(2500));
    assert!(config.transport.tls.force);
}

#[test]
fn errors_of_flags_are_bare() {
    assert_eq!(
        lines(from_flags(&[Flag::new("--bind-port", "bindPort", "70000")])),
        ["bindPort: port number 70000 must be in the range 0..65535"]
    );
    assert_eq!(
        lines(from_flags(&[Flag::new(
            "--allow-ports",
            "allowPorts",
            "9-1"
        )])),
        ["invalid argument \"9-1\" for \"--allow-ports\" flag: range number is invalid"]
    );
    let single = Single::Proxy(vec![
        Flag::new("", "type", "tcp"),
        Flag::new("--local-port", "localPort", "22"),
    ]);
    let options = LoadOptions::default();
    let result = load::client(
        &Input::Flags(&[]),
        Some(&single),
        &options,
        &Env::sealed(&[]),
    );
    assert_eq!(result.unwrap_err().to_string(), "name should not be empty");
}

#[test]
fn a_single_proxy_or_visitor_comes_from_flags() {
    let options = LoadOptions::default();
    let common = [Flag::new("--server-addr", "serverAddr", "127.0.0.1")];
    let proxy = Single::Proxy(vec![
        Flag::new("", "type", "stcp"),
        Flag::new("--proxy-name", "name", "p"),
        Flag::new("--sk", "secretKey", "k"),
        Flag::new("--allow-users", "allowUsers", "a,b"),
        Flag::new("--metadatas", "metadatas", "x=1,y=2"),
        Flag::new("--ue", "transport.useEncryption", "true"),
    ]);
    let env = Env::sealed(&[]);
    let config = load::client(&Input::Flags(&common), Some(&proxy), &options, &env)
        .unwrap()
        .config;
    assert_eq!(config.server_addr, "127.0.0.1");
    let [proxy] = config.proxies.as_slice() else {
        panic!("one proxy");
    };
    assert_eq!(
        proxy.kind,
        ProxyKind::Stcp {
            secret_key: "k".into(),
            allow_users: vec!["a".to_owned(), "b".to_owned()],
        }
    );
    assert_eq!(proxy.metadatas["y"], "2");
    assert!(proxy.transport.use_encryption);

    let visitor = Single::Visitor(vec![
        Flag::new("", "type", "stcp"),
        Flag::new("--visitor-name", "name", "v"),
        Flag::new("--server-name", "serverName", "p"),
        Flag::new("--bind-port", "bindPort", "-1"),
    ]);
    let config = load::client(&Input::Flags(&common), Some(&visitor), &options, &env)
        .unwrap()
        .config;
    assert_eq!(config.visitors[0].bind_port, -1);
}
