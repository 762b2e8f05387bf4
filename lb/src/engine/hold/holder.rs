//! The identity of this process, and whether another one still runs, as far as that can be told from here.

use std::{
    fs,
    hash::{BuildHasher, RandomState},
};

use nix::{errno::Errno, sys::signal::kill, unistd::Pid};
use procfs::process::{ProcState, Process};

use super::{Holder, Origin};

/// What is known of the holder of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is this balancer, or the process that hands over to it.
    Same,
    Ended,
    Runs,
    /// It runs elsewhere, if it does.
    Unknown,
}

/// This process, as the holder of clusters from now on.
pub(super) fn this_process(origin: &Origin) -> Holder {
    let this = Process::myself().and_then(|it| it.stat());
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    Holder {
        // Chance, from the only source in the standard library.
        session: format!("{:016x}", RandomState::new().hash_one(0)),
        pid: std::process::id(),
        started: this.map(|it| it.starttime).unwrap_or_default(),
        boot: text("/proc/sys/kernel/random/boot_id"),
        pid_namespace: namespace.to_string_lossy().into_owned(),
        container: container_in(&text("/proc/self/mountinfo")),
        host: text("/proc/sys/kernel/hostname"),
        admin: origin.admin.to_string(),
        since: origin.since.clone(),
    }
}

/// The container whose `/proc/self/mountinfo` this is: the engine mounts files of its folder into it.
fn container_in(mounts: &str) -> Option<String> {
    let is_id = |it: &&str| it.len() == 64 && it.bytes().all(|byte| byte.is_ascii_hexdigit());
    let own = mounts.lines().filter(|line| line.contains(" /etc/hostname "));
    let id = own.flat_map(|line| line.split('/')).find(is_id)?;
    Some(id.to_owned())
}

/// What `me` can tell of the holder `other`. `is_running` says it of a process of this machine, `None` if it may not
/// see it.
pub(super) fn judge(
    me: &Holder,
    other: &Holder,
    predecessor: Option<u32>,
    is_running: impl Fn(u32, u64) -> Option<bool>,
) -> Verdict {
    let is_neighbour =
        !me.boot.is_empty() && (&me.boot, &me.pid_namespace) == (&other.boot, &other.pid_namespace);
    if me.session == other.session || (is_neighbour && Some(other.pid) == predecessor) {
        return Verdict::Same;
    }
    if is_neighbour {
        return match is_running(other.pid, other.started) {
            Some(true) => Verdict::Runs,
            Some(false) => Verdict::Ended,
            None => Verdict::Unknown,
        };
    }
    // A container that was started again has lost all of its processes, and has one process 1 at a time.
    let is_restarted = me.container.is_some() && me.container == other.container;
    if is_restarted && (me.pid, other.pid) == (1, 1) {
        return Verdict::Ended;
    }
    Verdict::Unknown
}

/// Whether the process with this id and this start runs; `None` if it cannot be told.
pub(super) fn is_running(pid: u32, started: u64) -> Option<bool> {
    let pid = i32::try_from(pid).ok()?;
    // Also told of processes that /proc hides from this user.
    if kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH) {
        return Some(false);
    }
    let stat = Process::new(pid).and_then(|it| it.stat()).ok()?;
    // A zombie has ended; it is there only until its parent asks.
    let has_ended = matches!(stat.state(), Ok(ProcState::Zombie | ProcState::Dead));
    Some(stat.starttime == started && !has_ended)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::engine::hold) fn holder(pid: u32) -> Holder {
        Holder {
            session: format!("session-{pid}"),
            pid,
            started: 7,
            boot: "boot".to_owned(),
            pid_namespace: "pid:[1]".to_owned(),
            container: None,
            host: "host".to_owned(),
            admin: "127.0.0.1:5001".to_owned(),
            since: "2026-01-01T00:00:00.000Z".to_owned(),
        }
    }

    #[test]
    fn holders_are_judged_by_what_can_be_known_of_them() {
        type Change = fn(&mut Holder);
        let in_container: Change = |it| {
            it.container = Some("c".to_owned());
            it.pid_namespace = format!("pid:[{}]", it.session);
            it.pid = 1;
        };
        let same: Change = |_| {};
        for (what, me, other, runs, expected) in [
            ("a process that runs", same, same, Some(true), Verdict::Runs),
            ("a process that has ended", same, same, Some(false), Verdict::Ended),
            ("a process that may not be seen", same, same, None, Verdict::Unknown),
            ("itself", same, |it| it.session = "session-1".into(), Some(true), Verdict::Same),
            ("after a boot", same, |it| it.boot = "b".into(), Some(false), Verdict::Unknown),
            (
                "another namespace",
                same,
                |it| it.pid_namespace = "pid:[2]".into(),
                Some(false),
                Verdict::Unknown,
            ),
            ("a container started again", in_container, in_container, None, Verdict::Ended),
            ("from a container", in_container, same, Some(false), Verdict::Unknown),
            (
                "another container",
                in_container,
                |it| {
                    it.pid = 1;
                    it.pid_namespace = "pid:[2]".into();
                    it.container = Some("d".into());
                },
                None,
                Verdict::Unknown,
            ),
            ("no /proc", |it| it.boot.clear(), |it| it.boot.clear(), Some(false), Verdict::Unknown),
        ]
            as [(&str, Change, Change, Option<bool>, Verdict); 10]
        {
            let (mut mine, mut theirs) = (holder(1), holder(2));
            me(&mut mine);
            other(&mut theirs);
            assert_eq!(judge(&mine, &theirs, None, |_, _| runs), expected, "{what}");
        }
        assert_eq!(judge(&holder(1), &holder(2), Some(2), |_, _| Some(true)), Verdict::Same);
        assert_eq!(judge(&holder(1), &holder(2), Some(3), |_, _| Some(true)), Verdict::Runs);
    }

    #[test]
    fn a_process_is_known_by_its_start_too() {
        let origin = Origin {
            admin: "127.0.0.1:5001".parse().unwrap(),
            since: String::new(),
            predecessor: None,
            take_over: false,
        };
        let me = this_process(&origin);
        assert_eq!(is_running(me.pid, me.started), Some(true));
        assert_eq!(is_running(me.pid, me.started + 1), Some(false));
        assert_eq!(is_running(i32::MAX as u32, 0), Some(false));
        assert!(!me.boot.is_empty() && me.pid_namespace.starts_with("pid:["), "{me:?}");
    }

    #[test]
    fn a_container_is_known_by_what_its_engine_mounts() {
        let id = "0123456789abcdef".repeat(4);
        let line = format!(
            "612 598 8:1 /var/lib/docker/containers/{id}/hostname /etc/hostname rw,relatime - ext4 /dev/sda1 rw"
        );
        assert_eq!(container_in(&format!("1 2 0:1 / / rw\n{line}")), Some(id.clone()));
        let elsewhere = line.replace(" /etc/hostname ", " /mnt ");
        for mounts in ["", "1 2 0:1 / / rw", &*elsewhere, "1 2 8:1 /x /etc/hostname rw"] {
            assert_eq!(container_in(mounts), None, "{mounts}");
        }
    }
}
