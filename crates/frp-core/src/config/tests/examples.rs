//! The files in `configs/` are loaded, so that they stay true.

use super::*;

fn file(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../configs")
        .join(name)
}

fn options() -> LoadOptions {
    LoadOptions {
        env: false,
        ..LoadOptions::default()
    }
}

#[test]
fn every_example_loads() {
    let mut n_files = 0;
    for entry in std::fs::read_dir(file(".")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        // A proxy in the environment of whoever runs the tests would be worth a warning.
        let (input, env) = (Input::File(&path), Env::sealed(&[]));
        let result = if name.starts_with("frps") {
            load::server(&input, &options(), &env).map(|loaded| loaded.warnings)
        } else if name.starts_with("frpc") {
            load::client(&input, None, &options(), &env).map(|loaded| loaded.warnings)
        } else {
            continue;
        };
        assert_eq!(result.unwrap(), Vec::<String>::new(), "{name}");
        n_files += 1;
    }
    assert!(n_files >= 6);
}

#[test]
fn the_clients_examples_say_the_same_in_all_formats() {
    let toml = load_client(&file("frpc.toml"), &options()).unwrap().config;
    for name in ["frpc.yaml", "frpc.json"] {
        assert_eq!(
            load_client(&file(name), &options()).unwrap().config,
            toml,
            "{name}"
        );
    }
}

#[test]
fn the_examples_for_bad_links_say_only_what_is_needed_and_what_is_default() {
    let path = file("frpc-auto.toml");
    let input = Input::File(&path);
    let config = load::client(&input, None, &options(), &Env::sealed(&[]))
        .unwrap()
        .config;
    let defaults = ClientTransport {
        protocol: Protocol::Auto,
        ..ClientTransport::default()
    };
    assert_eq!(config.transport, defaults);
    let config = load_server(&file("frps-auto.toml"), &options())
        .unwrap()
        .config;
    let defaults = ServerTransport {
        auto: ServerAuto { enable: true },
        ..ServerTransport::default()
    };
    assert_eq!(config.transport, defaults);
}

/// Every key of the schema stands in the full-length examples, given or commented out, except those
/// of features that come later and the keys that stand under several tables.
#[test]
fn the_examples_mention_every_key_that_is_supported() {
    for (name, keys) in [
        ("frps.toml", keys_of(load::table::<raw::RawServer>())),
        ("frpc.toml", keys_of(load::table::<raw::RawClient>())),
    ] {
        let text = std::fs::read_to_string(file(name)).unwrap();
        for key in keys.iter().filter(|key| !LATER.contains(key)) {
            assert!(text.contains(key), "{name} does not mention {key}");
        }
    }
}

/// The keys of the top, and of the tables that stand there.
fn keys_of(table: &'static shape::Table) -> Vec<&'static str> {
    let mut keys = Vec::new();
    for field in table.fields {
        keys.push(field.key);
        let inner = match (field.shape)() {
            shape::Shape::Table(table) => Some(table),
            shape::Shape::List(item) => match item() {
                shape::Shape::Table(table) => Some(table),
                _ => None,
            },
            _ => None,
        };
        if let Some(inner) = inner.filter(|_| !LATER.contains(&field.key)) {
            keys.extend(inner.fields.iter().map(|field| field.key));
        }
    }
    keys
}

/// Keys of features that are refused when used, or that have no effect yet.
const LATER: &[&str] = &[
    "version",
    "oidc",
    "vhostHTTPPort",
    "vhostHTTPTimeout",
    "vhostHTTPSPort",
    "tcpmuxHTTPConnectPort",
    "tcpmuxPassthrough",
    "subDomainHost",
    "custom404Page",
    "sshTunnelGateway",
    "natholeAnalysisDataReserveHours",
    "natHoleStunServer",
    "dnsServer",
    "httpPlugins",
    "assetsDir",
    "pprofEnable",
    "virtualNet",
    "featureGates",
    "store",
    "loadBalancer",
    "healthCheck",
    "plugin",
    "customDomains",
    "subdomain",
    "locations",
    "httpUser",
    "httpPassword",
    "hostHeaderRewrite",
    "requestHeaders",
    "responseHeaders",
    "routeByHTTPUser",
    "multiplexer",
    "natTraversal",
    "protocol",
    "keepTunnelOpen",
    "maxRetriesAnHour",
    "minRetryInterval",
    "fallbackTo",
    "fallbackTimeoutMs",
];
