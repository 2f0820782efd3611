//! Where errors are: file, line, column and key, all of them at once.

use super::*;

#[test]
fn all_errors_come_at_once_in_the_order_of_the_file() {
    let text = r#"severAddr = "x"
serverPort = "y"

[transport]
  protcol = "tcp"
  poolCount = 1.5

[[proxies]]
name = "a"
type = "tcp"
localPort = 70000
remote_port = 1

[[proxies]]
name = "a"
type = "tpc"
"#;
    assert_eq!(
        client_errors(text),
        [
            concat!(
                r#"frpc.toml:1:1: severAddr: did you mean "serverAddr"?: json: unknown "#,
                r#"field "severAddr""#,
            ),
            r#"frpc.toml:2:14: serverPort: field "serverPort": cannot unmarshal string into int"#,
            concat!(
                r#"frpc.toml:5:3: transport.protcol: did you mean "protocol"?: json: "#,
                r#"unknown field "protcol""#,
            ),
            concat!(
                r#"frpc.toml:6:15: transport.poolCount: field "transport.poolCount": cannot "#,
                r#"unmarshal number 1.5 into int"#,
            ),
            concat!(
                r"frpc.toml:11:1: proxies[0].localPort: proxy a: localPort: localPort: ",
                r"port number 70000 must be in the range 0..65535",
            ),
            concat!(
                r#"frpc.toml:12:1: proxies[0].remote_port: did you mean "remotePort"?: "#,
                r#"decode proxy at index 0: unmarshal ProxyConfig error: json: unknown "#,
                r#"field "remote_port""#,
            ),
            concat!(
                r#"frpc.toml:16:8: proxies[1].type: did you mean "tcp"?: decode proxy at "#,
                r#"index 1: unknown proxy type: tpc"#,
            ),
        ]
    );
}

#[test]
fn places_are_right_in_yaml() {
    let text = "# é\nserverPort: x\nproxies:\n- name: é\n  type: tcp\n  foo: 1\n  \"ü\": {}\n";
    assert_eq!(
        lines(client_of_any_format(text)),
        [
            r#"frpc:2:13: serverPort: field "serverPort": cannot unmarshal string into int"#,
            concat!(
                r#"frpc:6:3: proxies[0].foo: decode proxy at index 0: unmarshal ProxyConfig "#,
                r#"error: json: unknown field "foo""#,
            ),
            concat!(
                r#"frpc:7:3: proxies[0].ü: decode proxy at index 0: unmarshal ProxyConfig "#,
                r#"error: json: unknown field "ü""#,
            ),
        ]
    );
}

#[test]
fn places_are_right_with_carriage_returns() {
    for text in ["user: a\r\n\r\nfoo: 1\r\n", "user = 'a'\r\n\r\nfoo = 1\r\n"] {
        assert_eq!(
            lines(client_of_any_format(text)),
            [r#"frpc:3:1: foo: json: unknown field "foo""#]
        );
    }
}

#[test]
fn places_are_right_in_json() {
    let text = "{\n  \"user\": \"é\", \"foo\": 1,\n  \"start\": [\"a\", 5]\n}";
    assert_eq!(
        lines(client_of_any_format(text)),
        [
            r#"frpc:2:16: foo: json: unknown field "foo""#,
            r#"frpc:3:18: start[1]: field "start[1]": cannot unmarshal number into string"#,
        ]
    );
}

#[test]
fn syntax_errors_have_places_too() {
    for (text, expected) in [
        ("user = \"a\"\nport = \n", "frpc:2:8: toml: "),
        (
            "user = \"a\"\nuser = \"b\"\n",
            "frpc:2:1: toml: key user is already defined",
        ),
        (
            "{\"a\": 1,\n \"b\" 2}",
            "frpc:2:6: json: invalid character '2' after object key",
        ),
        ("{\"a\": 1", "frpc:1:8: json: unexpected end of JSON input"),
        (
            "{\"a\": 1, \"a\": 2}",
            "frpc:1:10: json: key \"a\" is already defined",
        ),
        (
            "a: 1\na: 2\n",
            "frpc:2:1: yaml: key \"a\" already set in map",
        ),
        ("a: [1\nb: 2\n", "frpc:2:"),
        (
            "hello\n",
            "frpc:1:1: json: cannot unmarshal string into Go value of type ",
        ),
        (
            "a: \0\n",
            "frpc:1:4: yaml: control characters are not allowed",
        ),
    ] {
        let errors = lines(client_of_any_format(text));
        assert!(errors[0].starts_with(expected), "{text:?}: {errors:?}");
    }
}

#[test]
fn all_syntax_errors_of_toml_are_listed() {
    let errors = client_errors("a = \nuser = \"x\"\nb = = 1\n");
    let places: Vec<_> = errors
        .iter()
        .map(|error| error.split(": ").next().unwrap())
        .collect();
    assert_eq!(places, ["frpc.toml:1:5", "frpc.toml:3:5"], "{errors:?}");
}

#[test]
fn broken_toml_without_an_extension_is_not_taken_for_yaml() {
    let errors = lines(client_of_any_format(
        "# x\nserverPort = 70x\nuser = \"a\"\n",
    ));
    assert!(
        errors[0].starts_with("frpc:2:1") && errors[0].contains("toml: "),
        "{errors:?}"
    );
}

#[test]
fn bytes_that_are_no_text_are_refused_where_they_are() {
    let input = Input::Text(Path::new("f"), b"user = \"a\"\nx = \"\xff\"");
    let result = load::client(&input, None, &LoadOptions::default(), &Env::sealed(&[]));
    assert_eq!(
        result.unwrap_err().to_string(),
        "f:2:6: the file is not UTF-8"
    );
}

#[test]
fn what_a_template_made_points_back_into_the_file() {
    let text = "user = \"{{ .Envs.LONG }}\" # é\n\
                {{ range parseNumberRange \"1-2\" }}\n\
                [[proxies]]\n\
                name = \"p{{ . }}\"\n\
                type = \"tcp\"\n\
                foo{{ . }} = 1\n\
                remotePort = {{ $.Envs.LONG }}\n\
                {{ end }}\n";
    let env = [("LONG", "'a long value'")];
    let errors = lines(client_named("frpc.toml", text, &env, true));
    let tail = "json: cannot unmarshal string into Go struct field TCPProxyConfig.remotePort of \
                type int";
    let context = |idx| format!("decode proxy at index {idx}: unmarshal ProxyConfig error: ");
    assert_eq!(
        errors,
        [
            format!(
                "frpc.toml:6:1: proxies[0].foo1: {}json: unknown field \"foo1\"",
                context(0)
            ),
            format!(
                "frpc.toml:6:1: proxies[1].foo2: {}json: unknown field \"foo2\"",
                context(1)
            ),
            format!(
                "frpc.toml:7:14: proxies[0].remotePort: {}{tail}",
                context(0)
            ),
            format!(
                "frpc.toml:7:14: proxies[1].remotePort: {}{tail}",
                context(1)
            ),
        ]
    );
    let errors = client_errors("user = \"a\"\nx = {{ foo }}\n");
    assert_eq!(
        errors,
        ["frpc.toml:2:8: template: function \"foo\" not defined"]
    );
}

#[test]
fn keys_that_belong_elsewhere_are_found_there() {
    for (text, expected) in [
        ("token = \"x\"", "did you mean \"auth.token\"?"),
        ("server_addr = \"x\"", "did you mean \"serverAddr\"?"),
        ("log_level = \"info\"", "did you mean \"log.level\"?"),
        ("tcpMux = true", "did you mean \"transport.tcpMux\"?"),
        (
            "[transport]\ntrustedCaFile = \"x\"",
            "did you mean \"transport.tls.trustedCaFile\"?",
        ),
    ] {
        let errors = client_errors(text);
        assert!(errors[0].contains(expected), "{text}: {errors:?}");
    }
    let errors = client_errors("foo = 1");
    assert_eq!(errors, ["frpc.toml:1:1: foo: json: unknown field \"foo\""]);
}

#[test]
fn without_strictness_unknown_keys_do_not_matter() {
    let text = "foo = 1\n[transport]\nbar = 2\n[[proxies]]\nname = \"a\"\ntype = \"tcp\"\nbaz = 3";
    let config = client_named("frpc.toml", text, &[], false).unwrap().config;
    assert_eq!(config.proxies.len(), 1);
    let text = "serverPort = \"x\"";
    assert!(
        client_named("frpc.toml", text, &[], false).is_err(),
        "types always matter"
    );
}

#[test]
fn a_key_in_two_spellings_is_an_error() {
    assert_eq!(
        server_errors("bindPort = 1\nbindport = 2"),
        ["frps.toml:2:1: bindPort: key bindport is already defined"]
    );
}

#[test]
fn very_many_errors_are_cut() {
    let text: String = (0..1000).map(|idx| format!("zz{idx} = 1\n")).collect();
    let errors = client_errors(&text);
    assert_eq!(errors.len(), 101);
    assert_eq!(errors[100], "and 900 more errors");
}

#[test]
fn a_bad_entry_does_not_move_the_ones_after_it() {
    let text = "proxies = [5, { name = 'a', type = 'tcp', localPort = -1 }]";
    let errors = client_errors(text);
    assert_eq!(errors.len(), 2);
    assert!(
        errors[1].starts_with("frpc.toml:1:43: proxies[1].localPort: proxy a: "),
        "{errors:?}"
    );
}
