//! Proxies and visitors: frp's texts about them, each at the end of its line.

use super::*;

#[test]
fn the_proxies_checks_have_frps_texts() {
    let name_rule = "name part must consist of alphanumeric characters, '-', '_' or '.', and must \
                     start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  \
                     or '123-abc', regex used for validation is \
                     '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
    let annotation = format!("annotation key a b is invalid: {name_rule}");
    let large = format!("annotations.a = \"{}\"", "x".repeat(256 * 1024));
    for (text, expected) in [
        (
            "localPort = 65536",
            "localPort: localPort: port number 65536 must be in the range 0..65535",
        ),
        ("annotations.\"a b\" = \"x\"", annotation.as_str()),
        (
            large.as_str(),
            "annotations size 262145 is larger than limit 262144",
        ),
        (
            "transport.proxyProtocolVersion = \"v3\"",
            "not support proxy protocol version: v3",
        ),
        (
            "transport.bandwidthLimitMode = \"x\"",
            "bandwidth limit mode should be client or server",
        ),
        ("transport.bandwidthLimit = \"5GB\"", "unit not support"),
        (
            "transport.bandwidthLimit = \"xMB\"",
            "strconv.ParseFloat: parsing \"x\": invalid syntax",
        ),
        (
            "healthCheck.type = \"x\"",
            "not support health check type: x",
        ),
        (
            "healthCheck.type = \"http\"",
            "health check path should not be empty",
        ),
        (
            "plugin = { type = \"http2https\" }",
            "plugin http2https: localAddr is required",
        ),
        (
            "plugin = { type = \"tls2raw\" }",
            "plugin tls2raw: localAddr is required",
        ),
        (
            "plugin = { type = \"static_file\" }",
            "plugin static_file: localPath is required",
        ),
        (
            "plugin = { type = \"unix_domain_socket\" }",
            "plugin unix_domain_socket: unixPath is required",
        ),
    ] {
        let errors = client_errors(&format!(
            "[[proxies]]\nname = \"p\"\ntype = \"tcp\"\n{text}\n"
        ));
        let expected = format!(": proxy p: {expected}");
        assert!(errors[0].ends_with(&expected), "{text}: {errors:?}");
        let later = errors
            .iter()
            .skip(1)
            .all(|error| error.contains("not supported yet"));
        assert!(later, "{errors:?}");
    }
    for (entry, expected) in [
        ("type = \"tcp\"", "proxy : name should not be empty"),
        (
            "name = \"p\"\ntype = \"http\"",
            "proxy p: subdomain and custom domains should not be both empty",
        ),
        (
            "name = \"p\"\ntype = \"tcpmux\"\nsubdomain = \"s\"\nmultiplexer = \"x\"",
            "proxy p: not support multiplexer: x",
        ),
        (
            "name = \"p\"\ntype = \"tcpx\"",
            "decode proxy at index 0: unknown proxy type: tcpx",
        ),
        (
            "name = \"p\"",
            "decode proxy at index 0: unknown proxy type: ",
        ),
        (
            "name = \"p\"\ntype = \"tcp\"\nplugin = { type = \"zzz\" }",
            "decode proxy at index 0: unmarshal proxy plugin error: unknown plugin type: zzz",
        ),
        (
            "name = \"p\"\ntype = \"tcp\"\nplugin = {}",
            "decode proxy at index 0: unmarshal proxy plugin error: plugin type is empty",
        ),
        (
            "name = \"p\"\ntype = \"tcp\"\nplugin = { type = \"socks5\", foo = 1 }",
            "decode proxy at index 0: unmarshal proxy plugin error: unmarshal \
             ClientPluginOptions error: json: unknown field \"foo\"",
        ),
    ] {
        let errors = client_errors(&format!("[[proxies]]\n{entry}\n"));
        let found = errors
            .iter()
            .any(|error| error.ends_with(&format!(": {expected}")));
        assert!(found, "{entry}: {errors:?}");
    }
}

#[test]
fn all_problems_of_a_proxy_come_at_once() {
    let text = "[[proxies]]\ntype = \"tcp\"\nlocalPort = -1\n\
                annotations = { \"-a\" = \"\", \"/x\" = \"\" }";
    assert_eq!(client_errors(text).len(), 4);
}

#[test]
fn the_visitors_checks_have_frps_texts() {
    for (entry, expected) in [
        (
            "serverName = \"s\"\nbindPort = 1\ntype = \"stcp\"",
            "visitor : name is required",
        ),
        (
            "name = \"v\"\nbindPort = 1\ntype = \"stcp\"",
            "visitor v: server name is required",
        ),
        (
            "name = \"v\"\nserverName = \"s\"\ntype = \"stcp\"",
            "visitor v: bind port is required",
        ),
        (
            "name = \"v\"\nserverName = \"s\"\ntype = \"stcp\"\nbindPort = 65536",
            "visitor v: bindPort: port number 65536 must be in the range 0..65535",
        ),
        (
            "name = \"v\"\nserverName = \"s\"\nbindPort = 1\ntype = \"xtcp\"\nprotocol = \"x\"",
            "visitor v: protocol should be kcp or quic",
        ),
        (
            "name = \"v\"\ntype = \"tcp\"",
            "decode visitor at index 0: unknown visitor type: tcp",
        ),
        (
            "name = \"v\"\ntype = \"stcp\"\nplugin = { type = \"x\" }",
            "decode visitor at index 0: unmarshal visitor plugin error: unknown visitor plugin \
             type: x",
        ),
        (
            "name = \"v\"\ntype = \"stcp\"\nplugin = {}",
            "decode visitor at index 0: unmarshal visitor plugin error: visitor plugin type is \
             empty",
        ),
    ] {
        let errors = client_errors(&format!("[[visitors]]\n{entry}\n"));
        let found = errors
            .iter()
            .any(|error| error.ends_with(&format!(": {expected}")));
        assert!(found, "{entry}: {errors:?}");
    }
}

#[test]
fn bandwidths_are_read_as_in_frp() {
    for (text, expected) in [
        ("1MB", Some(1024 * 1024)),
        (" 10KB ", Some(10 * 1024)),
        ("1.5KB", Some(1536)),
        ("", None),
        ("0KB", None),
        ("-1KB", None),
    ] {
        let limit = Bandwidth::parse(text).unwrap();
        assert_eq!(
            limit.map(|limit| limit.bytes_per_second),
            expected,
            "{text}"
        );
    }
    for bad in ["1", "1kb", "MB", "xKB", "infMB", "nanKB", "1GB"] {
        assert!(Bandwidth::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn every_variant_names_keys_that_exist_and_every_key_has_a_variant() {
    use std::collections::BTreeSet;
    for table in [
        load::table::<raw_proxy::RawProxy>(),
        load::table::<raw_proxy::RawVisitor>(),
        load::table::<raw_proxy::RawPlugin>(),
        load::table::<raw_proxy::RawVisitorPlugin>(),
    ] {
        let variants = table.variants.unwrap();
        let keys: BTreeSet<_> = table.fields.iter().map(|field| field.key).collect();
        let extra = variants.types.iter().flat_map(|variant| variant.keys);
        let named: BTreeSet<_> = variants.base.iter().chain(extra).copied().collect();
        assert_eq!(keys, named, "{}", variants.noun);
    }
}
