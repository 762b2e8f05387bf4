//! What goes wrong between us and the engine, in one line with the cause and what to do.

use std::{collections::HashMap, error::Error, io, time::Duration};

use bollard::{
    errors::Error as DockerError,
    models::{ContainerSummary, Service},
};

use super::{address::Address, labels};
use crate::engine::EngineError;

/// Of a message of the engine, so that none fills a log.
const MESSAGE_CHARS_MAX: usize = 400;

/// Why a call failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// The engine answered, with an error.
    Answered { status: u16, message: String },
    /// It did not answer.
    Unreachable(String),
    /// It said something that is not understood.
    Other(String),
}

impl Fault {
    /// From an error in a call to the engine at `address`.
    pub(super) fn new(address: &Address, error: DockerError) -> Self {
        let host = &address.host;
        match error {
            DockerError::CertPathError { path } | DockerError::CertParseError { path } => {
                Self::Other(format!(
                    "{} holds no certificates: the engine at {host} is spoken to over TLS; \
                     set DOCKER_CERT_PATH to the folder with ca.pem, cert.pem and key.pem",
                    path.display()
                ))
            }
            // What Go's servers say to whoever does not.
            DockerError::DockerResponseServerError { status_code: 400, message }
                if message.contains("to an HTTPS server") =>
            {
                Self::Other(format!(
                    "the engine at {host} speaks TLS: set DOCKER_TLS_VERIFY=1, and DOCKER_CERT_PATH to the \
                     folder with ca.pem, cert.pem and key.pem"
                ))
            }
            DockerError::DockerResponseServerError { status_code, message } => {
                Self::Answered { status: status_code, message: one_line(&message) }
            }
            DockerError::SocketNotFoundError(path) => Self::Unreachable(format!(
                "no engine at {host}: {path} does not exist; start Docker, or set docker.socket or DOCKER_HOST"
            )),
            DockerError::UnsupportedURISchemeError { uri } => Self::Other(format!(
                "DOCKER_HOST is {uri:?}: it must begin with unix://, tcp://, http:// or https://"
            )),
            DockerError::RequestTimeoutError => {
                Self::Unreachable(format!("the engine at {host} does not answer; does it hang?"))
            }
            error => match io_error(&error).map(|it| (it.kind(), it)) {
                Some((io::ErrorKind::PermissionDenied, _)) => Self::Unreachable(format!(
                    "no permission to speak to the engine at {host}: \
                     run as a member of the group that owns the socket, mostly `docker`"
                )),
                Some((io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound, _)) => {
                    Self::Unreachable(format!(
                        "no engine answers at {host}; start Docker, or set docker.socket or DOCKER_HOST"
                    ))
                }
                Some((_, error)) => Self::Unreachable(one_line(&format!(
                    "lost the engine at {host}: {error}{}",
                    advice(address, &error.to_string())
                ))),
                None if is_transport(&error) => Self::Unreachable(one_line(&format!(
                    "lost the engine at {host}: {error}{}",
                    advice(address, "")
                ))),
                None => Self::Other(one_line(&format!("the engine at {host}: {error}"))),
            },
        }
    }

    /// No answer within `limit`.
    pub(super) fn silent(address: &Address, limit: Duration) -> Self {
        let (host, seconds) = (&address.host, limit.as_secs());
        Self::Unreachable(format!(
            "the engine at {host} has not answered within {seconds} s; does it hang?"
        ))
    }
}

impl From<Fault> for EngineError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Answered { status: 400..500, message } => Self::Refused(message),
            Fault::Answered { message, .. } | Fault::Other(message) => Self::Failed(message),
            Fault::Unreachable(message) => Self::Unreachable(message),
        }
    }
}

/// What is not there is an answer, too.
pub(super) fn or_absent<T>(answer: Result<T, Fault>) -> Result<Option<T>, Fault> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Fault::Answered { status: 404, .. }) => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// The image is missing.
pub(super) fn no_image(image: &str) -> EngineError {
    EngineError::Refused(format!(
        "image {image} is not on the engine: `docker pull {image}`, build it, or correct docker.image"
    ))
}

/// The name is held by a container that we may not touch, or one of the cluster that has another name by its labels.
pub(super) fn foreign(cluster: &str, name: &str, found: &ContainerSummary) -> EngineError {
    match labels::of_listed(cluster, found) {
        Some(ours) => EngineError::Refused(format!(
            "the name {name} is held by the container of replica {}, which was renamed: \
             `docker rename {} {}`, or use another name",
            ours.name,
            short(&ours.id),
            ours.name
        )),
        None => {
            let (id, image) = (found.id.as_deref(), found.image.as_deref());
            held(name, "container", found.labels.as_ref(), id, image)
        }
    }
}

/// The name is held by a service that we may not touch.
pub(super) fn foreign_service(name: &str, found: &Service) -> EngineError {
    let spec = found.spec.as_ref();
    let template = spec.and_then(|it| it.task_template.as_ref()?.container_spec.as_ref());
    let image = template.and_then(|it| it.image.as_deref());
    held(name, "service", spec.and_then(|it| it.labels.as_ref()), found.id.as_deref(), image)
}

fn held(
    name: &str,
    what: &str,
    labels: Option<&HashMap<String, String>>,
    id: Option<&str>,
    image: Option<&str>,
) -> EngineError {
    let owner = match labels.and_then(labels::cluster) {
        Some(cluster) => format!("cluster {cluster}"),
        None => "somebody else".to_owned(),
    };
    EngineError::Refused(format!(
        "the name {name} is held by a {what} of {owner} ({}, image {}): \
         remove or rename that one, or use another name",
        short(id.unwrap_or_default()),
        image.unwrap_or("unknown")
    ))
}

/// As much of an id as people need.
fn short(id: &str) -> String {
    id.chars().take(12).collect()
}

/// What may help with a connection over TLS that broke off.
fn advice(address: &Address, error: &str) -> String {
    let Some(folder) = &address.certificates else { return String::new() };
    let ours = folder.join("cert.pem");
    if error.contains("invalid peer certificate") {
        let ca = folder.join("ca.pem");
        format!("; its certificate must come from {}, and name that host", ca.display())
    } else if !ours.exists() {
        format!("; it may ask for a certificate, and {} does not exist", ours.display())
    } else {
        format!("; it must speak TLS and know who issued {}", ours.display())
    }
}

/// The first error below `error` that is one of input and output.
fn io_error(error: &DockerError) -> Option<&io::Error> {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error);
        }
        cause = error.source();
    }
    None
}

fn is_transport(error: &DockerError) -> bool {
    matches!(error, DockerError::HyperLegacyError { .. } | DockerError::HyperResponseError { .. })
}

fn one_line(message: &str) -> String {
    let words: Vec<_> = message.split_whitespace().collect();
    words.join(" ").chars().take(MESSAGE_CHARS_MAX).collect()
}
