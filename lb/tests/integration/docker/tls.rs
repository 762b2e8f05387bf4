//! An engine over TCP and TLS, told by the variables that the `docker` command goes by.

use std::{fs, path::Path};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

use super::engine::Engine;
use crate::harness::{Balancer, config_file, docker::Lab, http, ringmaster, until};

/// Makes `ca.pem`, and `server-….pem` and `client/….pem`, which it signs, in `folder`.
fn certify(folder: &Path) {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let signed = |name: &str, usage: ExtendedKeyUsagePurpose| {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &ca).unwrap().pem(), key.serialize_pem())
    };
    let client = folder.join("client");
    fs::create_dir(&client).unwrap();
    let (cert, key) = signed("127.0.0.1", ExtendedKeyUsagePurpose::ServerAuth);
    fs::write(folder.join("server-cert.pem"), cert).unwrap();
    fs::write(folder.join("server-key.pem"), key).unwrap();
    let (cert, key) = signed("ringmaster", ExtendedKeyUsagePurpose::ClientAuth);
    fs::write(client.join("cert.pem"), cert).unwrap();
    fs::write(client.join("key.pem"), key).unwrap();
    fs::write(client.join("ca.pem"), ca.pem()).unwrap();
}

/// An engine that speaks TLS on a free port, its certificates in `client` in its folder, and `DOCKER_HOST`.
async fn engine(lab: &Lab) -> (Engine, String) {
    let folder = tempfile::tempdir().unwrap();
    certify(folder.path());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let more = [
        "--tlsverify".to_owned(),
        format!("--tlscacert={}", path("client/ca.pem")),
        format!("--tlscert={}", path("server-cert.pem")),
        format!("--tlskey={}", path("server-key.pem")),
        "--host=tcp://127.0.0.1:0".to_owned(),
    ];
    let engine = Engine::start(folder, &more).await;
    engine.copy_image(lab);
    let listening = async || {
        let log = engine.log();
        let (_, rest) = log.split_once("API listen on 127.0.0.1:")?;
        rest.split(|it: char| !it.is_ascii_digit()).next()?.parse::<u16>().ok()
    };
    let port = until("it says where it listens", listening).await;
    let port = port.unwrap_or_else(|| panic!("{}", engine.log()));
    (engine, format!("tcp://127.0.0.1:{port}"))
}

/// What the doctor says of the engine, with these variables.
async fn doctor(config: &str, environment: &[(&str, &str)]) -> String {
    let config = config_file(&format!("admin: {{ listen: 127.0.0.1:0 }}\n{config}"));
    let output = ringmaster()
        .args(["doctor", "-c"])
        .arg(config.path())
        .envs(environment.iter().copied())
        .output()
        .await
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find(|it| it.contains("pool default: ")).unwrap_or(&text);
    line.to_owned()
}

#[tokio::test]
async fn replicas_run_on_an_engine_behind_tls() {
    let Some(lab) = Lab::open() else { return };
    let (engine, host) = engine(&lab).await;
    let names = lab.names(2);
    let config = lab.config(&format!("names: {names:?}, replicas: 2"), &lab.image());
    let certificates = engine.path("client");
    let environment = [
        ("DOCKER_HOST", Path::new(&host)),
        ("DOCKER_TLS_VERIFY", Path::new("1")),
        ("DOCKER_CERT_PATH", Path::new(&certificates)),
    ];
    let balancer = Balancer::start_in(&environment, &config).await;
    assert_eq!(engine.containers(), names, "on this engine and no other");
    assert_eq!(lab.containers(), [""; 0]);
    assert_eq!(balancer.get("/home").await.status, 200);
    // Its end is heard over the same way.
    engine.docker(&["kill", &names[0]]).unwrap();
    balancer.until_serving(&names[0], 1).await;
    let restart = format!("/api/v1/pools/default/replicas/{}/restart", names[1]);
    assert_eq!(http::send(balancer.admin, "POST", &restart, &[], "").await.status, 200);
    balancer.stop().await;
    assert_eq!(engine.containers(), [""; 0]);
}

#[tokio::test]
async fn what_keeps_tls_from_working_is_told_in_a_line() {
    let Some(lab) = Lab::open() else { return };
    let (engine, host) = engine(&lab).await;
    let config = lab.config("replicas: 1", &lab.image());
    let certificates = engine.path("client");
    let other = tempfile::tempdir().unwrap();
    certify(other.path());
    let other = other.path().join("client").display().to_string();
    let bare = tempfile::tempdir().unwrap();
    let bare = bare.path().display().to_string();
    let stranger = tempfile::tempdir().unwrap();
    let stranger = stranger.path().display().to_string();
    for name in ["ca.pem", "cert.pem", "key.pem"] {
        let from = if name == "ca.pem" { &certificates } else { &other };
        fs::copy(format!("{from}/{name}"), format!("{stranger}/{name}")).unwrap();
    }
    fs::copy(format!("{certificates}/ca.pem"), format!("{bare}/ca.pem")).unwrap();
    let nobody = "tcp://127.0.0.1:1";
    let tls = ("DOCKER_TLS_VERIFY", "1");
    for (host, folder, expected) in [
        (&*host, &*certificates, format!("ok    pool default: the engine at {host} answers")),
        (
            &host,
            &other,
            format!("its certificate must come from {other}/ca.pem, and name that host"),
        ),
        (&host, &bare, format!("it may ask for a certificate, and {bare}/cert.pem does not exist")),
        (&host, &stranger, format!("it must speak TLS and know who issued {stranger}/cert.pem")),
        (
            &host,
            "/no/such",
            "/no/such/ca.pem holds no certificates: the engine at tcp://127.0.0.1:".to_owned(),
        ),
        (nobody, &certificates, format!("no engine answers at {nobody}; start Docker")),
    ] {
        let environment = [tls, ("DOCKER_HOST", host), ("DOCKER_CERT_PATH", folder)];
        let told = doctor(&config, &environment).await;
        assert!(told.contains(&expected), "{expected:?} is not what is told: {told}");
    }
    let told = doctor(&config, &[("DOCKER_HOST", &host)]).await;
    assert!(told.contains(&format!("the engine at {host} speaks TLS: set DOCKER_TLS_VERIFY=1")));
    drop(engine);
}
