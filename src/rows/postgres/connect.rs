//! The connection: address, password, TLS, pool.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, Timeouts,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::Failure;
use crate::rows::Credentials;
use crate::rows::target::Query;

const CONNECT: Duration = Duration::from_secs(10);

/// One that writes and one that is being opened or probes.
const CONNECTIONS: usize = 2;

pub struct Server {
    pool: Pool,
    /// `postgres://host:port/database`.
    name: String,
    user: String,
}

impl Server {
    /// `address` is the URL without its parameters. Of them `sslmode` and `sslrootcert` are taken.
    pub fn open(
        address: &str,
        query: &mut Query,
        credentials: &Credentials,
    ) -> Result<Self, String> {
        let mut config = Config::from_str(address).map_err(|error| sentence(&error))?;
        if config.get_hosts().is_empty() {
            return Err("it names no host".into());
        }
        let Some(user) = config.get_user().map(str::to_owned) else {
            return Err("it names no user".into());
        };
        if config.get_password().is_none()
            && let Some(password) = &credentials.postgres_password
        {
            config.password(password);
        }
        config
            .connect_timeout(CONNECT)
            .keepalives_idle(Duration::from_secs(30))
            .tcp_user_timeout(Duration::from_secs(30))
            .application_name("outboxfs");
        let name = name(&config);
        let pool = pool(config, query)?;
        Ok(Self { pool, name, user })
    }

    pub fn describe(&self) -> String {
        self.name.clone()
    }

    pub fn user(&self) -> &str {
        &self.user
    }

    pub async fn connect(&self) -> Result<Object, Failure> {
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => Failure::Connect(error),
            _ => Failure::Unreachable(CONNECT),
        })
    }
}

fn name(config: &Config) -> String {
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        Some(Host::Unix(path)) => path.display().to_string(),
        None => String::new(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let database = config.get_dbname().or(config.get_user()).unwrap_or("");
    format!("postgres://{host}:{port}/{database}")
}

fn pool(mut config: Config, query: &mut Query) -> Result<Pool, String> {
    let recycling = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    let manager = if wants_tls(&config, query.take("sslmode"))? {
        config.ssl_mode(SslMode::Require);
        let tls = MakeRustlsConnect::new(tls_config(query.take("sslrootcert"))?);
        Manager::from_config(config, tls, recycling)
    } else {
        config.ssl_mode(SslMode::Disable);
        Manager::from_config(config, NoTls, recycling)
    };
    // Several addresses of a host are tried one after another, each for the connect timeout.
    let patience = CONNECT * 2;
    Pool::builder(manager)
        .max_size(CONNECTIONS)
        .runtime(Runtime::Tokio1)
        .timeouts(Timeouts {
            wait: Some(patience),
            create: Some(patience),
            recycle: Some(patience),
        })
        .build()
        .map_err(|error| error.to_string())
}

/// Unless told otherwise: verified TLS to other machines, none within this one.
fn wants_tls(config: &Config, mode: Option<String>) -> Result<bool, String> {
    match mode.as_deref() {
        Some("disable") => Ok(false),
        Some("require" | "verify-ca" | "verify-full") => Ok(true),
        None => Ok(!config.get_hosts().iter().all(is_local)),
        Some(other) => Err(format!(
            "sslmode={other} could send rows unprotected; write require, which also verifies the \
             certificate, or disable"
        )),
    }
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(host) => {
            let address = host.parse::<std::net::IpAddr>();
            host == "localhost" || address.is_ok_and(|address| address.is_loopback())
        }
    }
}

fn tls_config(root: Option<String>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    match root {
        Some(path) => {
            let unusable = |why: String| format!("sslrootcert={path} cannot be used: {why}");
            let certificates = CertificateDer::pem_file_iter(Path::new(&path))
                .map_err(|error| unusable(error.to_string()))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
                roots
                    .add(certificate)
                    .map_err(|error| unusable(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(unusable("it holds no certificate".into()));
            }
        }
        // One that this program cannot read only makes fewer servers trusted.
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn sentence(error: &tokio_postgres::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => source.to_string(),
        None => error.to_string(),
    }
}
