//! What a balancer may do to its machine, by itself and under systemd.

use std::{collections::BTreeSet, fs};

use crate::harness::{Balancer, config_file, ringmaster};

const UNIT: &str = include_str!("../../../conf/systemd/ringmaster.service");

/// Section, key and value of each setting.
fn settings() -> Vec<(&'static str, &'static str, &'static str)> {
    let (mut section, mut settings) = ("", Vec::new());
    for line in UNIT.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
        } else {
            let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{line:?}"));
            settings.push((section, key, value));
        }
    }
    settings
}

/// The arguments of the program that `key` starts, with another configuration.
fn arguments(key: &str, config: &str) -> Vec<String> {
    let settings = settings();
    let commands: Vec<_> = settings.iter().filter(|it| (it.0, it.1) == ("Service", key)).collect();
    let [(_, _, command)] = commands[..] else { panic!("{key}: {commands:?}") };
    let (program, arguments) = command.split_once(' ').unwrap();
    assert_eq!(program, "/usr/local/bin/ringmaster");
    let arguments = arguments.replace("/etc/ringmaster/ringmaster.yaml", config);
    arguments.split(' ').map(str::to_owned).collect()
}

#[tokio::test]
async fn the_unit_s_commands_are_ones_that_we_know() {
    let yaml = "
        listen: 127.0.0.1:0
        admin: { listen: 127.0.0.1:0 }
        pools: { default: { replicas: 1 } }
    ";
    let file = config_file(yaml);
    let path = file.path().to_str().unwrap().to_owned();
    let check = ringmaster().args(arguments("ExecStartPre", &path)).output().await.unwrap();
    assert!(check.status.success(), "{check:?}");
    let mut command = ringmaster();
    command.args(arguments("ExecStart", &path));
    let balancer = Balancer::launch(command, Some(file)).await;
    balancer.until_printed("ready in").await;

    let reload = async || {
        let mut command = ringmaster();
        command.args(arguments("ExecReload", &path));
        command.env("RINGMASTER_ADMIN", format!("http://{}", balancer.admin));
        command.output().await.unwrap()
    };
    let good = reload().await;
    assert!(good.status.success(), "{good:?}");
    balancer.rewrite_config("threads: many");
    let bad = reload().await;
    assert!(!bad.status.success(), "a bad configuration must fail the reload");
    assert!(String::from_utf8(bad.stderr).unwrap().contains("threads: \"many\""));
    balancer.stop().await;
}

#[tokio::test]
async fn make_installs_the_binary_and_the_unit() {
    let folder = tempfile::tempdir().unwrap();
    let destination = folder.path().display();
    let make = async |binary: &str| {
        let output = tokio::process::Command::new("make")
            .args(["-s", "install", "PREFIX=/opt/ringmaster"])
            .arg(format!("DESTDIR={destination}"))
            .arg(format!("BINARY={binary}"))
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .output();
        output.await.unwrap()
    };
    let missing = make("/no/such/binary").await;
    let text = String::from_utf8(missing.stderr).unwrap();
    assert!(text.contains("run `make build` first"), "{text}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is installed");

    let installed = make(env!("CARGO_BIN_EXE_ringmaster")).await;
    assert!(installed.status.success(), "{installed:?}");
    let binary = folder.path().join("opt/ringmaster/bin/ringmaster");
    let version = tokio::process::Command::new(&binary).arg("--version").output().await.unwrap();
    assert!(version.status.success(), "{version:?}");
    let unit = folder.path().join("opt/ringmaster/lib/systemd/system/ringmaster.service");
    let unit = fs::read_to_string(unit).unwrap();
    for key in ["ExecStartPre", "ExecStart", "ExecReload"] {
        assert!(unit.contains(&format!("\n{key}=/opt/ringmaster/bin/ringmaster ")), "{unit}");
    }
    assert!(folder.path().join("opt/ringmaster/share/doc/ringmaster/ringmaster.yaml").exists());
}

#[test]
fn the_unit_is_a_sandbox() {
    let settings = settings();
    let sections: BTreeSet<_> = settings.iter().map(|(section, ..)| *section).collect();
    assert_eq!(sections, BTreeSet::from(["Install", "Service", "Unit"]));
    for (key, value) in [
        // So that systemd follows an upgrade to the new process.
        ("Type", "notify"),
        ("NotifyAccess", "main"),
        ("User", "ringmaster"),
        ("NoNewPrivileges", "yes"),
        ("CapabilityBoundingSet", ""),
        ("ProtectSystem", "strict"),
        ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
        ("SystemCallFilter", "@system-service"),
        ("MemoryDenyWriteExecute", "yes"),
        ("RuntimeDirectory", "ringmaster"),
        ("RuntimeDirectoryMode", "0700"),
        ("LimitNOFILE", "65536"),
    ] {
        assert!(settings.contains(&("Service", key, value)), "{key}={value} is missing");
    }
}

#[tokio::test]
async fn nobody_gains_privileges_and_root_is_warned() {
    let balancer = Balancer::start("pools: { default: { replicas: 2 } }").await;
    let replicas = balancer.replicas().await;
    let pids = replicas.iter().map(|replica| replica["pid"].as_u64().unwrap());
    for pid in pids.chain([balancer.pid().into()]) {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(status.contains("\nNoNewPrivs:\t1\n"), "{status}");
    }
    if nix::unistd::geteuid().is_root() {
        balancer.until_printed("Running as root").await;
    }
    balancer.stop().await;
}
