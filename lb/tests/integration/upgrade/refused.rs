//! Upgrades that come to nothing: the balancer goes on as it was, and says why.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::{facts, successor::Service};
use crate::{
    cli::run,
    harness::{backend::Backend, http, is_alive, until},
};

/// A program that is a shell script.
fn script(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    // Written under another name, as a file that is open for writing cannot be started.
    let draft = folder.join("draft");
    std::fs::write(&draft, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(&draft, &path).unwrap();
    path
}

/// A command that waits for it longer than any test.
fn hanging_upgrade(program: &Path) -> String {
    format!("upgrade --timeout 600 --binary {}", program.display())
}

/// The new process's pid, which the script above writes down.
async fn pid_in(path: &Path) -> u32 {
    let pid = async || std::fs::read_to_string(path).ok()?.trim().parse().ok();
    until("it is started", pid).await.unwrap()
}

#[tokio::test]
async fn a_program_that_fails_leaves_the_old_one_serving() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start("").await;
    let before = facts(service.admin).await;
    let pid = service.pid();
    let text = script(folder.path(), "text", "");
    std::fs::set_permissions(&text, std::fs::Permissions::from_mode(0o644)).unwrap();
    let hangs = script(folder.path(), "hangs", "echo waiting for nobody; exec sleep 600");
    let babbles = script(folder.path(), "babbles", "yes garbage & yes garbage >&0; wait");
    for (program, timeout_s, status, code, reasons) in [
        (
            script(folder.path(), "ends", "echo it is broken >&2; exit 7"),
            30,
            502,
            "upgrade_failed",
            ["ended before it had taken over (exit status: 7); its last words: it is broken", ""],
        ),
        (
            script(folder.path(), "says-garbage", "echo garbage; echo '{\"hello\":1}' >&0"),
            30,
            502,
            "upgrade_failed",
            ["the new process cannot take over: ", "; its last words: garbage"],
        ),
        (
            script(folder.path(), "silent", "exit 0"),
            30,
            502,
            "upgrade_failed",
            ["ended before it had taken over (exit status: 0); it printed nothing", ""],
        ),
        (
            hangs,
            1,
            502,
            "upgrade_failed",
            ["did not take over within 1 s; its last words: waiting for nobody", ""],
        ),
        (babbles, 5, 502, "upgrade_failed", ["cannot take over", "its last words: garbage"]),
        (text, 30, 400, "bad_request", ["not an executable file", ""]),
        (folder.path().join("none"), 30, 400, "bad_request", ["No such file", "name a program"]),
        ("relative".into(), 30, 400, "bad_request", ["not an absolute path", ""]),
    ] {
        let answer = service.ask(program.to_str().unwrap(), timeout_s).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        let error = answer.json()["error"].take();
        assert_eq!(error["code"], code, "{error}");
        let message = error["message"].as_str().unwrap();
        for reason in reasons {
            assert!(message.contains(reason), "{reason:?} is not in {message:?}");
        }
        assert_eq!(facts(service.admin).await, before);
        assert_eq!(http::get(service.proxy, "/home").await.status, 200);
    }
    assert_eq!(service.pid(), pid);
    // It works as before in every respect.
    let answer = http::send(service.proxy, "POST", "/add", &[], "").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    service.kill(before["Server1"][3].as_u64().unwrap());
    let mended = async || (facts(service.admin).await["Server1"][1] == 2).then_some(());
    assert!(until("a death is mended", mended).await.is_some());
    service.stop().await;
}

#[tokio::test]
async fn a_new_process_that_refuses_its_configuration_says_why() {
    let mut service = Service::start("").await;
    let before = facts(service.admin).await;
    for (yaml, reasons) in [
        ("explain_header: perhaps", ["(exit status: 2)", "not true or false"]),
        ("admin: { listen: 127.0.0.1:0, tokens_file: /none }", ["(exit status: 1)", "/none"]),
        ("cluster: other", ["cluster: it is \"default\" there", "renamed by a new start"]),
        (
            "pools: { other: { replicas: 1 } }",
            ["pools.default: it has replicas of provider process", "reload first"],
        ),
        (
            "pools: { default: { provider: fixed, fixed: { S1: '127.0.0.1:9' } } }",
            ["pools.default.provider: fixed follows process", "another name"],
        ),
    ] {
        service.rewrite_config(yaml);
        let fault = run(service.admin, "upgrade").await.fault(1);
        for reason in reasons {
            assert!(fault.contains(reason), "{reason:?} is not in {fault:?}");
        }
        assert_eq!(facts(service.admin).await, before, "{yaml}");
    }
    service.rewrite_config("");
    service.upgrade("").await;
    assert_eq!(facts(service.admin).await, before);
    service.stop().await;
}

#[tokio::test]
async fn one_upgrade_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let noted = folder.path().join("pid");
    let hangs =
        script(folder.path(), "hangs", &format!("echo $$ > {}; exec sleep 600", noted.display()));
    let mut service = Service::start("").await;
    let first = tokio::spawn({
        let (admin, words) = (service.admin, hanging_upgrade(&hangs));
        async move { run(admin, &words).await }
    });
    let hanging = pid_in(&noted).await;
    let answer = service.ask("", 30).await;
    assert_eq!(answer.status, 409, "{}", answer.body);
    assert_eq!(answer.json()["error"]["message"], "an upgrade is under way already");
    // Replicas are kept as ever while the new process prepares itself.
    let answer = http::send(service.proxy, "POST", "/add", &[], "").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    service.kill(hanging.into());
    let fault = first.await.unwrap().fault(1);
    assert!(fault.contains("(signal: 9 (SIGKILL))"), "{fault}");
    service.upgrade("").await;
    service.stop().await;
}

#[tokio::test]
async fn what_drains_is_waited_for_but_not_for_ever() {
    let backend = Backend::start().await;
    let gate = backend.hold();
    let mut service = Service::start(&backend.pool(", drain_timeout_ms: 600000")).await;
    let (proxy, admin) = (service.proxy, service.admin);
    let asked = tokio::spawn(async move { http::get(proxy, "/home").await });
    service.until_open(1).await;
    let removed = tokio::spawn(async move {
        let path = "/api/v1/pools/default/replicas/S1";
        http::send(admin, "DELETE", path, &[], "").await
    });
    let drains = async || (facts(admin).await["S1"][4] == "draining").then_some(());
    until("it drains", drains).await.unwrap();

    let upgrade = tokio::spawn(async move {
        let body = r#"{"timeout_s":20}"#;
        http::send(admin, "POST", "/api/v1/upgrade", &[], body).await
    });
    // Once the new process is prepared, no change is begun that would have to be waited for, too.
    let refused = async || {
        let path = "/api/v1/pools/default/replicas";
        let answer = http::send(admin, "POST", path, &[], "").await;
        (answer.status == 503).then(|| answer.json()["error"]["message"].take())
    };
    let message = until("changes are refused", refused).await.unwrap();
    assert_eq!(message, "the balancer is being upgraded; try again");
    let answer = upgrade.await.unwrap();
    assert_eq!(answer.status, 409, "{}", answer.body);
    let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
    assert_eq!(message, "a change of pool default is under way; try again once that is done");

    gate.add_permits(1);
    assert_eq!(asked.await.unwrap().status, 200);
    assert_eq!(removed.await.unwrap().status, 200);
    service.upgrade("").await;
    assert_eq!(facts(admin).await.len(), 0, "what was removed stays so");
    service.terminate(service.pid());
    service.until_ended().await;
}

#[tokio::test]
async fn a_signal_ends_the_upgrade_and_the_balancer() {
    let folder = tempfile::tempdir().unwrap();
    let noted = folder.path().join("pid");
    let hangs =
        script(folder.path(), "hangs", &format!("echo $$ > {}; exec sleep 600", noted.display()));
    let service = Service::start("").await;
    let asked = tokio::spawn({
        let (admin, words) = (service.admin, hanging_upgrade(&hangs));
        async move { run(admin, &words).await }
    });
    let hanging = pid_in(&noted).await;
    service.stop().await;
    assert!(!is_alive(hanging), "the new process is ended with it");
    // Whether the answer still comes through is open, as the process ends.
    asked.await.unwrap().fault(1);
}

#[tokio::test]
async fn a_port_that_is_not_this_balancer_s_is_not_taken() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut service = Service::start("").await;
    service.rewrite_config(&format!("\nlisten: {}", taken.local_addr().unwrap()));
    let fault = run(service.admin, "upgrade").await.fault(1);
    assert!(fault.contains("listen: cannot listen on "), "{fault}");
    assert!(fault.contains("the port is in use"), "{fault}");
    service.rewrite_config("");
    service.upgrade("").await;
    service.stop().await;
}
