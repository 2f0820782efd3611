//! Checks of `auth`.

use std::path::PathBuf;

use url::Url;

use super::super::raw::{RawClientAuth, RawClientOidc, RawServerAuth, RawValueSource};
use super::super::{AuthConfig, AuthScopes, Secret, TokenSource};
use super::Context;
use super::common::or_default;

/// The one feature that must be allowed explicitly: running programs.
const TOKEN_SOURCE_EXEC: &str = "TokenSourceExec";

impl Context<'_> {
    pub(super) fn server_auth(&mut self, raw: &RawServerAuth) -> AuthConfig {
        self.auth_method(&raw.method);
        let additional_scopes = self.auth_scopes(&raw.additional_scopes);
        AuthConfig {
            token: Secret::new(raw.token.as_str()),
            token_source: self.token_source(&raw.token, raw.token_source.as_ref()),
            additional_scopes,
        }
    }

    pub(super) fn client_auth(&mut self, raw: &RawClientAuth) -> AuthConfig {
        self.auth_method(&raw.method);
        let additional_scopes = self.auth_scopes(&raw.additional_scopes);
        let token_source = self.token_source(&raw.token, raw.token_source.as_ref());
        self.oidc(&raw.oidc, raw.method == "oidc");
        AuthConfig {
            token: Secret::new(raw.token.as_str()),
            token_source,
            additional_scopes,
        }
    }

    fn auth_method(&mut self, method: &str) {
        if !matches!(or_default(method, "token").as_str(), "token" | "oidc") {
            let message = "invalid auth method, optional values are [token oidc]";
            self.error("auth.method", message);
        }
    }

    fn auth_scopes(&mut self, scopes: &[String]) -> AuthScopes {
        let mut checked = AuthScopes::default();
        for scope in scopes {
            match scope.as_str() {
                "HeartBeats" => checked.heart_beats = true,
                "NewWorkConns" => checked.new_work_conns = true,
                _ => {
                    let message = "invalid auth additional scopes, optional values are \
                                   [HeartBeats NewWorkConns]";
                    self.error("auth.additionalScopes", message);
                }
            }
        }
        checked
    }

    fn token_source(
        &mut self,
        token: &str,
        source: Option<&RawValueSource>,
    ) -> Option<TokenSource> {
        let source = source?;
        let key = "auth.tokenSource";
        if !token.is_empty() {
            self.error(key, "cannot specify both auth.token and auth.tokenSource");
        }
        self.value_source(key, source)
    }

    fn value_source(&mut self, key: &str, source: &RawValueSource) -> Option<TokenSource> {
        if source.kind == "exec" {
            self.unsafe_feature(&format!("{key}.type"));
        }
        match checked_source(source) {
            Ok(source) => Some(source),
            Err((sub_key, message)) => {
                self.error(
                    &format!("{key}{sub_key}"),
                    format!("invalid {key}: {message}"),
                );
                None
            }
        }
    }

    fn unsafe_feature(&mut self, key: &str) {
        let allowed = &self.options.allow_unsafe;
        if !allowed.iter().any(|feature| feature == TOKEN_SOURCE_EXEC) {
            let message = format!(
                "unsafe feature {TOKEN_SOURCE_EXEC:?} is not enabled. To enable it, ensure it is \
                 allowed in the configuration or command line flags"
            );
            self.error(key, message);
        }
    }

    /// frpc's `auth.oidc`. The method itself comes later, but what is wrong with it is said now.
    fn oidc(&mut self, oidc: &RawClientOidc, is_method: bool) {
        let Some(source) = &oidc.token_source else {
            if is_method {
                let problems = client_credentials(oidc);
                if !problems.is_empty() {
                    self.error("auth.oidc", problems.join("; "));
                }
            }
            return;
        };
        let has_others = !oidc.client_id.is_empty()
            || !oidc.client_secret.is_empty()
            || !oidc.audience.is_empty()
            || !oidc.scope.is_empty()
            || !oidc.token_endpoint_url.is_empty()
            || !oidc.additional_endpoint_params.is_empty()
            || !oidc.trusted_ca_file.is_empty()
            || oidc.insecure_skip_verify
            || !oidc.proxy_url.is_empty();
        if has_others {
            let message =
                "cannot specify both auth.oidc.tokenSource and any other field of auth.oidc";
            self.error("auth.oidc.tokenSource", message);
        }
        self.value_source("auth.oidc.tokenSource", source);
    }
}

/// A source, or the key below it that is wrong and why.
fn checked_source(source: &RawValueSource) -> Result<TokenSource, (&'static str, String)> {
    let wrong = |key, message: &str| Err((key, message.to_owned()));
    match source.kind.as_str() {
        "file" => match &source.file {
            None => wrong("", "file configuration is required when type is 'file'"),
            Some(file) if file.path.is_empty() => wrong(".file.path", "file path cannot be empty"),
            Some(file) => Ok(TokenSource::File {
                path: PathBuf::from(&file.path),
            }),
        },
        "exec" => {
            let Some(exec) = &source.exec else {
                return wrong("", "exec configuration is required when type is 'exec'");
            };
            if exec.command.is_empty() {
                return wrong(".exec.command", "exec command cannot be empty");
            }
            for variable in &exec.env {
                if variable.name.is_empty() {
                    return wrong(".exec.env", "exec env name cannot be empty");
                }
                if variable.name.contains('=') {
                    return wrong(".exec.env", "exec env name cannot contain '='");
                }
            }
            let env = exec.env.iter();
            let env = env.map(|variable| (variable.name.clone(), variable.value.as_str().into()));
            Ok(TokenSource::Exec {
                command: exec.command.clone(),
                args: exec.args.clone(),
                env: env.collect(),
            })
        }
        other => Err((
            ".type",
            format!(
                "unsupported value source type: {other} (only 'file' and 'exec' are supported)"
            ),
        )),
    }
}

/// What is wrong with an OIDC client.
fn client_credentials(oidc: &RawClientOidc) -> Vec<&'static str> {
    let mut problems = Vec::new();
    if oidc.client_id.is_empty() {
        problems.push("auth.oidc.clientID is required");
    }
    if oidc.token_endpoint_url.is_empty() {
        problems.push("auth.oidc.tokenEndpointURL is required");
    } else {
        match Url::parse(&oidc.token_endpoint_url) {
            Ok(url) if !url.has_host() => {
                problems.push("auth.oidc.tokenEndpointURL must be an absolute http or https URL");
            }
            Ok(url) if !matches!(url.scheme(), "http" | "https") => {
                problems.push("auth.oidc.tokenEndpointURL must use http or https");
            }
            Ok(_) => {}
            Err(_) => {
                problems.push("auth.oidc.tokenEndpointURL must be an absolute http or https URL");
            }
        }
    }
    if oidc.additional_endpoint_params.contains_key("scope") {
        problems.push(
            "auth.oidc.additionalEndpointParams.scope is not allowed; use auth.oidc.scope instead",
        );
    }
    if !oidc.audience.is_empty() && oidc.additional_endpoint_params.contains_key("audience") {
        problems.push(
            "cannot specify both auth.oidc.audience and \
             auth.oidc.additionalEndpointParams.audience",
        );
    }
    problems
}
