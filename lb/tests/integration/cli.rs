//! The commands that ask a running balancer: what they print, and their exit codes.

use std::{
    io::Write,
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Output,
};

use serde_json::Value;
use tempfile::NamedTempFile;

use crate::harness::{
    Balancer, DEADLINE, Replica, config_file, kill_9, ringmaster, tls::Authority, until,
};

/// What a command came to.
pub(crate) struct Done {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Done {
    /// Standard output, of a command that must have succeeded.
    #[track_caller]
    pub(crate) fn out(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{}", self.out);
        self.out
    }

    #[track_caller]
    pub(crate) fn json(self) -> Value {
        let out = self.out();
        assert_eq!(out.lines().count(), 1, "{out}");
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error} in {out}"))
    }

    /// The one line on standard error of a command that must have failed so.
    #[track_caller]
    pub(crate) fn fault(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        assert_eq!(self.err.lines().count(), 1, "{}", self.err);
        self.err
    }
}

/// Runs a command, given as its words, against the API at `admin`.
pub(crate) async fn run(admin: SocketAddr, words: &str) -> Done {
    let output = ringmaster()
        .args(words.split_whitespace())
        .env("RINGMASTER_ADMIN", format!("http://{admin}"))
        .output();
    let output = tokio::time::timeout(DEADLINE, output).await.expect(words).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Done { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// The first words of a table's lines, from its header on.
pub(crate) fn column(text: &str) -> Vec<&str> {
    let lines = text.lines().skip_while(|line| !line.starts_with("REPLICA"));
    lines.skip(1).take_while(|line| !line.is_empty()).map(first_word).collect()
}

fn first_word(line: &str) -> &str {
    line.split_whitespace().next().unwrap_or("")
}

/// An address at which nobody listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A file that only its owner can read.
fn secret(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    std::fs::set_permissions(file.path(), PermissionsExt::from_mode(0o600)).unwrap();
    file
}

#[tokio::test]
async fn names_and_numbers_may_be_left_out() {
    let balancer = Balancer::start("").await;
    let at = balancer.admin;
    let out = run(at, "add 2 A").await.out();
    assert_eq!(column(&out), ["Server1", "Server2", "Server3", "A", "Server4"]);
    assert_eq!(column(&run(at, "rm").await.out()).len(), 4);
    assert_eq!(column(&run(at, "rm 2").await.out()).len(), 2);
    assert_eq!(column(&run(at, "add B").await.out()).len(), 3);
    balancer.stop().await;
}

#[tokio::test]
async fn a_plan_is_a_table_of_shares_and_moves() {
    let balancer = Balancer::start("").await;
    for (words, moved) in [
        ("add 1 A --dry-run", "\nA        -       2"),
        ("rm Server1 --dry-run", "\nServer1  33.4 %  -\n"),
        ("rm 3 --dry-run", "\nServer3  33.3 %  -\n"),
        ("restart Server1 --dry-run", "\nServer1  33.4 %  33.4 %\n"),
        ("plan --add 1", "\nServer4  -       2"),
        ("plan --remove Server1,Server2", "\nServer1  Server3  33.4 %\n"),
    ] {
        let out = run(balancer.admin, words).await.out();
        assert!(out.contains(" of the keys move; ") && out.contains(moved), "{words}: {out}");
    }
    balancer.stop().await;
}

#[tokio::test]
async fn json_is_what_the_api_says() {
    let balancer = Balancer::start("").await;
    for (words, path) in [
        ("rep", "/replicas"),
        ("status", "/replicas"),
        ("explain al/ice?", "/explain?key=al%2Fice%3F"),
        ("plan --add 2", "/plan?add=2"),
        ("plan --remove Server1", "/plan?remove=Server1"),
    ] {
        let mut told = run(balancer.admin, &format!("{words} --json")).await.json();
        let mut api = balancer.admin(&format!("/api/v1/pools/default{path}")).await;
        for json in [&mut told, &mut api] {
            let replicas = json["replicas"].as_array_mut();
            replicas.into_iter().flatten().for_each(|replica| replica["uptime_s"] = Value::Null);
        }
        assert_eq!(told, api, "{words}");
    }
    let added = run(balancer.admin, "add --json").await.json();
    assert_eq!(added["replicas"].as_array().unwrap().len(), 4);
    balancer.stop().await;
}

#[tokio::test]
async fn a_key_is_explained() {
    let balancer = Balancer::start("").await;
    let told = balancer.admin("/api/v1/pools/default/explain?key=alice").await;
    let out = run(balancer.admin, "explain alice").await.out();
    let owner = told["replica"].as_str().unwrap();
    let head = format!(
        "alice goes to {owner} (hash)\nhash {}, slot {}\n",
        told["hash"].as_str().unwrap(),
        told["slot"]
    );
    assert!(out.starts_with(&head), "{out}");
    assert!(out.contains(&format!("\n{owner}    taken    owner of the slot\n")), "{out}");
    balancer.stop().await;
}

#[tokio::test]
async fn status_fails_while_a_wanted_replica_does_not_serve() {
    let replica = Replica::start(&[]).await;
    let balancer = Balancer::start_unready(&format!(
        "pools: {{ web: {{ provider: fixed, fixed: {{ S1: '{}', S2: '{}' }} }} }}",
        replica.addr,
        nobody()
    ))
    .await;
    balancer.until_printed("ready in").await;
    let done = run(balancer.admin, "status --pool web").await;
    assert!(done.out.starts_with("pool web: 1 of 2 wanted replicas serve ("), "{}", done.out);
    assert_eq!(column(&done.out), ["S1", "S2"]);
    assert_eq!(done.fault(1), "ringmaster: pool web: 1 of 2 wanted replicas serve\n");
    let out = run(balancer.admin, "rm S2 --pool web").await.out();
    assert_eq!(column(&out), ["S1"]);
    let out = run(balancer.admin, "status --pool web").await.out();
    assert!(out.starts_with("pool web: 1 of 1 wanted replicas serve ("), "{out}");
    let fault = run(balancer.admin, "status").await.fault(1);
    assert_eq!(fault, "ringmaster: no pool is called \"default\"; see /api/v1/pools\n");
    balancer.stop().await;
}

#[tokio::test]
async fn status_shows_the_last_words_of_what_is_down() {
    // Once the program is gone, what is killed stays down.
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("ringmaster");
    std::fs::copy(env!("CARGO_BIN_EXE_ringmaster"), &program).unwrap();
    let balancer = Balancer::start_program(&program, "").await;
    std::fs::remove_file(&program).unwrap();
    kill_9(&balancer.replica("Server2").await.unwrap());
    let done = until("it is down after a second attempt", async || {
        let done = run(balancer.admin, "status").await;
        done.out.contains("\nServer2: cannot start ").then_some(done)
    })
    .await
    .unwrap();
    let line = done.out.lines().find(|line| line.starts_with("Server2  down")).unwrap();
    assert!(line.contains("  in ") && line.contains(" s  cannot start "), "{line}");
    done.fault(1);
    balancer.stop().await;
}

#[tokio::test]
async fn what_the_api_refuses_is_said_in_one_line() {
    let balancer = Balancer::start("").await;
    for (words, code, said) in [
        ("rm S9", 1, "there is no replica S9"),
        ("rm 4", 1, "4 replicas cannot be removed: only 3 exist"),
        ("rm 1 Server1 Server2", 1, "2 names for 1 replicas to remove: at most one name for each"),
        ("restart S9", 1, "no replica is called S9"),
        ("add a/b", 1, "bad name \"a/b\": "),
        ("plan --remove S9", 1, "there is no replica S9"),
        ("rep --pool a/b", 1, "no pool is called \"a/b\""),
        ("add 0", 2, "0 is no change"),
    ] {
        let fault = run(balancer.admin, words).await.fault(code);
        assert!(fault.starts_with(&format!("ringmaster: {said}")), "{words}: {fault}");
    }
    for words in ["plan", "plan --add 1 --remove S1", "plan --add 0", "explain", "restart", "rm -1"]
    {
        assert_eq!(run(balancer.admin, words).await.code, Some(2), "{words}");
    }
    assert_eq!(balancer.replicas().await.len(), 3);
    balancer.stop().await;
}

#[tokio::test]
async fn a_balancer_that_is_not_there_is_said() {
    let nobody = nobody();
    let expected = format!(
        "ringmaster: nobody answers at http://{nobody} (connection refused); is the balancer running? \
         --admin says where\n"
    );
    for words in
        ["rep", "add", "rm S1", "restart S1", "plan --add 1", "explain k", "status", "events"]
    {
        assert_eq!(run(nobody, words).await.fault(1), expected, "{words}");
    }

    // The option goes before the environment.
    let replica = Replica::start(&[]).await;
    let fault = run(nobody, &format!("rep --admin http://{}", replica.addr)).await.fault(1);
    let expected =
        format!("ringmaster: http://{} is not the admin API of a ringmaster", replica.addr);
    assert!(fault.starts_with(&expected), "{fault}");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let fault = run(silent.local_addr().unwrap(), "add --timeout 1").await.fault(1);
    assert!(fault.contains(" did not answer within 1 s; "), "{fault}");
    let bad = run(nobody, "rep --admin https://localhost:1").await;
    assert_eq!(bad.code, Some(2), "{}", bad.err);
}

#[tokio::test]
async fn a_token_opens_the_door() {
    let tokens = secret("admin correct-horse-battery-staple\nread only-to-look-at-things\n");
    let mut balancer = Balancer::start_unready(&format!(
        "admin: {{ listen: 127.0.0.1:0, trust: [192.0.2.0/24], tokens_file: {} }}",
        tokens.path().display()
    ))
    .await;
    balancer.authorize("only-to-look-at-things");
    balancer.until_printed("ready in").await;
    let with = async |words: &str, token: &str| {
        let file = secret(token);
        run(balancer.admin, &format!("{words} --token-file {}", file.path().display())).await
    };
    let hint = "; --token-file says which token to send\n";
    for done in [run(balancer.admin, "rep").await, with("events", "wrong-wrong-wrong-wrong").await]
    {
        let fault = done.fault(1);
        assert!(fault.contains("token") && fault.ends_with(hint), "{fault}");
    }
    with("rep", "only-to-look-at-things\n").await.out();
    with("rep", "\u{feff}only-to-look-at-things\r\n").await.out();
    let fault = with("add", "only-to-look-at-things").await.fault(1);
    assert!(fault.contains("the token's role is read"), "{fault}");
    assert_eq!(column(&with("add", "correct-horse-battery-staple").await.out()).len(), 4);
    let fault = with("rep", "two words").await.fault(2);
    assert!(fault.contains("must hold one token and nothing else"), "{fault}");
    let fault = run(balancer.admin, "rep --token-file /no/such/file").await.fault(2);
    assert!(fault.contains("/no/such/file cannot be read"), "{fault}");
    balancer.stop().await;
}

/// What the doctor says of a configuration; it looks for the balancer where that says.
async fn doctor(config: &Path) -> Output {
    let mut command = ringmaster();
    command.args(["doctor", "-c"]).arg(config).env_remove("RINGMASTER_ADMIN");
    command.output().await.unwrap()
}

#[tokio::test]
async fn a_doctor_finds_a_healthy_balancer_healthy() {
    let balancer = Balancer::start("").await;
    let config = config_file(&format!(
        "listen: {}\nadmin: {{ listen: {} }}",
        balancer.proxy, balancer.admin
    ));
    // No --admin: it asks where the configuration says.
    let output = doctor(config.path()).await;
    let out = String::from_utf8(output.stdout).unwrap();
    for line in [
        format!("ok    configuration: {} is good\n", config.path().display()),
        format!(
            "ok    listen: {} is held by ringmaster (process {})\n",
            balancer.proxy,
            balancer.pid()
        ),
        format!("ok    admin.listen: {} is held by ringmaster (process ", balancer.admin),
        format!("ok    admin API: http://{} answers\n", balancer.admin),
        "ok    pool default: 3 of 3 wanted replicas serve\n".to_owned(),
    ] {
        assert!(out.contains(&line), "{line:?} is not in:\n{out}");
    }
    assert_eq!(output.status.code(), Some(0), "{out}");
    balancer.stop().await;
}

#[tokio::test]
async fn a_doctor_before_the_start_finds_nothing_wrong() {
    let authority = Authority::new();
    let tokens = secret("admin correct-horse-battery-staple\n");
    let (proxy, admin) = (nobody(), nobody());
    let config = |tls: &str| {
        config_file(&format!(
            "{tls}listen: {proxy}\nadmin: {{ listen: {admin}, tokens_file: {} }}",
            tokens.path().display()
        ))
    };
    // The balancer raises the soft limit by itself.
    let doctor = async |file: &NamedTempFile| {
        let script = format!("ulimit -S -n 512; exec \"$0\" doctor -c {}", file.path().display());
        let output = tokio::process::Command::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_ringmaster")])
            .env_remove("RINGMASTER_ADMIN")
            .output()
            .await
            .unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let good = config(&authority.config(""));
    let (code, out) = doctor(&good).await;
    for line in [
        format!("ok    listen: {proxy} is free\n"),
        "ok    tls.listen: 127.0.0.1:0 is free\n".to_owned(),
        format!("ok    admin.listen: {admin} is free\n"),
        "ok    tls.certificates: 1 can be used\n".to_owned(),
        format!("ok    admin.tokens_file: {} can be used\n", tokens.path().display()),
        "ok    open files: at most ".to_owned(),
        format!("note  admin API: no balancer runs at http://{admin}\n"),
    ] {
        assert!(out.contains(&line), "{line:?} is not in:\n{out}");
    }
    assert_eq!(code, Some(0), "{out}");

    // Somebody who names a balancer wants to hear that it does not run.
    let done = run(admin, &format!("doctor -c {}", good.path().display())).await;
    assert!(done.out.contains("FAIL  admin API: nobody answers at "), "{}", done.out);
    assert_eq!(done.code, Some(1));

    // What would keep it from starting is found without it.
    std::fs::set_permissions(tokens.path(), PermissionsExt::from_mode(0o644)).unwrap();
    let missing =
        "tls: { listen: 127.0.0.1:0, certificates: [{ certificate: /none, key: /none }] }\n";
    let (code, out) = doctor(&config(missing)).await;
    assert!(out.contains("FAIL  tls.certificates[0].certificate: /none: cannot be read"), "{out}");
    assert!(out.contains("FAIL  admin.tokens_file: "), "{out}");
    assert_eq!(code, Some(1), "{out}");
}

#[tokio::test]
async fn a_doctor_expects_an_answer_where_a_balancer_holds_the_port() {
    let balancer = Balancer::start("").await;
    // The configuration has another admin port than the balancer that holds the port for clients.
    let config =
        config_file(&format!("listen: {}\nadmin: {{ listen: {} }}", balancer.proxy, nobody()));
    let output = doctor(config.path()).await;
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(out.contains("FAIL  admin API: nobody answers at "), "{out}");
    assert_eq!(output.status.code(), Some(1), "{out}");
    balancer.stop().await;
}

#[tokio::test]
async fn a_doctor_names_each_cause_with_its_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (well, ill) = (Replica::start(&[]).await, nobody());
    let config = config_file(&format!(
        "
        listen: {}
        admin: {{ listen: 127.0.0.1:0 }}
        pools:
          default: {{ provider: fixed, fixed: {{ S1: '{well}', S2: '{ill}' }} }}
          wrong: {{ provider: fixed, fixed: {{ S3: '{well}' }}, heartbeat: {{ path: /nothing }} }}
        routes: [{{ path_prefix: /wrong, pool: wrong }}, {{ pool: default }}]
        ",
        taken.local_addr().unwrap(),
        well = well.addr,
    ));
    let file = config.path().display();
    let limited = format!("ulimit -n 512; exec \"$0\" doctor -c {file} --admin http://{ill}");
    let output = tokio::process::Command::new("sh")
        .args(["-c", &limited, env!("CARGO_BIN_EXE_ringmaster")])
        .output()
        .await
        .unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    let lines = [
        format!("ok    configuration: {file} is good"),
        format!(
            "FAIL  listen: cannot listen on {}: the port is in use by ",
            taken.local_addr().unwrap()
        ),
        "ok    admin.listen: 127.0.0.1:0 is free".to_owned(),
        format!("ok    pool default, S1 at {}: GET /heartbeat answers 200", well.addr),
        format!("FAIL  pool default, S2 at {ill}: cannot connect: "),
        format!("FAIL  pool wrong, S3 at {}: GET /nothing answers 400", well.addr),
        "FAIL  open files: at most 512, and 4096 are needed; ".to_owned(),
        format!("FAIL  admin API: nobody answers at http://{ill} (connection refused); "),
    ];
    for (line, expected) in out.lines().zip(&lines) {
        assert!(line.starts_with(expected), "{line:?} is not {expected:?}…");
    }
    assert_eq!(out.lines().count(), lines.len(), "{out}");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "ringmaster: 5 of 8 checks failed\n");

    let config = config_file("listen: nowhere\nthreads: -1");
    let done = run(ill, &format!("doctor -c {}", config.path().display())).await;
    let faults = done.out.lines().filter(|line| line.starts_with("FAIL  /")).count();
    assert_eq!((done.code, faults), (Some(1), 2), "{}", done.out);
}
