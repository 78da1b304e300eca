//! How a service is reached and what we are known by there: TLS, proxies, credentials, regions.

use std::path::Path;
use std::time::Duration;

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient,
    StalledStreamProtectionConfig,
};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider as Tls, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, Connector};

use super::address::Address;
use super::provider::Provider;
use crate::remote::certificates::certificates;
use crate::remote::{Environment, RemoteError};

/// For name look-up, TCP and TLS together.
const CONNECT: Duration = Duration::from_secs(5);

/// The SDK's configuration, with all that it does by itself and we do elsewhere switched off.
pub(super) async fn configure(
    address: &Address,
    environment: &Environment,
) -> Result<aws_config::SdkConfig, RemoteError> {
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http_client(environment.ca_file())?)
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT).build())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if let Some(profile) = &address.profile {
        // Named in the URL, it goes before the environment, as with the AWS command line.
        let provider = ProfileFileCredentialsProvider::builder().profile_name(profile);
        loader = loader
            .profile_name(profile)
            .credentials_provider(provider.build());
    } else if let Some(credentials) = credentials(address.provider, environment) {
        loader = loader.credentials_provider(credentials);
    }
    if let Some(endpoint) = &address.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    let region = address.region.clone();
    let region = region.or_else(|| environment.get("AWS_REGION"));
    // Where none of these names one the AWS chain is asked, which may ask the network.
    if let Some(region) = region.or_else(|| address.provider.region().map(str::to_owned)) {
        loader = loader.region(Region::new(region));
    }
    Ok(loader.load().await)
}

/// Keys that the environment names. Without them the AWS chain is asked: profiles, SSO, web identity,
/// the machine's role.
fn credentials(provider: Provider, environment: &Environment) -> Option<Credentials> {
    let pair = |key: &str, secret: &str| Some((environment.get(key)?, environment.get(secret)?));
    if provider == Provider::Spaces
        && let Some((key, secret)) = pair("SPACES_ACCESS_KEY", "SPACES_SECRET_KEY")
    {
        return Some(Credentials::new(key, secret, None, None, "SPACES_…"));
    }
    let (key, secret) = pair("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")?;
    let token = environment.get("AWS_SESSION_TOKEN");
    Some(Credentials::new(key, secret, token, None, "environment"))
}

/// Connections over the proxies that the environment names (`HTTPS_PROXY`, `NO_PROXY`), to services
/// that the system's certificates vouch for, or those of a file.
fn http_client(ca_file: Option<&Path>) -> Result<SharedHttpClient, RemoteError> {
    let mut trusted = TrustStore::default();
    if let Some(file) = ca_file {
        trusted = trusted.with_pem_certificate(certificates(file)?);
    }
    let context = TlsContext::builder().with_trust_store(trusted).build();
    let context = context
        .map_err(|error| RemoteError::permanent(format!("TLS cannot be set up: {error}")))?;
    Ok(
        Builder::new().build_with_connector_fn(move |settings, components| {
            let mut builder = Connector::builder();
            builder.set_connector_settings(settings.cloned());
            builder.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
            builder
                .proxy_config(ProxyConfig::from_env())
                .tls_provider(Tls::Rustls(CryptoMode::AwsLc))
                .tls_context(context.clone())
                .build()
        }),
    )
}
